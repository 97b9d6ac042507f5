/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_ENGINE_UFFD_H
#define KUF_ENGINE_UFFD_H

#include "kuf.h"

struct pager;
struct kuf_report;

/*
 * The same memory and sources with userfaultfd instead of KVM userfault, to compare
 * the two: one thread that answers faults of the whole process, the guest's, KVM's and
 * the VMM's own.  Anonymous memory and shmem; KUF_LAZY and KUF_EAGER.
 *
 * Sources verify content before it is copied to memory and not, as with libkuf, there:
 * the kernel copies it and lets go of it at once.  Latencies begin when the thread
 * reads of a fault, as userfaultfd does not say when that was.
 */
int engine_uffd_start(struct pager *p);
/*
 * All pages of a range are present; -ECANCELED when they are, or may be, only because
 * the VM ends.  Any thread.
 */
int engine_uffd_access(struct pager *p, u64 gpa, u64 len);
/* The same for whole pages, but does not wait: -EAGAIN: one is absent, and is asked for. */
int engine_uffd_try_access(struct pager *p, u64 gpa, u64 len);
/*
 * If nobody serves any more: lets go of those who wait.  They find zeroes, so only
 * once that does no harm: vCPUs were told to leave the guest.
 */
void engine_uffd_cancel(struct pager *p);
/* The same, whoever serves: no vCPU is in the guest any more, and @cancelled is set. */
void engine_uffd_let_go(struct pager *p);
void engine_uffd_report(struct pager *p, struct kuf_report *r);
/* Also if there is none. */
void engine_uffd_release(struct pager *p);

#endif /* KUF_ENGINE_UFFD_H */
