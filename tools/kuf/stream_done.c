// SPDX-License-Identifier: GPL-2.0
/*
 * The end of a migration, as the destination sees it: what it says of all that came, and
 * what the source says to that.
 */
#include <errno.h>
#include <string.h>

#include "maps.h"
#include "stream_done.h"

bool stream_done_is_complete(struct stream_source *ss)
{
	u64 pages = ss->mem->size / PAGE_SIZE, gpa;
	enum kuf_state state;

	if (!ss->k)
		return ss->came.count + ss->nr_never == pages;
	/* Pages do not become absent again; those that were cleared do not come. */
	for (; ss->absent_from < pages; ss->absent_from++) {
		gpa = mem_gpa(ss->mem, ss->absent_from * PAGE_SIZE);
		if (kuf_page_state(ss->k, 0, gpa, &state) ||
		    KUF_MASK(state) & KUF_MASK_ABSENT & ~KUF_MASK(KUF_DISCARDED))
			return false;
	}
	return true;
}

/* All that is poisoned, or was and did not come, in one frame. */
static int put_poisoned(struct stream_source *ss, struct pageset *set)
{
	struct proto_range ranges[PROTO_MAP_RANGES];
	struct iovec iov = { .iov_base = ranges };
	u64 page = 0, nr;
	int err;

	err = pageset_make(set, ss->mem->size / PAGE_SIZE);
	if (!err && ss->k)
		err = maps_take(set, ss->k, KUF_MASK(KUF_POISONED), ss->mem);
	/* Of another engine it is all that did not come. */
	for (; !err && page < set->size; page++) {
		if (!pageset_has(&ss->came, page) &&
		    (!ss->k || pageset_has(&ss->cleared, page)))
			pageset_add(set, page);
	}
	if (err)
		return err;
	page = 0;
	iov.iov_len = maps_ranges(set, ss->mem, &page, ranges, PROTO_MAP_RANGES) *
		      sizeof(ranges[0]);
	if (pageset_next(set, &page, &nr))
		return kuf_error(-E2BIG, "more than %u poisoned ranges", PROTO_MAP_RANGES);
	return iov.iov_len ? stream_put(ss->sides[0].s, PROTO_POISONED, 0, &iov, 1) : 0;
}

void stream_done_put(struct stream_source *ss, enum proto_done_kind kind)
{
	struct proto_done done = {
		.kind = kind,
		.pages = ss->counts.demand_pages + ss->counts.background_pages,
		.zero_pages = ss->counts.zero_pages,
	};
	struct iovec iov = { &done, sizeof(done) };
	struct pageset poisoned = {};
	u64 i;

	if (kind == PROTO_DONE_ALL && put_poisoned(ss, &poisoned)) {
		pageset_free(&poisoned);
		return;
	}
	done.poisoned = poisoned.count;
	for (i = 0; kind == PROTO_DONE_ALL && i < ss->mem->size / PAGE_SIZE; i++) {
		if (!pageset_has(&poisoned, i))
			done.digest += proto_digest(i, ss->crcs[i]);
	}
	if (!stream_put(ss->sides[0].s, PROTO_DONE, 0, &iov, 1))
		ss->done_sent = true;
	pageset_free(&poisoned);
}

int stream_done_take_bye(struct stream_source *ss, const struct stream_frame *f)
{
	struct proto_bye bye;

	memcpy(&bye, f->data, sizeof(bye));
	if (!ss->done_sent || bye.reserved)
		return stream_bad(ss->sides[0].s, "a BYE that does not make sense");
	if (bye.differs) {
		kuf_error(0, "what is here is not what the source has (digest)");
		__atomic_store_n(&ss->end, STREAM_SOURCE_BAD, __ATOMIC_RELEASE);
		return -EBADMSG;
	}
	__atomic_store_n(&ss->end, STREAM_SOURCE_COMPLETE, __ATOMIC_RELEASE);
	return 0;
}
