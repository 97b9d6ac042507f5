/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STATUS_H
#define KUF_STATUS_H

#include "machine.h"
#include "progress.h"
#include "report_print.h"

/* While absent pages come; p is for progress_stop(), before machine_finish(). */
void machine_show_progress(struct machine *m, struct progress *p);
/* What came of it, on stderr; nothing if no page was ever absent.  After machine_finish(). */
void machine_print_report(struct machine *m);

/* "lazy", "background", ...: of enum kuf_policy_kind. */
const char *machine_policy_name(u32 kind);

/*
 * What a VM answered, as JSON: its status is "running", "postcopy-active" (and memory still
 * comes), "saving", "sending", "given-up" (it runs elsewhere, and its memory goes there),
 * "completed" (and all of it went) or "ended".  -ENOMEM; -E2BIG: not in @size bytes.
 */
struct control_status;
int status_text(const struct control_status *s, char *text, size_t size);

/* The same for people; -EBADMSG after a message if this is no such text. */
int status_print(const char *text, FILE *to);

#endif /* KUF_STATUS_H */
