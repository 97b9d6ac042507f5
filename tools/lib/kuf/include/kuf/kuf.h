/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KUF_KUF_H
#define KUF_KUF_H

/*
 * libkuf: what a VMM links to keep guest memory absent until somebody needs it,
 * on top of KVM userfault (<linux/kvm_userfault.h>).
 *
 * Units.  Addresses and lengths are bytes, guest physical addresses unless they
 * say otherwise.  Times are nanoseconds of CLOCK_MONOTONIC; a timeout of 0 does
 * not wait, a negative one waits for ever.
 *
 * Errors.  A function returns 0 or -errno, never anything else.  What it has to
 * say besides goes to a structure of the caller's.  After an error nothing has
 * changed, unless the function says otherwise.
 *
 * Structures belong to the caller.  Their first member is their size: set it to
 * sizeof() and everything that you do not use to 0.  The library takes smaller
 * ones of older programs, and larger ones whose unknown rest is 0 (else E2BIG).
 *
 * File descriptors are borrowed: they are neither closed nor duplicated unless a
 * function says so, and have to stay open as long as the context uses them.
 *
 * The library has no threads, handles no signals, prints nothing, ends no process
 * and does not run vCPUs.  It allocates in kuf_create(), kuf_import(),
 * kuf_region_add() and kuf_file_source_create(), nowhere else.
 *
 * Threads.  Any number of threads may use a context at a time, with these
 * exceptions: kuf_create(), kuf_import(), kuf_destroy(), kuf_set_source(),
 * kuf_set_policy() and kuf_set_fd() want no other user of that context, neither
 * does kuf_region_remove().  kuf_region_add(), kuf_arm(), kuf_disarm() and
 * kuf_export() want no other one of themselves.  Of kuf_service() one runs at a
 * time, a second one fails with EBUSY.
 *
 * Ordering.  When a page is reported as present (kuf_access(), kuf_wait(),
 * KUF_RUN_AGAIN) the caller sees all of its content.  The content is complete
 * before the page's bit is cleared, with release semantics, and the bit is clear
 * before anybody is woken.
 *
 * Pages.  One lock-free word a page, in shared memory, says what the page is (enum
 * kuf_state) and who works on it.  A page is filled by whoever claims it, once; all
 * others find it taken.  Documentation/virt/kvm/libkuf.rst has the transitions.
 */

#include <stddef.h>
#include <stdint.h>
#include <poll.h>

#include <kuf/source.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KUF_VERSION_MAJOR	0
#define KUF_VERSION_MINOR	1
#define KUF_VERSION		(KUF_VERSION_MAJOR << 16 | KUF_VERSION_MINOR)

/* The KUF_VERSION of the library that is linked. */
unsigned int kuf_version(void);

/* A context: the memory of one VM, as one process sees it. */
struct kuf;
struct kvm_run;

#define KUF_MAX_REGIONS		64
#define KUF_LATENCY_BUCKETS	24

/* What a page is.  The numbers are part of the shared layout. */
enum kuf_state {
	KUF_ABSENT	= 0,	/* its content is with the source */
	KUF_REQUESTED	= 1,	/* the same, and somebody asked for it */
	KUF_FILLING	= 2,	/* claimed by somebody who writes its content */
	KUF_PRESENT	= 3,
	KUF_TAKING	= 4,	/* claimed by somebody who takes it away */
	KUF_DISCARDED	= 5,	/* taken away; zeroes when it is needed again */
	KUF_POISONED	= 6,	/* content lost */
};

#define KUF_NR_STATES		7
#define KUF_MASK(state)		(1U << (state))
/* All states in which the guest cannot use the page, but poison. */
#define KUF_MASK_ABSENT		(KUF_MASK(KUF_ABSENT) | KUF_MASK(KUF_REQUESTED) | \
				 KUF_MASK(KUF_FILLING) | KUF_MASK(KUF_TAKING) | \
				 KUF_MASK(KUF_DISCARDED))

/* A name for messages; "?" if there is no such state. */
const char *kuf_state_name(unsigned int state);

