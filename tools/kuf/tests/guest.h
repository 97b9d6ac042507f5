/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_GUEST_H
#define KUF_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Where the test VM's initramfs has what the tests need. */
#define TEST_KUF	"/tests/bin/kuf"
#define TEST_INIT	"/tests/bin/kuf-guest-init"
#define TEST_KERNEL	"/tests/kuf/bzImage"
/* Made by test_make_initrd(). */
#define TEST_INITRD	"/tmp/kuf-initrd"
/* By test_make_disk(). */
#define TEST_DISK	"/tmp/kuf-disk"

/* Exits when it cannot. */
void test_make_initrd(void);
void test_make_disk(void);
/* Holes stay holes. */
bool test_copy(const char *from, const char *to);
/* Is the disk as the guest leaves it? */
bool test_disk_written(void);

/*
 * A bzImage of a few bytes of 32-bit code, which begins at 1 MiB, without a stack
 * and without interrupts.  It has no 64-bit entry.
 */
void test_make_tiny(const char *path, const void *code, size_t size);

/* The command line of a guest kernel that is up soon. */
const char *test_cmdline(unsigned int cpus);

/* A run of kuf. */
struct test_run {
	pid_t pid;
	int out, err;		/* pipes */
	char console[64 << 10];	/* its stdout: the serial console */
	char said[16 << 10];	/* its stderr */
	int status;		/* as by waitpid() */
	bool killed;		/* it took too long */
	double seconds;
};

void test_start(struct test_run *run, char *const argv[]);
/*
 * Until "guest: up" or whatever else is in its console; false: it ended before, or the guest
 * said that something failed.
 */
bool test_wait_for(struct test_run *run, const char *text);
/* The same for what kuf itself says. */
bool test_wait_said(struct test_run *run, const char *text);
/* Without waiting; kill() also finds a process that has ended. */
bool test_has_ended(const struct test_run *run);
/* Until its end. */
void test_finish(struct test_run *run);
/* Both, of kuf with these arguments, up to 14 and NULL. */
void test_execute(struct test_run *run, const char *const *args);
/* All it printed, as diagnostics. */
void test_show(const struct test_run *run);

/* Where guest/poison.c has its page of that name, as it said on @console. */
bool test_poison_page(const char *console, const char *name, char *gpa, size_t size);

/* A number after @before in what kuf said, -1 if there is none. */
long long test_number(const struct test_run *run, const char *before);

/* KTAP; @why is printed when it is not ok. */
void ktap_plan(unsigned int nr);
__attribute__((format(printf, 2, 3)))
void ktap_result(bool ok, const char *fmt, ...);
__attribute__((format(printf, 2, 3)))
void ktap_skip(const char *why, const char *fmt, ...);
/* What main() returns. */
int ktap_end(void);
#define KTAP_ALL_SKIPPED	4

#endif /* KUF_TESTS_GUEST_H */
