/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STATUS_H
#define KUF_STATUS_H

#include "machine.h"
#include "progress.h"
#include "report_print.h"

/*
 * What a VM answers to kuf status, as JSON text.
 *
 * States: "running", "paused", "ended"; at a migration's source "sending", then
 * "given-up" and "completed"; at its destination "receiving", "postcopy-active" and, when
 * all of memory is there, "running".
 */
struct status {
	const char *state;
	const u8 *session;		/* 16 bytes */
	u64 epoch;			/* how often it was migrated */
	unsigned int nr_cpus;
	u64 disk_requests;
	const char *engine, *policy;	/* NULL: no page was ever absent */
	struct kuf_report report;	/* unless engine is NULL */
};

/* While absent pages come; p is for progress_stop(), before machine_finish(). */
int machine_show_progress(struct machine *m, struct progress *p);
/* What came of it, on stderr; nothing if no page was ever absent.  After machine_finish(). */
void machine_print_report(struct machine *m);

/* Any thread: of a machine that has its memory. */
void status_of(struct machine *m, struct status *s);
/* -ENOMEM; -E2BIG: does not fit in @size bytes. */
int status_text(const struct status *s, char *text, size_t size);

/* The other way round, for people; -EBADMSG after a message if this is no status. */
int status_print(const char *text, FILE *to);

#endif /* KUF_STATUS_H */
