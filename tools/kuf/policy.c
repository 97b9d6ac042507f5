// SPDX-License-Identifier: GPL-2.0
/*
 * Command line options that say how memory is to come.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "policy.h"
#include "recording.h"

static int parse_policy(struct policy_options *o, const char *arg)
{
	o->eager = false;
	if (!strcmp(arg, "eager"))
		o->eager = true;
	else if (!strcmp(arg, "lazy"))
		o->policy.kind = KUF_LAZY;
	else if (!strcmp(arg, "background"))
		o->policy.kind = KUF_EAGER;
	else if (!strcmp(arg, "recorded"))
		o->policy.kind = KUF_RECORDED;
	else
		return kuf_error(0, "--policy=%s: eager, lazy, background or recorded", arg);
	return 0;
}

static int parse_pager(struct policy_options *o, const char *arg)
{
	int mode = pager_mode_by_name(arg);

	if (!strncmp(arg, "unix:", 5) && arg[5]) {
		o->mode = PAGER_UNIX;
		o->socket = arg + 5;
		return 0;
	}
	/* KVM's own accesses may wait where they cannot exit: only the fd tells of them. */
	if (mode != PAGER_PROCESS && mode != PAGER_THREAD)
		return kuf_error(0, "--pager=%s: process, thread or unix:PATH", arg);
	o->mode = mode;
	return 0;
}

static int parse_engine(struct policy_options *o, const char *arg)
{
	if (strcmp(arg, "kuf") && strcmp(arg, "uffd"))
		return kuf_error(0, "--engine=%s: kuf or uffd", arg);
	o->engine = strcmp(arg, "kuf") ? PAGER_UFFD : PAGER_KUF;
	return 0;
}

int policy_option(struct policy_options *o, int option, const char *arg)
{
	switch (option) {
	case OPT_POLICY:
		return parse_policy(o, arg);
	case OPT_PAGER:
		return parse_pager(o, arg);
	case OPT_PAGER_TIMEOUT:
		o->has_timeout = true;
		return options_parse_number("pager-timeout", arg, 0, 1000000, &o->timeout_s);
	case OPT_ENGINE:
		return parse_engine(o, arg);
	case OPT_RECORD:
		o->policy.record = arg;
		return 0;
	case OPT_REPLAY:
		o->replay = arg;
		return 0;
	case OPT_TRACE:
		o->trace = arg;
		return 0;
	case OPT_THEN:
		if (strcmp(arg, "background"))
			return kuf_error(0, "--then=%s: there is only background", arg);
		o->policy.then_eager = true;
		return 0;
	default:
		return 1;
	}
}

static int check_uffd(const struct policy_options *o)
{
	if (o->mode == PAGER_PROCESS || o->mode == PAGER_UNIX)
		return kuf_error(0, "--engine=uffd: not with --pager=%s: only thread",
				 o->mode == PAGER_UNIX ? "unix" : "process");
	if (o->policy.kind == KUF_RECORDED || o->policy.record)
		return kuf_error(0, "--engine=uffd: not with recordings: --policy=lazy");
	return 0;
}

static int check_unix(struct policy_options *o)
{
	if (o->mode != PAGER_UNIX)
		return o->has_timeout ?
		       kuf_error(0, "--pager-timeout: only with --pager=unix:PATH") : 0;
	if (o->trace)
		return kuf_error(0, "--trace: not with --pager=unix:PATH: use --pager=process");
	if (!o->has_timeout)
		o->timeout_s = REMOTE_TIMEOUT_S;
	return 0;
}

int policy_check(struct policy_options *o)
{
	bool recorded = o->policy.kind == KUF_RECORDED && !o->eager;
	int err;

	if (o->eager && (o->mode || o->engine || o->policy.record || o->trace))
		return kuf_error(0, "%s: not with --policy=eager, the default: say --policy=lazy",
				 "--pager, --engine, --record, --trace");
	if (recorded && !o->replay)
		return kuf_error(0, "--policy=recorded: --replay=FILE is needed");
	if (!recorded && (o->replay || o->policy.then_eager))
		return kuf_error(0, "--replay and --then: only with --policy=recorded");
	if (o->engine == PAGER_UFFD) {
		err = check_uffd(o);
		if (err)
			return err;
	}
	err = check_unix(o);
	if (err)
		return err;
	if (!o->eager && !o->mode)
		o->mode = o->engine == PAGER_UFFD ? PAGER_THREAD : PAGER_PROCESS;
	return 0;
}

int policy_read(struct policy_options *o)
{
	int err;

	if (!o->replay)
		return 0;
	err = recording_read(o->replay, &o->entries, &o->policy.nr_replay);
	o->policy.replay = o->entries;
	return err;
}

void policy_free(struct policy_options *o)
{
	free(o->entries);
	o->entries = NULL;
}
