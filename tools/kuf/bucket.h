/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_BUCKET_H
#define KUF_BUCKET_H

#include "kuf.h"

/*
 * Bytes a second, for one thread.  Whoever may have some takes as much as it needs, and
 * what was too much is waited for afterwards: after any time t at most rate * t bytes
 * and one burst went, and what was taken last.
 */
struct bucket {
	u64 rate;		/* 0: no limit */
	u64 burst;
	int64_t tokens;		/* bytes */
	u64 now_ns;
};

void bucket_init(struct bucket *b, u64 rate, u64 now_ns);
bool bucket_ready(struct bucket *b, u64 now_ns);
void bucket_take(struct bucket *b, u64 bytes);
/* Milliseconds until it is ready, for poll(): 0 if it is. */
int bucket_wait_ms(struct bucket *b, u64 now_ns);

#endif /* KUF_BUCKET_H */
