// SPDX-License-Identifier: GPL-2.0
/*
 * What a machine does right now.
 */
#include <pthread.h>

#include "status.h"

static const char *state_of(struct machine *m)
{
	if (vm_is_stopped(&m->vm))
		return "ended";
	return READ_ONCE(m->vm.pausing) ? "paused" : "running";
}

/* Numbers of others' counters, which go on meanwhile. */
static void report_of(struct machine *m, struct kuf_report *r)
{
	const struct pager_counts *c = m->pager.counts;

	r->pages = m->pager.mem.size / PAGE_SIZE;
	r->present = READ_ONCE(c->served);
	r->demand = r->present;
	r->events = READ_ONCE(c->events);
	r->exits = READ_ONCE(c->exits);
	r->accesses = READ_ONCE(c->asked);
	r->own = READ_ONCE(c->own);
	r->walks = READ_ONCE(c->walks);
	r->repeated = READ_ONCE(c->repeated);
}

void status_of(struct machine *m, struct status *s)
{
	*s = (struct status){
		.state = state_of(m),
		.session = m->session,
		.nr_cpus = m->vm.nr_vcpus,
		.disk_requests = m->has_blk ? READ_ONCE(m->blk.requests) : 0,
	};
	if (m->pager.counts) {
		s->engine = "kuf";
		s->policy = "lazy";
		report_of(m, &s->report);
	}
}
