// SPDX-License-Identifier: GPL-2.0
/*
 * kuf restore: goes on with a VM that was saved.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "options.h"
#include "policy.h"
#include "rebuild.h"
#include "snapshot.h"
#include "status.h"
#include "trace.h"

struct restore {
	struct options options;
	struct policy_options how;
	const char *file;
	const char *resave;	/* file, or NULL */
	struct machine machine;
	struct snapshot snapshot;
	struct image image;	/* its memory */
	struct pager_config pager;
	struct trace_source *trace;
	struct progress progress;
	struct control control;
};

enum { OPT_RESAVE = 256, OPT_HELP };

static const struct option long_options[] = {
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "pager", required_argument, NULL, OPT_PAGER },
	{ "pager-timeout", required_argument, NULL, OPT_PAGER_TIMEOUT },
	{ "engine", required_argument, NULL, OPT_ENGINE },
	{ "record", required_argument, NULL, OPT_RECORD },
	{ "replay", required_argument, NULL, OPT_REPLAY },
	{ "then", required_argument, NULL, OPT_THEN },
	{ "trace", required_argument, NULL, OPT_TRACE },
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "disk-latency", required_argument, NULL, OPT_DISK_LATENCY },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "journal", required_argument, NULL, OPT_JOURNAL },
	{ "mem-path", required_argument, NULL, OPT_MEM_PATH },
	{ "resave", required_argument, NULL, OPT_RESAVE },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf restore FILE [OPTION...]\n"
"\n"
"Goes on with a VM that kuf save wrote to FILE.\n"
"\n"
POLICY_HELP
"  --backing=KIND    what memory is made of: anon, shmem, gmem (as it was)\n"
"  --console=FILE    where the serial console goes (stdout)\n"
"  --disk=FILE       the disk, as the guest left it; if it had one\n"
"  --disk-latency=US each of its requests takes so many microseconds longer (0)\n"
"  --control=SOCKET  where kuf save, send and status find it\n"
"  --journal=FILE    record there whose the VM is (see kuf recv); refused if it is another\n"
"                    host's now\n"
"  --resave=FILE     do not run the guest, but save it again: the file is the same\n"
"  --mem-path=FILE   memory is this file, a new one (see kuf run)\n"
"  --timeout=SEC     stop the guest then (never); not once it was given up\n"
"\n"
"Nobody may write to FILE while it is a source of pages. Exit status: as kuf run.\n";

static int parse_one(struct restore *r, int option, const char *arg)
{
	switch (option) {
	case OPT_RESAVE:
		r->resave = arg;
		return 0;
	case OPT_HELP:
		fputs(help, stdout);
		return 1;
	default:
		fputs("kuf restore --help shows all options\n", stderr);
		return -EINVAL;
	}
}

static int parse(struct restore *r, int argc, char **argv)
{
	int option, err;

	r->options.backing = -1;
	r->how.eager = true;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		err = policy_option(&r->how, option, optarg);
		if (err > 0)
			err = options_machine(&r->options, option, optarg);
		if (err > 0)
			err = parse_one(r, option, optarg);
		if (err)
			return err;
	}
	if (optind + 1 != argc)
		return kuf_error(0, "one FILE is needed; kuf restore --help shows all options");
	r->file = argv[optind];
	return options_check_machine(&r->options) ?: policy_check(&r->how);
}

/*
 * Only after the state: what loading it makes KVM write to memory is not in the way, and
 * what that needs is not absent.  Pages get their saved content afterwards.
 */
static int bring_memory(struct restore *r)
{
	struct machine *m = &r->machine;
	int err;

	if (!r->how.eager)
		return machine_start_pager(m, &r->pager);
	err = snapshot_load_memory(&r->image, &m->vm.mem);
	return err ?: machine_start_pager(m, NULL);
}

static int start(struct restore *r)
{
	const struct options *o = &r->options;
	struct machine *m = &r->machine;
	int err;

	err = snapshot_open(&r->snapshot, r->file);
	if (!err)
		err = rebuild_check(&r->snapshot.state, o, "the saved VM");
	if (!err)
		err = policy_read(&r->how);
	if (err)
		return err;
	snapshot_image(&r->snapshot, &r->image);
	r->pager = (struct pager_config){
		.engine = r->how.engine,
		.mode = r->how.mode,
		.own = true,
		.ops = image_ops(&r->image),
		.source = &r->image,
		.policy = r->how.policy,
		.remote = {
			.path = r->how.socket,
			.timeout_s = r->how.timeout_s,
			.file = r->snapshot.fd,
		},
	};
	if (r->how.mode == PAGER_UNIX)
		err = remote_check(&r->pager.remote);
	if (err)
		return err;
	memcpy(r->pager.remote.session, r->snapshot.file.session,
	       sizeof(r->pager.remote.session));
	memcpy(m->session, r->snapshot.file.session, sizeof(m->session));
	err = journal_open(&m->journal, o->journal);
	if (!err)
		err = journal_may_go_on(&m->journal, m->session, &m->epoch);
	if (!err && !r->resave)
		err = journal_write(&m->journal, m->session, m->epoch, JOURNAL_HERE);
	if (err)
		return err;
	err = trace_pager(&r->trace, r->how.trace, &r->pager);
	if (err)
		return err;
	if (r->how.mode == PAGER_PROCESS)
		err = machine_fork_pager(m, &r->pager);
	if (!err)
		err = rebuild(m, &r->snapshot.state, o);
	if (!err)
		err = bring_memory(r);
	if (err || r->resave)
		return err ?: snapshot_write(m, r->resave);
	err = state_time_prepare(m);
	if (!err)
		err = state_time_start(m);
	if (!err)
		err = vcpus_prepare(&m->vm);
	if (err)
		return err;
	blk_resume(&m->blk);
	/* As kuf run: it can be found before it runs. */
	if (o->control)
		err = control_start(&r->control, m, o->control);
	if (err)
		return err;
	vcpus_go(&m->vm);
	kuf_say("the guest runs");
	if (!r->how.eager)
		machine_show_progress(m, &r->progress);
	return 0;
}

int cmd_restore(int argc, char **argv)
{
	struct restore *r = calloc(1, sizeof(*r));
	int code, err;

	if (!r) {
		kuf_error(-ENOMEM, "%zu bytes for kuf restore", sizeof(*r));
		return KUF_EXIT_FAILED;
	}
	machine_init(&r->machine);
	r->snapshot.fd = -1;
	err = parse(r, argc, argv);
	if (err) {
		free(r);
		return err > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	}
	err = start(r);
	if (!err && r->resave)
		vm_stop(&r->machine.vm, KUF_EXIT_OK);
	code = machine_wait(&r->machine, err, r->options.timeout_s);
	progress_stop(&r->progress);
	control_stop(&r->control);
	code = machine_finish(&r->machine, code);
	machine_print_report(&r->machine);
	machine_release(&r->machine);
	snapshot_close(&r->snapshot);
	trace_source_destroy(r->trace);
	policy_free(&r->how);
	free(r);
	return code;
}