/*
 * Is it there?
 */

struct kuf_probe {
	size_t size;
	int vm_fd;
	unsigned int pad;
	uint64_t need;		/* KVM_USERFAULT_FEATURE_* that you cannot do without */
	uint64_t have;		/* out: those that this VM can have */
	char *message;		/* out, may be NULL: what is missing, and its fix */
	size_t message_size;
};

/*
 * Asks KVM through the VM's file descriptor, as /dev/kvm promises more than some
 * VMs can keep.  Changes nothing.
 *
 * EBADF	vm_fd is no file descriptor
 * ENOTTY	vm_fd is not a VM's
 * EOPNOTSUPP	something is missing; the message says what, and what to do about it
 */
int kuf_probe(struct kuf_probe *probe);

/*
 * A context.
 */

struct kuf_params {
	size_t size;
	int vm_fd;		/* -1: no VM (what needs one fails with EOPNOTSUPP) */
	unsigned int flags;	/* 0 */
	uint64_t features;	/* KVM_USERFAULT_FEATURE_* to enable on the VM */
	/*
	 * How long kuf_discard() and kuf_poison() wait for somebody who is copying
	 * into the page; 0 stands for one second.
	 */
	int64_t claim_timeout_ns;
};

/*
 * EOPNOTSUPP	a feature is not offered; nothing was enabled
 * ENOMEM, EMFILE, ENFILE
 */
int kuf_create(const struct kuf_params *params, struct kuf **out);
/*
 * Frees the context; memory, memslots and the state of pages stay what they are.
 * Disarm first: the bitmaps go, and without them all pages count as absent.
 */
void kuf_destroy(struct kuf *k);

/*
 * Regions: memslots.
 */

#define KUF_REGION_PRESENT	0x1	/* pages begin as present, not as absent */
#define KUF_REGION_PRIVATE	0x2	/* guest_memfd that cannot be mapped */
#define KUF_REGION_PROC_MEM	0x4	/* fd is this process's /proc/self/mem */

/*
 * Writes content into private memory, which the library cannot reach; @data NULL
 * stands for zeroes.  It runs in the thread that claimed the page, any thread, and
 * has to overwrite all of @len bytes.  Where the platform has no way to give
 * private memory content at run time (TDX, SNP) return -EOPNOTSUPP.
 */
typedef int (*kuf_install_fn)(void *opaque, uint64_t gpa, const void *data, size_t len);

struct kuf_region {
	size_t size;
	uint32_t slot;		/* KVM's memslot, without the address space */
	uint32_t as_id;		/* KVM's address space; x86: 1 is SMM's */
	uint64_t gpa;		/* multiples of the page size */
	uint64_t len;
	void *hva;		/* the memslot's userspace address; NULL if PRIVATE and none */
	int gmem_fd;		/* guest_memfd, or -1 */
	int fd;			/* file behind hva, for discards and for kuf_export(), or -1 */
	uint64_t gmem_offset;
	uint64_t fd_offset;
	uint32_t kvm_flags;	/* KVM_MEM_*, apart from USERFAULT and GUEST_MEMFD */
	uint32_t flags;		/* KUF_REGION_* */
	kuf_install_fn install;	/* PRIVATE only; NULL: installing content is EOPNOTSUPP */
	void *opaque;		/* for install */
	uint32_t id;		/* out: the library's number for it */
	uint32_t pad;
};

/*
 * Allocates the region's bitmap and page words, in shared memory.  All of its pages
 * are absent then (or present).  KVM is not told: see kuf_arm().
 *
 * Give gmem_fd for guest_memfd, mapped (hva is its mapping) or not (PRIVATE).  For
 * a memfd or another file give fd.  With neither the memory is private to this
 * process: it works, but no other process can serve it, unless fd is an open
 * /proc/self/mem, fd_offset is hva, and PROC_MEM says so: then other processes write
 * their content there, with pwrite().  Whoever has that file can write all of this
 * process's memory, not the guest's alone.
 *
 * EINVAL	not aligned, empty, wraps around, contradicting members
 * EEXIST	overlaps a region of the same address space
 * ENOSPC	KUF_MAX_REGIONS
 * ENOMEM, EMFILE, ENFILE
 */
