/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_GUARD_H
#define KUF_GUARD_H

#include "kuf.h"

/*
 * Memory of the host that is broken kills who reads it, by SIGBUS.  The guest's memory is
 * read under guard: what is broken is told, and nobody dies.
 *
 * Threads: a guard is its thread's own.
 */

/* Once, before there are threads. */
void guard_init(void);

/* -EHWPOISON: @from is broken, or @to; @to may have some of it. */
int guard_copy(void *to, const void *from, size_t len);
/*
 * Calls @fn, for accesses of all kinds.  -EHWPOISON: it was left in the middle, for the
 * access to @broken; it must hold nothing there.
 */
int guard_call(int (*fn)(void *arg), void *arg, void **broken);

/*
 * Around KVM_RUN, where KVM sends the signal: what the guest touched is told by
 * guard_run_end(); NULL: nothing.
 */
void guard_run_begin(void);
void *guard_run_end(void);

#endif /* KUF_GUARD_H */
