/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KUF_SOURCE_H
#define KUF_SOURCE_H

/*
 * Where the content of absent pages comes from, and in which order.  Included by
 * <kuf/kuf.h>, whose first comment holds here too.
 */

#include <stddef.h>
#include <stdint.h>
#include <poll.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kuf;

/*
 * Sources: where content comes from.
 */

#define KUF_REQUEST_URGENT	0x1	/* somebody waits for it */

struct kuf_request {
	size_t size;
	uint64_t gpa;		/* a range within one region */
	uint64_t len;
	uint32_t region;	/* struct kuf_region's id */
	uint32_t as_id;
	uint32_t flags;		/* KUF_REQUEST_* */
	uint32_t pad;
};

enum kuf_reply_type {
	KUF_REPLY_DATA,		/* len bytes at data */
	KUF_REPLY_ZERO,		/* len zeroes */
	KUF_REPLY_POISON,	/* the content is lost: poison it */
	KUF_REPLY_FAILED,	/* error tells why; the pages are absent again */
};

struct kuf_reply {
	size_t size;
	uint64_t gpa;		/* whole pages within one region */
	uint64_t len;
	const void *data;	/* valid until the next call of receive() */
	uint32_t as_id;
	int type;		/* enum kuf_reply_type */
	int error;		/* -errno */
	uint32_t pad;
};

/*
 * All but fetch(), and verify() for what fetch() read, are called by kuf_service()
 * alone, so by one thread at a time, and must not wait.
 */
struct kuf_source_ops {
	size_t size;
	/*
	 * Asks for a range.  Urgent ones overtake all others, those that were asked
	 * for earlier included; a range may be asked for again to make it urgent.
	 * -EAGAIN: no room now, will be asked again.
	 */
	int (*request)(void *source, const struct kuf_request *request);
	/* One reply, in any order, asked for or not; -EAGAIN: none now. */
	int (*receive)(void *source, struct kuf_reply *reply);
	/*
	 * Adds what poll() has to look at to fds[*used] and further on, up to nr; sets
	 * *timeout_ms to 0 if receive() has something already.  May be NULL.
	 */
	int (*pollfds)(void *source, struct pollfd *fds, unsigned int nr,
		       unsigned int *used, int *timeout_ms);
	/*
	 * Reads into @to at once, in the caller's thread; any number of threads at a
	 * time.  NULL: the source cannot do that, and nobody can serve himself.
	 */
	int (*fetch)(void *source, const struct kuf_request *request, void *to);
	/*
	 * Is this what was to be in the page?  Called after content or zeroes of this
	 * source were written to guest memory, for what is in memory then, and before
	 * the page's bit is cleared: an error leaves the page absent, and counts as
	 * failed.  In the thread that fills the page, for one page at a time; not for
	 * what kuf_install() and kuf_install_zero() write, nor for private memory,
	 * which cannot be read.  May be NULL.
	 */
	int (*verify)(void *source, const struct kuf_request *page, const void *content);
};

/* Both may be NULL: no source, the VMM installs by itself. */
int kuf_set_source(struct kuf *k, const struct kuf_source_ops *ops, void *source);

/*
 * A source that reads a file: a region's byte n is the file's byte offset + n.
 */

struct kuf_file_range {
	uint64_t gpa;
	uint64_t len;
	uint64_t offset;
	int fd;			/* borrowed; anything that pread() takes */
	uint32_t as_id;
};

struct kuf_file_source;

/* ERANGE: ranges that overlap.  @depth: how many requests it queues, 0: 256. */
int kuf_file_source_create(const struct kuf_file_range *ranges, unsigned int nr,
			   unsigned int depth, struct kuf_file_source **out);
void kuf_file_source_destroy(struct kuf_file_source *source);
/* What to give to kuf_set_source(), together with the source itself. */
const struct kuf_source_ops *kuf_file_source_ops(void);

/*
 * Policies: what is fetched although nobody waits for it.
 */

enum kuf_policy_kind {
	KUF_LAZY,		/* nothing */
	KUF_EAGER,		/* everything, by ascending address */
	KUF_RECORDED,		/* what a former run needed, in that order */
};

/* A page that somebody needed, in the order of first need. */
struct kuf_trace_entry {
	uint64_t gpa;
	uint32_t as_id;
	uint32_t time_us;	/* since kuf_set_policy() */
};

#define KUF_POLICY_THEN_EAGER	0x1	/* RECORDED: then all the rest */

struct kuf_policy {
	size_t size;
	int kind;		/* enum kuf_policy_kind */
	uint32_t flags;
	uint32_t depth;		/* pages outstanding, not urgent; 0: 32, at most 256 */
	uint32_t pad;
	/* RECORDED: what to replay.  Has to stay as it is while the policy is set. */
	const struct kuf_trace_entry *replay;
	uint64_t nr_replay;
	/*
	 * Any kind: where to record, or NULL.  nr_recorded grows while the policy is
	 * set, up to max_record; what is needed beyond that is not recorded.
	 */
	struct kuf_trace_entry *record;
	uint64_t max_record;
	uint64_t *nr_recorded;
};

/* LAZY without it.  EINVAL: no such kind, buffers missing. */
int kuf_set_policy(struct kuf *k, const struct kuf_policy *policy);

/*
 * A recording as bytes, for a file.  *used: bytes.  ENOSPC if they do not fit;
 * *used then says how many are needed.
 */
int kuf_trace_pack(const struct kuf_trace_entry *entries, uint64_t nr, void *bytes,
		   size_t size, size_t *used);
/*
 * And back.  EBADMSG: these bytes are no recording, or a damaged one.  ENOSPC: more
 * than max entries; *nr then says how many.
 */
int kuf_trace_parse(const void *bytes, size_t size, struct kuf_trace_entry *entries,
		    uint64_t max, uint64_t *nr);

#ifdef __cplusplus
}
#endif

#endif /* KUF_SOURCE_H */
