// SPDX-License-Identifier: GPL-2.0
/*
 * A token bucket.
 */
#include "bucket.h"

#define SECOND	1000000000ull
/* What may go at once after a pause: a tenth of a second's, or a few replies. */
#define MIN_BURST	(64 * PAGE_SIZE)

void bucket_init(struct bucket *b, u64 rate, u64 now_ns)
{
	u64 burst = rate / 10;

	*b = (struct bucket){
		.rate = rate,
		.burst = burst > MIN_BURST ? burst : MIN_BURST,
		.now_ns = now_ns,
	};
	b->tokens = b->burst;
}

static void refill(struct bucket *b, u64 now_ns)
{
	u64 ns = now_ns > b->now_ns ? now_ns - b->now_ns : 0, bytes;

	/* Whatever happened in it: more would only be a burst. */
	if (ns > SECOND) {
		b->now_ns = now_ns - SECOND;
		ns = SECOND;
	}
	bytes = (__uint128_t)ns * b->rate / SECOND;
	if (!bytes)
		return;
	/* Not the whole time: fractions of a byte are not lost. */
	b->now_ns += (__uint128_t)bytes * SECOND / b->rate;
	b->tokens += bytes;
	if (b->tokens > (int64_t)b->burst)
		b->tokens = b->burst;
}

bool bucket_ready(struct bucket *b, u64 now_ns)
{
	if (!b->rate)
		return true;
	refill(b, now_ns);
	return b->tokens > 0;
}

void bucket_take(struct bucket *b, u64 bytes)
{
	if (b->rate)
		b->tokens -= bytes;
}

int bucket_wait_ms(struct bucket *b, u64 now_ns)
{
	u64 ms;

	if (bucket_ready(b, now_ns))
		return 0;
	ms = (__uint128_t)(1 - b->tokens) * 1000 / b->rate + 1;
	return ms < 1000 ? ms : 1000;
}
