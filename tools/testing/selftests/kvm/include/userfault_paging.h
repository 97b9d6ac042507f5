/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest whose vCPUs check random pages of one memslot, again and again, while
 * a server fills them and a pager takes them away with a new content.
 *
 * The content of a page is f(gfn, generation), and the guest knows exactly which
 * generations a word that it reads may be of.  A page's generation is even; it
 * is odd while the pager has the page, from before its bit is set until after
 * its content was destroyed.  So the guest may see the generation that was there
 * before it read the word, one that came until after it, and nothing else: no
 * zeroes, no half of a page, nothing that was paged out before.
 */
#ifndef SELFTEST_KVM_USERFAULT_PAGING_H
#define SELFTEST_KVM_USERFAULT_PAGING_H

#include <pthread.h>

#include "userfault_fd.h"

#define USERFAULT_PAGING_GPA		0xc0000000ul
#define USERFAULT_PAGING_VCPUS		4
#define USERFAULT_PAGING_PAGES		512

/* What a vCPU found that it must not find. */
struct userfault_paging_bad {
	u64 count;
	u64 zeroes;			/* of these, words that were zero */
	/* The first of them. */
	u64 page, index, word, generation;
};

/* Shared by the guest, the VMM, and the server, which may be another process. */
struct userfault_paging_control {
	u32 stop;
	u32 reads_only;
	u64 npages;
	u64 gfn;			/* of the first page */
	u64 checked[USERFAULT_PAGING_VCPUS];
	struct userfault_paging_bad bad[USERFAULT_PAGING_VCPUS];
	u32 generation[USERFAULT_PAGING_PAGES];
	/* Counted by the server, and set while it calls WAKE for being killed. */
	u32 served;
	u32 waking;
};

struct userfault_paging {
	struct kvm_vm *vm;
	int nr_vcpus;
	struct kvm_vcpu *vcpus[USERFAULT_PAGING_VCPUS];
	struct userfault_slot *s;
	struct userfault_slot *control_slot;
	struct userfault_paging_control *c;

	/*
	 * KVM_RUN returned something else than a ucall or EINTR: deal with it,
	 * or assert.  NULL: it must not happen.
	 */
	void (*on_exit)(struct userfault_paging *p, int id, int ret);
	void *data;

	pthread_t threads[USERFAULT_PAGING_VCPUS];
	/* Grows when KVM_RUN is to be entered anew; what a vCPU entered with. */
	u64 epoch;
	u64 entered[USERFAULT_PAGING_VCPUS];

	pthread_t pager;
	bool pager_stop;
	unsigned int pager_us;		/* between two pages */
	u64 paged_out;
	/* NULL: RESCAN, which is enough for KVM userfault. */
	void (*take_away)(struct userfault_paging *p, u64 page);
};

/* With KVM_USERFAULT_FEATURE_FD and RESCAN on; @flags are those of the memslot. */
void userfault_paging_create(struct userfault_paging *p, int nr_vcpus, u64 npages,
			     enum userfault_backing backing, u32 flags);
void userfault_paging_start(struct userfault_paging *p);
/* Lets the guest come to its end, for which every page has to be served. */
void userfault_paging_stop(struct userfault_paging *p);
void userfault_paging_destroy(struct userfault_paging *p);

/* Asserts that every vCPU checks so many more pages, in time and without error. */
void userfault_paging_advance(struct userfault_paging *p, u64 pages);
void userfault_paging_assert_right(struct userfault_paging *p);
/* Makes every vCPU leave KVM_RUN and enter it again. */
void userfault_paging_reenter(struct userfault_paging *p);

/* Take a page away, unless it is absent; true if that was done. */
bool userfault_paging_page_out(struct userfault_paging *p, u64 page);
/* The same all the time, in a thread. */
void userfault_pager_start(struct userfault_paging *p, unsigned int us);
void userfault_pager_stop(struct userfault_paging *p);

/* A small generator for tests; its state is *@x and not 0. */
static __always_inline u64 userfault_random(u64 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

#endif /* SELFTEST_KVM_USERFAULT_PAGING_H */
