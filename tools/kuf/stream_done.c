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

/* All that is poisoned, or was and did not come: as of now, whatever becomes of it. */
static int take_poisoned(struct stream_source *ss)
{
	struct pageset *set = &ss->told;
	u64 page;
	int err;

	err = pageset_make(set, ss->mem->size / PAGE_SIZE);
	if (!err && ss->k)
		err = maps_take(set, ss->k, KUF_MASK(KUF_POISONED), ss->mem);
	/* Of another engine it is all that did not come. */
	for (page = 0; !err && page < set->size; page++) {
		if (!pageset_has(&ss->came, page) &&
		    (!ss->k || pageset_has(&ss->cleared, page)))
			pageset_add(set, page);
	}
	return err;
}

void stream_done_forget(struct stream_source *ss)
{
	pageset_free(&ss->told);
	ss->next_told = 0;
}

/* 1: a frame was queued; 0: there are no more of them. */
static int put_poisoned(struct stream_source *ss)
{
	struct proto_range ranges[PROTO_MAP_RANGES];
	struct iovec iov = { .iov_base = ranges };
	int err = 0;

	if (!ss->told.words)
		err = take_poisoned(ss);
	if (err) {
		stream_done_forget(ss);
		return err;
	}
	iov.iov_len = maps_ranges(&ss->told, ss->mem, &ss->next_told, ranges, PROTO_MAP_RANGES) *
		      sizeof(ranges[0]);
	return iov.iov_len ? stream_put(ss->sides[0].s, PROTO_POISONED, 0, &iov, 1) ?: 1 : 0;
}

int stream_done_put(struct stream_source *ss, enum proto_done_kind kind)
{
	struct proto_done done = {
		.kind = kind,
		.pages = ss->counts.demand_pages + ss->counts.background_pages,
		.zero_pages = ss->counts.zero_pages,
	};
	struct iovec iov = { &done, sizeof(done) };
	int ret = kind == PROTO_DONE_ALL ? put_poisoned(ss) : 0;
	u64 i;

	if (ret)
		return ret < 0 ? ret : 0;
	/* What was told before: of another kind it may be some of it. */
	for (i = 0; i < ss->next_told; i++)
		done.poisoned += pageset_has(&ss->told, i);
	for (i = 0; kind == PROTO_DONE_ALL && i < ss->mem->size / PAGE_SIZE; i++) {
		if (!pageset_has(&ss->told, i))
			done.digest += proto_digest(i, ss->crcs[i]);
	}
	ret = stream_put(ss->sides[0].s, PROTO_DONE, 0, &iov, 1);
	if (!ret) {
		ss->done_sent = true;
		stream_done_forget(ss);
	}
	return ret;
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
