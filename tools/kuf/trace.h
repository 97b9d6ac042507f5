/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TRACE_H
#define KUF_TRACE_H

#include "pager_config.h"

/*
 * A source of pages that passes everything on to another one, and writes a line for each
 * page to a file: when it came, its address, why, and how long it was on its way.
 *
 *	# time_us gpa kind latency_us
 *	1234 0x1f3000 demand 87
 *
 * Kinds: demand (somebody waited) or background, with "-zero" if it has no content;
 * failed; poison.  The time is that since trace_source_create(), the latency that from the
 * first request to the reply, "-" if there was no request, or too many at a time.
 *
 * Lines are written at once, so the source may be used by a process that was forked
 * meanwhile, and may be killed.  Threads: as libkuf calls sources; fetch() by any number.
 */
struct trace_source;

/* @ops and @source: whom to pass on to. */
int trace_source_create(struct trace_source **out, const char *path,
			const struct kuf_source_ops *ops, void *source);
const struct kuf_source_ops *trace_source_ops(const struct trace_source *t);
/* Puts one between @config's source and its pager.  Without @path it does nothing. */
int trace_pager(struct trace_source **out, const char *path, struct pager_config *config);
/* Also for NULL. */
void trace_source_destroy(struct trace_source *t);

#endif /* KUF_TRACE_H */
