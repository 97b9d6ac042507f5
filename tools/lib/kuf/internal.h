/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of libkuf share.
 */
#ifndef KUF_INTERNAL_H
#define KUF_INTERNAL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All else is hidden. */
#pragma GCC visibility push(default)
#include <kuf/kuf.h>
#pragma GCC visibility pop

#include "compat.h"
#include "page.h"
#include "set.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "KVM's bitmap in words of 64 bits");

#define KUFI_MAX_DEPTH		256	/* pages fetched ahead at a time */
#define KUFI_MAX_RUN		16	/* pages in one request that is not urgent */
#define KUFI_NR_EVENTS		64	/* read at once */
#define KUFI_NR_PENDING		256	/* events whose latency is measured */
#define KUFI_MAX_PEERS		254
#define KUFI_TAKE_CHUNK		256	/* pages taken away with one RESCAN */

/* One memslot, and what is known of its pages.  The latter is in shared memory. */
struct kufi_region {
	struct kuf_region r;
	bool used;
	bool armed;
	bool imported;		/* hva, unless PROC_MEM, and backing_fd are ours */
	uint32_t id;
	int state_fd;
	int backing_fd;		/* what goes to other processes, or -1 */
	uint64_t backing_offset;
	uint64_t nr_pages;
	void *state;		/* bitmap, words, set */
	size_t state_size;
	uint64_t *bitmap;
	uint32_t *words;
	struct kufi_set need;	/* pages that whoever serves has to look at */
};

struct kufi_pending {
	uint64_t time_ns;
	uint64_t gpa;
	uint32_t as_id;
};

struct kufi_ahead {
	struct kuf_policy policy;
	uint64_t start_ns;
	bool restart;
	bool done;
	uint64_t next;		/* in the recording */
	uint64_t gpa;		/* eager: where it is */
	uint32_t as_id;
	unsigned int nr_out;
	uint32_t *out[KUFI_MAX_DEPTH];	/* words of what is outstanding */
};

struct kuf {
	int vm_fd;
	int uffd;		/* the userfault fd, borrowed */
	bool uffd_end;
	int bell;		/* eventfd: somebody needs a page */
	unsigned int peer;	/* this context's number */
	unsigned int nr_peers;	/* given out by kuf_export() */
	uint64_t free_peers[(KUFI_MAX_PEERS + 64) / 64];	/* of these: dead, atomic */
	bool imported;
	uint64_t features;
	uint64_t page_size;
	unsigned int page_shift;
	int64_t claim_timeout_ns;

	struct kuf_source_ops ops;
	void *source;
	bool source_full;	/* said EAGAIN in this round of kuf_service() */
	struct kufi_ahead ahead;

	struct kufi_region regions[KUF_MAX_REGIONS];

	atomic_flag serving;
	struct kuf_stats stats;	/* changed atomically */
	struct kufi_pending pending[KUFI_NR_PENDING];	/* kuf_service()'s */
	struct kvm_userfault_event events[KUFI_NR_EVENTS];
};

/* util.c */

/* The caller's structure, which may be older or newer than ours. */
int kufi_copy_in(void *to, size_t size, const void *from);
void kufi_copy_out(void *to, const void *from);

uint64_t kufi_now(void);
/* When a wait ends; ~0: never. */
uint64_t kufi_deadline(int64_t timeout_ns);

/* ioctl(), but -errno; what tests put in its place sees all that goes to KVM. */
extern int (*kufi_ioctl)(int fd, unsigned long request, void *arg);

static inline void kufi_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

#define KUFI_COUNT(k, name, n)	kufi_count(&(k)->stats.name, (n))

/* query.c */
void kufi_latency(struct kuf *k, uint64_t ns);
/* An exit or event with KVM_MEMORY_EXIT_FLAG_*. */
void kufi_count_fault(struct kuf *k, uint64_t flags);

/* trace.c */
/* To notice damage, not malice: everything is checked besides. */
uint64_t kufi_checksum(const void *bytes, size_t size);

/* context.c */
/* Without eventfd or VM. */
int kufi_alloc(struct kuf **out);

/* arm.c */
/* Not for memslots of another process, nor for those that KVM does not look at. */
int kufi_rescan(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr);

