// SPDX-License-Identifier: GPL-2.0
/*
 * Sets of pages on a connection.  In memory pages have no gap; for the guest they have
 * one, below 4 GiB, so a range ends there.
 */
#include <errno.h>
#include <string.h>

#include "maps.h"

int maps_take(struct pageset *set, struct kuf *k, u32 mask, const struct mem *mem)
{
	struct kuf_cursor c = { .size = sizeof(c), .mask = mask };
	int64_t offset;
	int err;
	u64 i;

	while (!(err = kuf_next(k, &c))) {
		offset = mem_offset(mem, c.gpa, c.len);
		if (offset < 0)
			return kuf_error(-EFAULT, "absent pages at 0x%llx",
					 (unsigned long long)c.gpa);
		for (i = 0; i < c.len / PAGE_SIZE; i++)
			pageset_add(set, offset / PAGE_SIZE + i);
	}
	return err == -ENOENT ? 0 : kuf_error(err, "looking for absent pages");
}

u32 maps_ranges(const struct pageset *set, const struct mem *mem, u64 *page,
		struct proto_range *ranges, u32 nr)
{
	u64 low = MEM_LOW_MAX / PAGE_SIZE, len;
	u32 n = 0;

	while (n < nr && pageset_next(set, page, &len)) {
		if (*page < low && len > low - *page)
			len = low - *page;
		ranges[n++] = (struct proto_range){
			.gpa = mem_gpa(mem, *page * PAGE_SIZE), .len = len * PAGE_SIZE,
		};
		*page += len;
	}
	return n;
}

int maps_send(const struct pageset *set, const struct mem *mem, struct stream *s, u16 type,
	      int timeout_ms)
{
	struct proto_range ranges[PROTO_MAP_RANGES];
	u64 page = 0;
	int err = 0;
	u32 nr;

	while (!err && (nr = maps_ranges(set, mem, &page, ranges, PROTO_MAP_RANGES)))
		err = stream_send(s, type, ranges, nr * sizeof(ranges[0]), timeout_ms);
	return err;
}

static int read_range(struct maps_reader *r, struct stream *s, const struct proto_range *range)
{
	u64 nr = range->len / PAGE_SIZE, first, i;
	int64_t offset = mem_offset(r->mem, range->gpa, range->len);

	if (!nr || (range->gpa | range->len) % PAGE_SIZE || offset < 0)
		return stream_bad(s, "0x%llx, 0x%llx bytes, is not in memory",
				  (unsigned long long)range->gpa,
				  (unsigned long long)range->len);
	first = offset / PAGE_SIZE;
	if (first < r->next)
		return stream_bad(s, "ranges are not in order at 0x%llx",
				  (unsigned long long)range->gpa);
	if (nr > r->left)
		return stream_bad(s, "more pages than were announced");
	for (i = 0; i < nr; i++)
		pageset_add(r->set, first + i);
	r->next = first + nr;
	r->left -= nr;
	return 0;
}

int maps_read(struct maps_reader *r, struct stream *s, const struct stream_frame *frame)
{
	struct proto_range range;
	int err = 0;
	u32 i;

	if (frame->length % sizeof(range))
		return stream_bad(s, "%u bytes of ranges", frame->length);
	for (i = 0; !err && i < frame->length / sizeof(range); i++) {
		memcpy(&range, (const u8 *)frame->data + i * sizeof(range), sizeof(range));
		err = read_range(r, s, &range);
	}
	return err;
}

int maps_receive(struct pageset *set, const struct mem *mem, struct stream *s, u16 type, u64 nr,
		 int timeout_ms)
{
	struct maps_reader r = { .set = set, .mem = mem, .left = nr };
	u64 until = stream_now_ns() + timeout_ms * 1000000ull, now;
	struct stream_frame frame;
	int err = 0;

	/* All of it within that time: one range at a time would be many. */
	while (!err && r.left) {
		now = stream_now_ns();
		err = stream_receive(s, type, &frame, until > now ? (until - now) / 1000000 : 0);
		if (!err)
			err = maps_read(&r, s, &frame);
	}
	return err;
}
