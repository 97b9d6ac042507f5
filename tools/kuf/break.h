/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_BREAK_H
#define KUF_BREAK_H

#include "kuf.h"

/*
 * Faults that a destination makes on purpose, once, with a page that the guest waits for:
 * tests see that each of them is noticed.
 */
enum break_kind {
	BREAK_NONE,
	BREAK_EARLY_CLEAR,	/* the page is let go before its content is there */
	BREAK_FLIP,		/* a bit is flipped after the frame's checksum was checked */
	BREAK_DROP,		/* the reply is ignored */
	NR_BREAKS,
};

/* -EINVAL after a message. */
int break_by_name(const char *name);
const char *break_name(enum break_kind kind);

#endif /* KUF_BREAK_H */
