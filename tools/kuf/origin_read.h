/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_ORIGIN_READ_H
#define KUF_ORIGIN_READ_H

#include "origin.h"

/* For the threads that serve.  What is found to be broken is poisoned from then on. */

u64 origin_page(const struct origin *o, u64 gpa);
bool origin_is_zero(const u8 *page);
/*
 * Copies to @to those pages from @gpa on that are alike, zeroes or not, up to @nr: how many;
 * -errno, as of struct origin's map(): none.
 */
int origin_read(struct origin *o, u64 gpa, u64 nr, u8 *to);
/* It is no news of the page: there is no reply, and the connections end. */
bool origin_is_over(int err);
/* How many of the pages from @gpa on are lost. */
u64 origin_lost_run(const struct origin *o, u64 gpa, u64 nr);
/*
 * Of all memory, as the destination must have it, but what is lost.  @page: room for one.
 * -EAGAIN, and if it is over: without a message.
 */
int origin_digest(struct origin *o, u8 *page, u64 *sum);

#endif /* KUF_ORIGIN_READ_H */
