/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TOOL_H
#define KUF_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;

#define PAGE_SHIFT	12
#define PAGE_SIZE	4096ul

#define BIT(n)		(1u << (n))
#define BIT_ULL(n)	(1ull << (n))

/* Once, whoever else writes there. */
#define READ_ONCE(x)	__atomic_load_n(&(x), __ATOMIC_RELAXED)

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* @align: a power of two. */
static inline u64 align_down(u64 x, u64 align)
{
	return x & ~(align - 1);
}

static inline u64 align_up(u64 x, u64 align)
{
	return align_down(x + align - 1, align);
}

/* What kuf ends with; the README explains them to users. */
enum kuf_exit_code {
	KUF_EXIT_OK = 0,	/* the guest reset itself */
	KUF_EXIT_FAILED = 1,	/* something that kuf needs could not be had */
	KUF_EXIT_USAGE = 2,	/* the command line */
	KUF_EXIT_CRASH = 3,	/* the guest crashed: triple fault */
	KUF_EXIT_PAGER = 4,	/* the pager failed, or served a page not just once */
	KUF_EXIT_TIMEOUT = 5,	/* --timeout passed */
	KUF_EXIT_KVM = 6,	/* KVM could not go on with the guest */
	KUF_EXIT_LOST = 7,	/* it moved, and the other host was lost before all was there */
	KUF_EXIT_CUT = 8,	/* it was given up, and can be recovered */
	KUF_EXIT_GUEST = 64,	/* 64 to 127: what the guest wrote to the exit port */
};

/*
 * Prints "kuf: error: ..." to stderr, with the name of the error if @err is not
 * 0, and returns @err, which is negative, or -EINVAL.
 */
__attribute__((format(printf, 2, 3)))
int kuf_error(int err, const char *fmt, ...);

/* Prints "kuf: ..." to stderr. */
__attribute__((format(printf, 1, 2)))
void kuf_say(const char *fmt, ...);

int cmd_run(int argc, char **argv);
int cmd_save(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_recv(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_pager(int argc, char **argv);
int cmd_poison(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_plot(int argc, char **argv);

#endif /* KUF_TOOL_H */
