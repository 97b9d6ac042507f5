/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One guest, paged in on demand in one way: what userfault_perf_test runs for
 * each cell of its matrix.
 */
#ifndef SELFTEST_KVM_USERFAULT_PERF_H
#define SELFTEST_KVM_USERFAULT_PERF_H

#include <pthread.h>

#include "kvm_util.h"
#include "userfault_hist.h"
#include "userfault_util.h"

#define PERF_MAX_VCPUS	16

/*
 * The part that the guest sees.
 */
enum perf_stage {
	PERF_TOUCH,			/* about to touch the first page */
	PERF_CHECK,			/* first pass done */
	PERF_STAGES,
};

/* One vCPU's state; the host reads it while the guest runs. */
struct perf_vcpu {
	u64 touched;
	u64 wrong[PERF_STAGES];		/* pages, in the first and the second pass */
	/* The first wrong word that this vCPU saw. */
	u64 page, word, expected, found;
} __aligned(128);

struct perf_guest {
	gva_t mem;
	gva_t log;			/* u64 per page: TSC cycles */
	u64 first_gfn;
	u64 npages;
	u64 nr_vcpus;
	u64 generation;
	u64 seed;
	u64 sequential;
	struct perf_vcpu vcpu[PERF_MAX_VCPUS];
};

/* The guest has its own copy of this, at the same (virtual) address. */
extern struct perf_guest perf_guest;
void perf_guest_code(u64 id);

/*
 * The host's part.
 */
enum perf_mode {
	/* All pages are there beforehand, KVM only has to map them. */
	PERF_PREFILLED,
	/*
	 * The same, but filled through another mapping: KVM finds nothing in the
	 * host's page table and has the host fault each page in.
	 */
	PERF_PREFILLED_ALIAS,
	/* userfaultfd MISSING; a handler thread resolves by UFFDIO_COPY. */
	PERF_UFFD,
	/*
	 * The same userfaultfd, but KVM userfault says which page it is, and
	 * the vCPU's own thread resolves it by UFFDIO_COPY.
	 */
	PERF_UFFD_KUF,
	/* KVM userfault alone; the vCPU's thread copies the page in. */
	PERF_KUF,
	/*
	 * The vCPU waits, and another thread learns of the page from the
	 * userfault fd.
	 */
	PERF_KUF_FD,
	PERF_MODES,
};

/* Each is a way to hand the guest a wrong page; each must fail the test. */
enum perf_break {
	PERF_BREAK_NOTHING,
	PERF_BREAK_FLIP,		/* one bit */
	PERF_BREAK_ZERO,		/* a page of zeroes */
	PERF_BREAK_SWAP,		/* two pages for each other */
	PERF_BREAK_STALE,		/* the generation before */
	PERF_BREAKS,
};

struct perf_cell {
	/* What to do. */
	enum perf_mode mode;
	enum userfault_backing backing;
	u32 nr_vcpus;
	u64 npages;
	u64 generation;
	u64 seed;
	bool sequential;
	enum perf_break broken;

	/* What came out. */
	bool unsupported;		/* not with this memory */
	u64 ns;				/* first access up to the last one's end */
	u64 exits;			/* userfault exits */
	u64 uffd_events;
	u64 wrong;			/* pages, seen by the guest or the host */
	struct userfault_hist hist;

	/* While it runs. */
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[PERF_MAX_VCPUS];
	struct userfault_slot *slot, *log;
	struct perf_guest *guest;	/* as the guest sees it */
	u8 *image;			/* where the pages come from */
	struct uffd_desc *uffd;
	int fd;				/* the userfault fd, or -1 */
	bool stop_handler;
	pthread_barrier_t start, touched;
	u32 running;
	u64 start_ns[PERF_MAX_VCPUS], end_ns[PERF_MAX_VCPUS];
	u64 vcpu_exits[PERF_MAX_VCPUS];
};

/* Prints progress and wrong pages; asserts only if it cannot go on. */
void perf_run_cell(struct perf_cell *c);

#endif /* SELFTEST_KVM_USERFAULT_PERF_H */