/* region.c */
struct kufi_region *kufi_region_find(struct kuf *k, uint32_t as_id, uint64_t gpa);
/* The one that @gpa is in, or else the next one above it. */
struct kufi_region *kufi_region_next(struct kuf *k, uint32_t as_id, uint64_t gpa);
/* A whole range within one region: *first is its first page, *nr how many. */
int kufi_region_range(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len,
		      struct kufi_region **region, uint64_t *first, uint64_t *nr);
/* Is this a usable place for a region that is given?  As kuf_region_add(). */
int kufi_region_check(struct kuf *k, const struct kuf_region *r);
/* Takes over an open file of kufi_state_size() bytes; the rest of *region is set. */
int kufi_region_map(struct kuf *k, struct kufi_region *region, int state_fd);
void kufi_region_unmap(struct kufi_region *region);
/* 0: the region is too large for this machine. */
size_t kufi_state_size(const struct kuf *k, uint64_t len);

static inline uint64_t kufi_page_gpa(const struct kuf *k, const struct kufi_region *region,
				     uint64_t page)
{
	return region->r.gpa + (page << k->page_shift);
}

static inline bool kufi_bit(const struct kufi_region *region, uint64_t page)
{
	return __atomic_load_n(&region->bitmap[page / 64], __ATOMIC_SEQ_CST) >> page % 64 & 1;
}

static inline void kufi_bit_set(struct kufi_region *region, uint64_t page)
{
	__atomic_fetch_or(&region->bitmap[page / 64], 1ull << page % 64, __ATOMIC_SEQ_CST);
}

/* After the content was written: KVM's reader of the bit sees it. */
static inline void kufi_bit_clear(struct kufi_region *region, uint64_t page)
{
	__atomic_fetch_and(&region->bitmap[page / 64], ~(1ull << page % 64), __ATOMIC_RELEASE);
}

/* wake.c */

/* Pages whose waiters in KVM are woken with one ioctl. */
struct kufi_wake {
	struct kuf *k;
	struct kufi_region *region;
	uint64_t first, nr;
};

/* A page's word changed from @old, and some may wait for that. */
void kufi_wake_page(struct kufi_wake *wake, uint64_t page, uint32_t old);
void kufi_wake_flush(struct kufi_wake *wake);
/* Whoever serves has to look at the page. */
void kufi_need(struct kuf *k, struct kufi_region *region, uint64_t page);
void kufi_ring(struct kuf *k);
int kufi_futex_wait(uint32_t *word, uint32_t value, uint64_t deadline);
void kufi_futex_wake(uint32_t *word);

/* fill.c */

enum kufi_how {
	KUFI_COPY,		/* from what, which is its content */
	KUFI_ZERO,
	KUFI_FETCH,		/* from the source */
	KUFI_REPLY,		/* as COPY, and it is the source's */
	KUFI_REPLY_ZERO,	/* as ZERO, and the source says so */
};

/*
 * Claims, fills and settles one page.  *filled: it was absent, and is present now.
 * Pages that are not to be filled are no error.
 */
int kufi_fill_page(struct kufi_wake *wake, uint64_t page, enum kufi_how how,
		   const void *content, bool *filled);
int kufi_punch(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr);

/* wait.c */
/* Until nobody has a claim; ETIMEDOUT. */
int kufi_wait_claim(uint32_t *word, uint64_t deadline);

/* need.c */

/*
 * Somebody needs a page: fills it here if that can be done (@serve, or if it has no
 * content), or else requests it.  0: it is present, or was.  EAGAIN: wait for it.
 */
int kufi_need_page(struct kuf *k, struct kufi_region *region, uint64_t page, bool serve);

/* ask.c */
void kufi_record(struct kuf *k, const struct kufi_region *region, uint64_t page);
/* Asks the source; EAGAIN: later. */
int kufi_ask(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr,
	     uint32_t flags);
/* Requests what the policy says, up to @budget pages; *used: how many. */
int kufi_ahead_step(struct kuf *k, uint64_t budget, uint64_t *used);
/* Would a step find something? */
bool kufi_ahead_work(struct kuf *k);
/* What had been asked for may be asked for again. */
void kufi_ahead_restart(struct kuf *k);

#endif /* KUF_INTERNAL_H */
