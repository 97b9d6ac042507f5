/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PAGESET_H
#define KUF_PAGESET_H

#include "kuf.h"

/*
 * A set of a VM's pages, by their number in its memory: a bit each.  Any thread may add,
 * remove and look; who makes and frees it is alone with it.  One that was never made, or
 * was freed, has no pages; the latter keeps its count.
 */
struct pageset {
	u64 *words;
	u64 size;		/* pages that it can have */
	u64 count;		/* that it has: READ_ONCE() */
};

/* -ENOMEM, after a message. */
int pageset_make(struct pageset *set, u64 size);
void pageset_free(struct pageset *set);

bool pageset_has(const struct pageset *set, u64 page);
/* Whether that changed something. */
bool pageset_add(struct pageset *set, u64 page);
bool pageset_remove(struct pageset *set, u64 page);
/* For who made it. */
void pageset_add_all(struct pageset *set);

/* The first run from *page on: sets *page and *nr; false: there is none. */
bool pageset_next(const struct pageset *set, u64 *page, u64 *nr);

#endif /* KUF_PAGESET_H */