int kuf_region_add(struct kuf *k, struct kuf_region *region);
/* EBUSY while armed, ENOENT. */
int kuf_region_remove(struct kuf *k, uint32_t id);

/*
 * Tells KVM, by KVM_SET_USER_MEMORY_REGION2: creates the memslot, or switches
 * userfault on if it exists.  From then on the guest meets absent pages.
 *
 * EOPNOTSUPP	no VM in this context
 * ENOENT	no such region
 * and what the ioctl says
 */
int kuf_arm(struct kuf *k, uint32_t id);

#define KUF_DISARM_FORCE	0x1	/* even if pages are missing */

/*
 * Switches userfault off; the memslot stays.  EBUSY if the guest could then see a
 * page that has no content (kuf_next_absent(), kuf_next_poisoned() name them).
 */
int kuf_disarm(struct kuf *k, uint32_t id, unsigned int flags);

/*
 * vCPUs.
 */

enum kuf_action {
	KUF_NOT_MINE,		/* the VMM's business */
	KUF_RUN_AGAIN,		/* KVM_RUN */
	KUF_WAIT,		/* kuf_wait() for gpa, then KVM_RUN */
	KUF_POISON_HIT,		/* the guest touched poison at gpa: inject, or stop */
};

#define KUF_EXIT_SERVE	0x1	/* this thread may fetch the page itself */

struct kuf_exit {
	size_t size;
	uint32_t flags;		/* KUF_EXIT_* */
	int action;		/* out: enum kuf_action */
	uint64_t gpa;		/* out: of the page, unless NOT_MINE */
	uint64_t len;		/* out */
	uint64_t access;	/* out: KVM_MEMORY_EXIT_FLAG_* as KVM gave them */
	uint32_t as_id;		/* out */
	uint32_t pad;
};

/*
 * To be called when KVM_RUN returned.  @error is errno if it returned -1, else 0.
 * An absent page is requested from the source, urgently; the source is asked by
 * whoever runs kuf_service().  A discarded page is zeroed at once.
 *
 * EFAULT	KVM cannot read the region's bitmap; this has to be repaired
 * EIO, ...	what fetching said, with KUF_EXIT_SERVE; the page is absent still
 */
int kuf_vcpu_exit(struct kuf *k, const struct kvm_run *run, int error, struct kuf_exit *ex);

/*
 * KUF_POISON_HIT: the guest is told by a machine check.
 */

#define KUF_INJECT_FORCE	0x1	/* even if an event is lost by it */
#define KUF_INJECT_BROADCAST	0x2	/* by KVM_X86_SET_MCE; all others get SIBLING */
#define KUF_INJECT_SIBLING	0x4	/* another vCPU than the one that touched the page */

struct kuf_inject {
	size_t size;
	int vcpu_fd;
	uint32_t flags;		/* KUF_INJECT_*, one of them at most */
	uint64_t gpa;		/* as struct kuf_exit has them; SIBLING: 0 */
	uint64_t access;
	uint32_t result;	/* out: KVM_USERFAULT_INJECT_*, or: */
#define KUF_INJECT_NONE	0xff	/* SIBLING: it takes no part, as it does not run yet */
	uint32_t pad;
};

/*
 * KVM_USERFAULT_INJECT; needs no context.  For the vCPU's own thread, out of KVM_RUN; to
 * be followed by that.  KVM can do it by itself: KVM_USERFAULT_FEATURE_POISON_INJECT.
 *
 * EOPNOTSUPP: Intel's guests that have no local machine checks expect one on each CPU at
 * the same time.  Then call it once more with BROADCAST, make all other vCPUs leave the
 * guest, and have each one's thread call it with SIBLING.
 *
 * EBUSY	an event is being delivered, which FORCE would lose: run the vCPU and see
 *		if it comes to the page again; FORCE, or unpoison it, if that never ends
 * ENODEV	no bank that reports errors: the guest cannot be told
 */
