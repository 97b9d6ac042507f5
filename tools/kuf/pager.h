/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PAGER_H
#define KUF_PAGER_H

#include <kuf/kuf.h>
#include <pthread.h>

#include "pager_config.h"
#include "report.h"
#include "server.h"

/*
 * Guest memory that is absent at first: a libkuf context for all of it, and who gives
 * it content.
 *
 * Threads.  The one that makes the machine calls everything here, apart from
 * pager_access() and the like, which any thread may call until pager_stop(),
 * and pager_report(), which any thread may call until pager_release().  What serves
 * pages (server.h) is one thread, here or in the other process.
 */

struct vm;
struct engine_uffd;
struct poison_list;

/* In memory that the VMM shares with the pager's process: changed atomically. */
struct pager_shared {
	struct kuf_stats stats;	/* of the process that serves, if it is another one */
	u64 nr_pages;		/* set before anybody serves */
	u64 filled_before, demanded_before;	/* PAGER_UNIX: by others, who are gone */
	u64 never;		/* poisoned before they came */
	u64 working_set_ns, populated_ns;
	u64 nr_recorded;
	struct kuf_trace_entry record[];	/* in order of first need */
};

struct pager_waiter;

struct pager {
	struct pager_config config;
	struct vm *vm;
	struct kuf *k;		/* NULL: there is none, or another engine */
	struct engine_uffd *uffd;	/* that one, engine_uffd.h */
	/*
	 * Where poison is kept: k, or else a context of its own in which no page is
	 * absent.  NULL: KVM has no poison.
	 */
	struct kuf *poison;
	const struct poison_list *poisoned;	/* from the beginning on, or NULL */
	int uffd_fd;		/* the userfault fd, with PAGER_THREAD, else -1 */
	int proc_mem_fd;	/* with anonymous memory and another process, else -1 */
	u64 nr_pages;
	u64 armed_ns;
	bool stopped;
	struct server server;

	struct pager_shared *shared;
	size_t shared_size;
	int shared_fd;		/* PAGER_UNIX: sealed; else -1 */
	struct remote *remote;	/* PAGER_UNIX */

	/* Who serves: how far the recording that is replayed is in. */
	u64 replayed;

	/* Threads that wait for a page. */
	pthread_mutex_t lock;
	struct pager_waiter *waiters;
	bool cancelled;
};

void pager_init(struct pager *p);
/* PAGER_PROCESS only: makes the process.  KVM's files are not for others: before that. */
int pager_fork(struct pager *p, const struct pager_config *config);
/*
 * The VM has its memory; with PAGER_UFFD in memslots already, otherwise this makes
 * them, or arms those that there are.  All pages are absent then.
 */
int pager_start(struct pager *p, struct vm *vm, const struct pager_config *config);

/*
 * Returns when all pages of a range of memory are present; -ECANCELED: the VM ends;
 * -EHWPOISON: one of them is poisoned.
 */
int pager_access(struct pager *p, u64 gpa, u64 len, bool write);
/* For reading, without waiting.  -EAGAIN: one of them is absent, and was asked for. */
int pager_try_access(struct pager *p, u64 gpa, u64 len);
/* Without waiting: is the page at @gpa there, or would a look at it bring it? */
bool pager_is_present(struct pager *p, u64 gpa);
/*
 * KVM_RUN failed with @error.  0: it is to be called again.  -ENOENT: this is not the
 * pager's business.  -EHWPOISON, without a message: the guest touched poison.  Other
 * errors were told, and the VM ends.
 */
int pager_vcpu_exit(struct pager *p, const struct kvm_run *run, int error);

/* Nobody waits for pages any more: the VM is stopped. */
void pager_cancel(struct pager *p);
/* After that, with vCPUs at rest: nor do others, for a page that may not come any more. */
void pager_let_go(struct pager *p);
/*
 * With vCPUs and devices at rest: ends serving, says what it came to, and checks that
 * pages that are present were filled, just once, and no others are.  -EIO if not.  Also
 * for one that was never started.
 */
int pager_stop(struct pager *p);
/* What was needed first, for a later run: if that was wished for. */
int pager_write_recording(struct pager *p);
void pager_release(struct pager *p);

/* pager.c, for pager_poison.c: memslots as regions of @k. */
int pager_add_regions(struct pager *p, struct kuf *k, u32 flags);

/* pager_poison.c */

/* Those that KVM offers for this VM, of what is needed for poison. */
u64 pager_poison_features(u64 offered);
/* @k: who else keeps account of pages, or NULL.  Poisons what is so from the beginning on. */
int pager_poison_start(struct pager *p, struct kuf *k);
/*
 * Any thread until pager_stop(): whole pages, in one piece of memory; -errno without a
 * message.  -EOPNOTSUPP: KVM has no poison.
 */
int pager_poison(struct pager *p, u64 gpa, u64 len);
int pager_unpoison(struct pager *p, u64 gpa, u64 len);
/* The next poisoned range from @gpa on; -ENOENT: no more. */
int pager_next_poisoned(struct pager *p, u64 *gpa, u64 *len);

/* pager_report.c */
void pager_report(struct pager *p, struct kuf_report *report);
/* The one at the end: prints it, and returns -EIO if a page is wrong. */
int pager_final_report(struct pager *p);

/* Numbers are added atomically; @from may be changing. */
void pager_add_stats(struct kuf_stats *to, const struct kuf_stats *from);
u64 pager_count_present(struct pager *p);

size_t pager_shared_size(bool record);

/* server.c: called by who serves, once and after each round. */
int pager_set_policy(struct pager *p, struct kuf *k);
void pager_note_progress(struct pager *p, struct kuf *k);
/* pager_poison.c: after pages that will not come any more. */
void pager_note_poison(struct pager *p);
/* When the last page that could come is here. */
void pager_note_populated(struct pager *p);
/* Stores @now into *when unless there is something. */
void pager_note_time(u64 *when);
u64 pager_now(void);

#endif /* KUF_PAGER_H */
