/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_CHAIN_H
#define KUF_TESTS_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

/* The log of a guest (../guest/log.c) as it is told on one console after the other. */
struct chain {
	uint64_t nonce, hash, time_ns, max_gap_us;
	unsigned int generation;	/* the last one; 0 at first */
};

/*
 * Goes on with what a console has: the same guest, each generation once, in order,
 * and each hash what this one and all before make.  False after a "# " line.
 */
bool chain_read(struct chain *c, const char *console);

#endif /* KUF_TESTS_CHAIN_H */