int kuf_inject(struct kuf_inject *inject);

/* Somebody who waits, so that others can end that.  Zero it before the first use. */
struct kuf_waiter {
	size_t size;
	uint32_t *word;
	uint32_t cancelled;
	uint32_t pad;
};

/*
 * Waits until the page is not absent any more.  @waiter may be NULL.
 *
 * EHWPOISON	it is poisoned
 * ETIMEDOUT
 * EINTR	a signal
 * ECANCELED	kuf_wait_cancel()
 * ENOENT	no region there
 */
int kuf_wait(struct kuf *k, uint32_t as_id, uint64_t gpa, int64_t timeout_ns,
	     struct kuf_waiter *waiter);
/*
 * Ends the wait that @waiter is in, or else its next one.  From any thread of the
 * process; async-signal-safe.
 */
void kuf_wait_cancel(struct kuf_waiter *waiter);

/*
 * Device models.
 */

#define KUF_ACCESS_WRITE	0x1	/* the access writes */
#define KUF_ACCESS_SERVE	0x2	/* this thread may fetch the pages itself */

/*
 * Makes sure that all pages of a range of address space 0 are present, before a
 * device model or the VMM touches it: requests what is missing, urgently and all
 * at once, and waits.  What belongs to no region counts as present.  A page stays
 * present until somebody discards it, so the VMM must not discard under a device.
 *
 * EHWPOISON	a page of the range is poisoned
 * EINVAL	the range wraps around
 * and as kuf_wait(), or what fetching said
 */
int kuf_access(struct kuf *k, uint64_t gpa, uint64_t len, unsigned int flags,
	       int64_t timeout_ns, struct kuf_waiter *waiter);

/*
 * Pages.  Ranges are whole pages and lie within one region.  All of these are
 * idempotent.  EINVAL: not aligned, empty; ENOENT: not within one region.
 */

/*
 * Gives absent pages content: writes all of it, then clears the bits, then wakes.
 * Skipped, and so left as they are: pages that are present, that somebody else is
 * filling or taking away right now, that were discarded (what a source still has of
 * them is out of date) and that are poisoned.  @done, unless NULL, says how many
 * pages were filled, also after an error.
 *
 * EOPNOTSUPP	private memory, and no way to write it
 * and what the region's install function said
 */
int kuf_install(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len,
		const void *data, uint64_t *done);
/*
 * The same with zeroes; discarded pages are filled as well.  Private memory without
 * an install function is zeroed by punching a hole in its file.
 */
int kuf_install_zero(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len,
		     uint64_t *done);
/*
 * Takes pages away: sets the bits, makes KVM unmap them (KVM_USERFAULT_RESCAN) and
 * gives their memory back.  They read as zeroes when they are needed again.
 * Waits for whoever is filling one of them.  Only in the VM's own process, with
 * KVM_USERFAULT_FEATURE_RESCAN, for pages that are present; absent ones are only
 * marked, anywhere.  After an error a beginning of the range may be discarded.
 *
 * EHWPOISON	a page is poisoned
 * EOPNOTSUPP	no RESCAN
 * ETIMEDOUT	somebody claimed a page and does not go on: see kuf_recover()
 */
int kuf_discard(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len);
/*
 * The content is lost.  Whoever waits is told, guests that touch the page exit with
 * KUF_POISON_HIT, accesses fail.  With KVM_USERFAULT_FEATURE_POISON enabled KVM is
 * told as well; without it the page is kept absent, so the guest's accesses still
 * exit, and this returns EOPNOTSUPP though all else is done.  A page that is present
 * has to be unmapped, as for kuf_discard().
 */
int kuf_poison(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len);
/*
 * Poisoned pages become discarded ones, as at a reset of the guest, and get other memory.
 * In a region that is not armed they are present, and zero.
 *
 * ENOSPC	KVM has no room for what is left of a range
 */
int kuf_unpoison(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len);

