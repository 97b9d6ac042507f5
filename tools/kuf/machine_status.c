// SPDX-License-Identifier: GPL-2.0
/*
 * What a machine tells of its memory while that comes, and at the end.
 */
#include "status.h"

const char *machine_policy_name(u32 kind)
{
	switch (kind) {
	case KUF_EAGER:
		return "background";
	case KUF_RECORDED:
		return "recorded";
	default:
		return "lazy";
	}
}

static void get_progress(void *opaque, struct progress_counts *c)
{
	struct kuf_report r;

	machine_report(opaque, &r);
	*c = (struct progress_counts){ .total = r.pages, .present = r.present,
				       .demand = r.demand };
	c->end = r.pages && r.present + r.poisoned >= r.pages;
}

void machine_show_progress(struct machine *m, struct progress *p)
{
	/* After a message there is none: nothing to end for. */
	progress_start(p, stderr, get_progress, m);
}

void machine_print_report(struct machine *m)
{
	struct report_about about = { .now_ns = report_now_ns() };
	struct kuf_report r;

	machine_report(m, &r);
	if (!r.armed_ns)
		return;
	about.engine = m->pager.config.engine == PAGER_UFFD ? "uffd" : "kuf";
	about.policy = machine_policy_name(m->pager.config.policy.kind);
	report_print(&r, &about, stderr);
}
