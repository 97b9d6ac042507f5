// SPDX-License-Identifier: GPL-2.0
/*
 * What a machine does right now.
 */
#include "status.h"

static const char *policy_of(const struct pager_config *c)
{
	switch (c->policy.kind) {
	case KUF_EAGER:
		return "background";
	case KUF_RECORDED:
		return "recorded";
	default:
		return "lazy";
	}
}

static const char *state_of(struct machine *m)
{
	if (vm_is_stopped(&m->vm))
		return "ended";
	return READ_ONCE(m->vm.pausing) ? "paused" : "running";
}

static void get_progress(void *opaque, struct progress_counts *c)
{
	struct kuf_report r;

	machine_report(opaque, &r);
	*c = (struct progress_counts){ .total = r.pages, .present = r.present,
				       .demand = r.demand };
	c->end = r.pages && r.present >= r.pages;
}

int machine_show_progress(struct machine *m, struct progress *p)
{
	return progress_start(p, stderr, get_progress, m);
}

void machine_print_report(struct machine *m)
{
	struct report_about about = { .now_ns = report_now_ns() };
	struct kuf_report r;

	machine_report(m, &r);
	if (!r.armed_ns)
		return;
	about.engine = m->pager.config.engine == PAGER_UFFD ? "uffd" : "kuf";
	about.policy = policy_of(&m->pager.config);
	report_print(&r, &about, stderr);
}

void status_of(struct machine *m, struct status *s)
{
	*s = (struct status){
		.state = state_of(m),
		.session = m->session,
		.nr_cpus = m->vm.nr_vcpus,
		.disk_requests = m->has_blk ? READ_ONCE(m->blk.requests) : 0,
	};
	machine_report(m, &s->report);
	/* What it is made of does not change from here on. */
	if (s->report.armed_ns) {
		s->engine = m->pager.config.engine == PAGER_UFFD ? "uffd" : "kuf";
		s->policy = policy_of(&m->pager.config);
	}
}