/* What a page is now; it may be something else when you look. */
int kuf_page_state(struct kuf *k, uint32_t as_id, uint64_t gpa, enum kuf_state *state);

struct kuf_cursor {
	size_t size;
	uint64_t gpa;		/* in: search from here; out: what was found */
	uint64_t len;		/* in: 0 at first; out: found pages that adjoin */
	uint32_t as_id;
	uint32_t mask;		/* KUF_MASK() of the states to look for */
};

/*
 * The next pages that are in one of the states: call it again with the same cursor
 * for what follows.  Sees pages change while it goes.  ENOENT: no more.
 */
int kuf_next(struct kuf *k, struct kuf_cursor *cursor);

static inline int kuf_next_absent(struct kuf *k, struct kuf_cursor *cursor)
{
	cursor->mask = KUF_MASK_ABSENT;
	return kuf_next(k, cursor);
}

static inline int kuf_next_poisoned(struct kuf *k, struct kuf_cursor *cursor)
{
	cursor->mask = KUF_MASK(KUF_POISONED);
	return kuf_next(k, cursor);
}

/*
 * Serving.
 */

/*
 * Creates the VM's userfault file descriptor; @flags: KVM_USERFAULT_FD_*.  It is the
 * caller's.  Give NONBLOCK if it is for kuf_set_fd() here.
 */
int kuf_fd_create(struct kuf *k, uint32_t flags, int *fd);
/*
 * The userfault file descriptor that kuf_service() reads, -1: none.  It must be
 * nonblocking (EINVAL).
 */
int kuf_set_fd(struct kuf *k, int fd);

struct kuf_poll {
	size_t size;
	struct pollfd *fds;
	uint32_t nr;		/* room in fds */
	uint32_t used;		/* out */
	int timeout_ms;		/* out: for poll(): 0 if there is work, else -1 */
	uint32_t pad;
};

/* What to wait for until kuf_service() has work.  ENOSPC: not enough room. */
int kuf_pollfds(struct kuf *k, struct kuf_poll *p);

struct kuf_service {
	size_t size;
	uint64_t budget;	/* pages to fill, request or look at, at most; 0: 64 */
	uint64_t done;		/* out: pages filled */
	uint32_t more;		/* out: 1 if it stopped because of the budget */
	uint32_t end;		/* out: 1 if the userfault file descriptor is at its end */
	/*
	 * out: 1 if a vCPU waits in KVM for a page that is poisoned, and which one, and
	 * the userfault file descriptor is not one with KVM_USERFAULT_FD_MAY_POISON,
	 * which would have let it go on.  It stays there: kick it and stop the guest.
	 */
	uint32_t poison_hit;
	uint32_t poison_as_id;
	uint64_t poison_gpa;
};

/*
 * A round of serving, which does not wait: reads events and requests, asks the
 * source, urgent ones first, installs what it replies, wakes, and fetches ahead
 * as the policy says.
 *
 * EBUSY	another thread is at it
 * EBADMSG	the source replied what cannot be right
 * and what the source said; pages that failed are absent again, and whoever waits
 * for them goes on waiting: call kuf_retry() when it makes sense to
 */
int kuf_service(struct kuf *k, struct kuf_service *service);
/*
 * Asks once more for all pages that somebody waits for, also for those that were asked
 * for and not answered; what was fetched ahead and did not come is fetched again.
 */
int kuf_retry(struct kuf *k);

/*
 * Other processes.
 */

#define KUF_EXPORT_MAX_FDS	(2 * KUF_MAX_REGIONS + 2)
#define KUF_EXPORT_MAX_BYTES	8192

/* What another process needs; the bytes and the files go to it together. */
struct kuf_export {
	size_t size;
	uint32_t peer;		/* out: number of the other process, see kuf_recover() */
	uint32_t nr_fds;	/* out */
	uint64_t nr_bytes;	/* out */
	int fds[KUF_EXPORT_MAX_FDS];	/* for SCM_RIGHTS; they stay the context's */
	uint8_t bytes[KUF_EXPORT_MAX_BYTES] __attribute__((aligned(8)));
};

