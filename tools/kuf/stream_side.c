// SPDX-License-Identifier: GPL-2.0
/*
 * What was asked for on a connection.
 */
#include <errno.h>

#include "stream_side.h"

/* Those that were answered make room, also behind one that is late. */
static void pack(struct stream_side *side)
{
	u32 i, to = side->end, overtaken = 0;

	for (i = side->end; i-- != side->first;) {
		if (!side->asked[i % STREAM_ASKED].missing)
			continue;
		overtaken += (s32)(side->newest - i) > 0;
		side->asked[--to % STREAM_ASKED] = side->asked[i % STREAM_ASKED];
	}
	side->first = to;
	side->newest = to + overtaken;
}

int stream_side_ask(struct stream_side *side, u64 gpa, u64 len)
{
	/* What is asked for once more is older. */
	if (side->again != side->again_end)
		return -EAGAIN;
	if (side->end - side->first == STREAM_ASKED)
		pack(side);
	if (side->end - side->first == STREAM_ASKED)
		return -EAGAIN;
	if (side->nr_batch == PROTO_RANGES)
		stream_side_flush(side);
	if (side->nr_batch == PROTO_RANGES)
		return -EAGAIN;
	side->batch[side->nr_batch++] = (struct proto_range){ gpa, len };
	side->asked[side->end++ % STREAM_ASKED] = (struct stream_asked){
		.gpa = gpa,
		.len = len,
		.time_ns = stream_now_ns(),
		.missing = ~0ull >> (64 - len / PAGE_SIZE),
	};
	return 0;
}

/* Whatever was on its way on the others did not come. */
void stream_side_replace(struct stream_side *side, const struct stream *next)
{
	stream_close(side->s);
	*side->s = *next;
	side->nr_batch = 0;
	side->again = side->first;
	side->again_end = side->end;
	side->again_page = 0;
	side->newest = side->first;
}

/* Fills the batch with what is to be asked for once more. */
static void ask_again(struct stream_side *side)
{
	u64 left, first, nr, now = stream_now_ns();
	struct stream_asked *a;

	/* Slots of those that were answered may be somebody else's. */
	if ((s32)(side->first - side->again) > 0) {
		side->again = side->first;
		side->again_page = 0;
	}
	while ((s32)(side->again_end - side->again) > 0 && side->nr_batch < PROTO_RANGES) {
		a = &side->asked[side->again % STREAM_ASKED];
		left = side->again_page < 64 ? a->missing >> side->again_page : 0;
		if (!left) {
			side->again++;
			side->again_page = 0;
			continue;
		}
		first = side->again_page + __builtin_ctzll(left);
		left = ~(a->missing >> first);
		nr = left ? __builtin_ctzll(left) : 64;
		a->time_ns = now;
		side->batch[side->nr_batch++] = (struct proto_range){
			a->gpa + first * PAGE_SIZE, nr * PAGE_SIZE,
		};
		side->again_page = first + nr;
	}
}

int stream_side_flush(struct stream_side *side)
{
	struct iovec iov = { .iov_base = side->batch };
	int err = 0;

	if (side->again != side->again_end)
		ask_again(side);
	iov.iov_len = side->nr_batch * sizeof(side->batch[0]);
	if (side->nr_batch)
		err = stream_put(side->s, PROTO_REQUEST, 0, &iov, 1);
	if (!err)
		side->nr_batch = 0;
	return stream_is_flushed(side->s) ? err : stream_flush(side->s);
}

bool stream_side_answered(struct stream_side *side, u64 gpa, u64 len)
{
	struct stream_asked *a;
	u64 mask;
	u32 i;

	for (i = side->first; i != side->end; i++) {
		a = &side->asked[i % STREAM_ASKED];
		if (gpa < a->gpa || gpa - a->gpa >= a->len || len > a->len - (gpa - a->gpa))
			continue;
		mask = ~0ull >> (64 - len / PAGE_SIZE) << (gpa - a->gpa) / PAGE_SIZE;
		if ((a->missing & mask) != mask)
			continue;
		a->missing &= ~mask;
		if (!a->missing && (s32)(i + 1 - side->newest) > 0)
			side->newest = i + 1;
		while (side->first != side->end &&
		       !side->asked[side->first % STREAM_ASKED].missing)
			side->first++;
		return true;
	}
	return false;
}

const struct stream_asked *stream_side_oldest(const struct stream_side *side)
{
	return side->first == side->end ? NULL : &side->asked[side->first % STREAM_ASKED];
}

bool stream_side_overtaken(const struct stream_side *side)
{
	return (s32)(side->newest - side->first) > 0;
}