/*
 * Describes the context with the regions that it has now; @fd is a userfault file
 * descriptor that goes along, or -1.
 *
 * EOPNOTSUPP	a region's memory is private to this process (no fd, no gmem_fd)
 *		and it did not say PROC_MEM
 * EPERM	this context was itself imported
 * ENOSPC	there are 254 peers; numbers are used again after kuf_recover() here
 */
int kuf_export(struct kuf *k, int fd, struct kuf_export *ex);
/*
 * Makes a context of it that shares pages, bitmaps and memory with the first one: it
 * installs, requests and serves; what needs the VM fails with EOPNOTSUPP.  Maps the
 * files and does not use them any more, apart from the userfault file descriptor,
 * which is *fd then (-1: none), and nonblocking if the exporter made it so.
 * Private memory has no install function here.
 *
 * EBADMSG	bytes or files are not what kuf_export() made
 * ENOMEM, EMFILE, ENFILE
 */
int kuf_import(const struct kuf_export *ex, struct kuf **out, int *fd);
/* Both through a connected AF_UNIX stream socket, blocking.  EPIPE: at its end. */
int kuf_send(const struct kuf_export *ex, int sock);
/* ex->fds are the caller's, to close after kuf_import() (but the userfault one). */
int kuf_recv(struct kuf_export *ex, int sock);

/*
 * A peer died: whatever it had claimed is free again, what had been asked of it is
 * asked of whoever serves next, and KVM repeats the events that are waited for (if
 * kuf_set_fd() was called here).  Only when it is sure that the process is gone, or
 * has destroyed its context.  In any process that has a context; in the exporter's it
 * also frees the number, so there once for each kuf_export().  @peer 0 is the exporter,
 * whose death ends the VM.
 */
int kuf_recover(struct kuf *k, uint32_t peer);

/*
 * Statistics, of this context, since it was made.
 */

struct kuf_stats {
	size_t size;
	uint64_t exits;		/* vCPU exits that were absent pages */
	uint64_t events;	/* read from the userfault file descriptor */
	uint64_t accesses;	/* pages that kuf_access() found absent */
	uint64_t requests_urgent;
	uint64_t requests_background;
	uint64_t installed;	/* pages filled with content */
	uint64_t zeroed;	/* pages filled with zeroes */
	uint64_t skipped;	/* pages that were not to be filled (again) */
	uint64_t failed;	/* pages that could not be had or filled */
	uint64_t discarded;
	uint64_t poisoned;
	uint64_t poison_hits;	/* exits, accesses and waits that met poison */
	uint64_t waits;
	uint64_t wakes;		/* KVM_USERFAULT_WAKE */
	uint64_t recovered;	/* claims taken from peers that died */
	/*
	 * How long somebody had to wait for a page: in kuf_wait() and kuf_access();
	 * in the vCPU's own thread if it served itself; and in KVM, from the time in
	 * the event until the page was installed, as far as this context did both.
	 * Bucket n counts waits of 2^n up to 2^(n+1) microseconds, bucket 0 what is
	 * shorter as well, the last one what is longer.
	 */
	uint64_t latency_count;
	uint64_t latency_sum_ns;
	uint64_t latency[KUF_LATENCY_BUCKETS];
	uint64_t demanded;	/* filled pages that somebody needed */
	uint64_t own;		/* of exits and events: KVM's own accesses */
	uint64_t walks;		/* of exits and events: walks of the guest's page tables */
	uint64_t lost;		/* of poisoned: were present before */
};

int kuf_get_stats(struct kuf *k, struct kuf_stats *stats);

/*
 * Do the bits that KVM looks at agree with the states of the pages?  *wrong: of how
 * many pages they do not, which none should.  Pages that somebody works on are left
 * out.  For tests, and for whoever wants to be sure.
 */
int kuf_check(struct kuf *k, uint64_t *wrong);

#ifdef __cplusplus
}
#endif

#endif /* KUF_KUF_H */
