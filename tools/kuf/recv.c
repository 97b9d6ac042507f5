// SPDX-License-Identifier: GPL-2.0
/*
 * kuf recv: goes on with a VM that another kuf sends.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "incoming.h"
#include "options.h"
#include "policy.h"
#include "rebuild.h"
#include "state.h"
#include "status.h"
#include "stream_source.h"
#include "trace.h"

struct recv {
	struct options options;
	struct policy_options how;
	struct net_address at;
	int listen_fd;
	unsigned int request_timeout_ms;
	enum break_kind fault;
	struct machine machine;
	struct incoming incoming;
	struct state state;
	struct stream_source source;
	struct control control;
	struct trace_source *trace;
	struct progress progress;
};

enum { OPT_LISTEN = 256, OPT_REQUEST_TIMEOUT, OPT_BREAK, OPT_HELP };

static const struct option long_options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "policy", required_argument, NULL, OPT_POLICY },
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
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "request-timeout", required_argument, NULL, OPT_REQUEST_TIMEOUT },
	{ "break", required_argument, NULL, OPT_BREAK },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf recv --listen=ADDRESS [OPTION...]\n"
"\n"
"Waits for a VM that kuf send moves to ADDRESS, tcp:HOST:PORT or unix:PATH, and goes on\n"
"with it. It runs at once; its memory is absent, and comes from the other kuf page by\n"
"page, for KVM's own accesses as well (needs OWN).\n"
"\n"
"  --listen=ADDRESS  HOST: a numeric address of this host, IPv6 in brackets, or\n"
"                    localhost; PORT 0: any, which is told\n"
"  --policy=HOW      when memory comes\n"
"                    lazy:       page by page, as it is needed\n"
"                    background: the same, and meanwhile all the rest (the default)\n"
"                    recorded:   the same, and meanwhile what a recording names\n"
"  --record=FILE     write down what was needed, in that order\n"
"  --replay=FILE     with recorded: the recording\n"
"  --then=background with recorded: and after it all the rest\n"
"  --trace=FILE      a line for each page: time_us gpa kind latency_us (see kuf plot)\n"
"  --engine=kuf|uffd what stops the guest at absent pages: KVM userfault, or, to\n"
"                    compare with, userfaultfd: lazy or background, memory of anon or\n"
"                    shmem (kuf)\n"
"  --backing=KIND    what memory is made of: anon, shmem, gmem (as it was)\n"
"  --console=FILE    where the serial console goes (stdout)\n"
"  --disk=FILE       the disk, the same file as the other kuf's; if it has one\n"
"  --disk-latency=US each of its requests takes so many microseconds longer (0)\n"
"  --control=SOCKET  where kuf save, send and status find it\n"
"  --journal=FILE    record there whose the VM is, so that it never runs twice, even if kuf\n"
"                    is killed; without it that is known as long as kuf lives\n"
"  --mem-path=FILE   memory is this file, a new one (see kuf run)\n"
"  --timeout=SEC     stop the guest so long after it began to run here (never); not once\n"
"                    it was given up\n"
"  --request-timeout=MS  when a page that the guest waits for does not come within\n"
"                    that, the connections count as cut (30000)\n"
"  --break=early-clear|flip|drop  for tests: with one page that the guest waits for do\n"
"                    what must not happen: let it go before its content is there, flip\n"
"                    a bit of it, or lose the reply. It is noticed: exit status 4\n"
"\n"
"If the network, or the other kuf, is lost before all memory came, the guest goes on as\n"
"far as it gets with what it has, and waits then: until the other kuf connects to ADDRESS\n"
"again (kuf recover there), or --timeout or whatever else ends kuf. If that happens\n"
"while it is not known whether the VM was given up, it does not run before the other\n"
"kuf says so. The same if its disk or journal fail then: it starts when that is mended\n"
"and the other kuf connects again. --timeout does not count before it runs.\n"
"\n"
"Nothing is encrypted, nor is it checked who the other side is: whoever can connect to\n"
"ADDRESS can send a VM, which then is run with this user's permissions. Listen where\n"
"only those can connect whom you trust; kuf send --help tells of tunnels.\n"
"\n"
"Exit status: as kuf run; 1 also if no VM came, which then runs on where it was; 7 the\n"
"other side was lost, and pages of the guest with it; 8 it was given up, and never ran;\n"
"with --journal its source can give it to another one.\n";

static int parse_one(struct recv *r, int option, const char *arg)
{
	int fault;

	switch (option) {
	case OPT_LISTEN:
		return net_parse(&r->at, arg);
	case OPT_REQUEST_TIMEOUT:
		return options_parse_number("request-timeout", arg, 10, 1000000000,
					    &r->request_timeout_ms);
	case OPT_BREAK:
		fault = break_by_name(arg);
		r->fault = fault < 0 ? BREAK_NONE : fault;
		return fault < 0 ? fault : 0;
	case OPT_HELP:
		fputs(help, stdout);
		return 1;
	default:
		fputs("kuf recv --help shows all options\n", stderr);
		return -EINVAL;
	}
}

static int parse(struct recv *r, int argc, char **argv)
{
	int option, err;

	r->options.backing = -1;
	/* The connections are this process's. */
	r->how.mode = PAGER_THREAD;
	r->how.policy.kind = KUF_EAGER;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		err = policy_option(&r->how, option, optarg);
		if (err > 0)
			err = options_machine(&r->options, option, optarg);
		if (err > 0)
			err = parse_one(r, option, optarg);
		if (err)
			return err;
	}
	if (optind != argc || !r->at.text)
		return kuf_error(0, "--listen=ADDRESS is needed, and nothing but options");
	if (r->how.eager)
		return kuf_error(0, "--policy=eager: not here, as the guest runs at once");
	return options_check_machine(&r->options) ?: policy_check(&r->how);
}

/*
 * Only after the state was loaded, as kuf restore explains.  All memory is absent then;
 * nobody serves it before stream_source_start().
 */
static int arm(struct recv *r)
{
	struct pager_config config = {
		.engine = r->how.engine,
		.mode = r->how.mode,
		.own = true,
		.ops = stream_source_ops(),
		.source = &r->source,
		.policy = r->how.policy,
	};
	int err;

	err = stream_source_init(&r->source, &r->machine.vm.mem, &r->incoming.main,
				 &r->incoming.urgent);
	if (err)
		return err;
	r->source.fault = r->fault;
	if (r->request_timeout_ms)
		r->source.timeout_ms = r->request_timeout_ms;
	r->machine.from = &r->source;
	r->incoming.comeback.mem = &r->machine.vm.mem;
	err = trace_pager(&r->trace, r->how.trace, &config);
	if (!err)
		err = machine_start_pager(&r->machine, &config);
	r->incoming.comeback.k = r->machine.pager.k;
	return err;
}

/* After READY nobody else has the VM, and what fails then may lose it. */
static int prepare(struct recv *r)
{
	int err;

	err = state_time_prepare(&r->machine);
	if (!err)
		err = vcpus_prepare(&r->machine.vm);
	return err ?: comeback_prepare(&r->incoming.comeback);
}

static void coming(struct machine *m, enum machine_coming how)
{
	__atomic_store_n(&m->coming, how, __ATOMIC_RELEASE);
}

/* It can be written: after GO that must not fail. */
static int begin_journal(struct recv *r)
{
	const struct proto_hello *hello = &r->incoming.hello;
	struct machine *m = &r->machine;
	int err;

	memcpy(m->session, hello->session, sizeof(m->session));
	m->epoch = hello->epoch + 1;
	coming(m, MACHINE_RECEIVES);
	err = journal_may_come(&m->journal, m->session, m->epoch);
	return err ?: journal_write(&m->journal, m->session, m->epoch, JOURNAL_COMES);
}

static int receive(struct recv *r)
{
	struct incoming *in = &r->incoming;
	char text[NET_TEXT_MAX];
	int err;

	err = journal_open(&r->machine.journal, r->options.journal);
	coming(&r->machine, MACHINE_LISTENS);
	if (!err && r->options.control)
		err = control_start(&r->control, &r->machine, r->options.control);
	if (err)
		return err;
	r->listen_fd = net_listen(&r->at);
	if (r->listen_fd < 0)
		return r->listen_fd;
	net_say_address(r->listen_fd, &r->at, text);
	kuf_say("listening at %s", text);
	incoming_init(in, r->listen_fd, -1);
	err = incoming_accept(in, -1);
	if (!err)
		err = begin_journal(r);
	if (!err)
		err = incoming_receive(in);
	if (!err)
		err = state_parse(&r->state, in->state, in->config.state_size,
				  in->config.state_frames);
	if (!err)
		err = rebuild_check_sent(&r->state, &in->config, &r->options);
	if (!err)
		err = policy_read(&r->how);
	if (!err)
		err = rebuild(&r->machine, &r->state, &r->options);
	if (!err)
		err = arm(r);
	if (!err)
		err = prepare(r);
	if (!err) {
		coming(&r->machine, MACHINE_WAITS_FOR_GO);
		err = incoming_go(in);
	}
	if (err)
		incoming_abort(in, "the destination cannot go on with it, and says why there");
	return err;
}

/*
 * Whoever is killed from here on may have run it.  After an error the file may say so, too:
 * it is to say that it was not, or nobody could give the VM to another one.
 */
static int record_here(struct machine *m)
{
	int err = journal_write(&m->journal, m->session, m->epoch, JOURNAL_HERE);

	if (err)
		journal_write(&m->journal, m->session, m->epoch, JOURNAL_COMES);
	return err;
}

/* What may fail is done: the VM runs when this returns 0, and did not before. */
static int start(struct recv *r)
{
	struct machine *m = &r->machine;
	int err;

	err = blk_reopen(&m->blk);
	if (!err)
		err = state_time_start(m);
	if (!err)
		err = record_here(m);
	if (err)
		return err;
	blk_resume(&m->blk);
	vcpus_go(&m->vm);
	return 0;
}

/* The VM is ours: nobody else can go on with it.  Neither is it to be lost here. */
static int run(struct recv *r)
{
	struct machine *m = &r->machine;
	int err;

	while (start(r)) {
		err = incoming_go_again(&r->incoming);
		if (err)
			return err;
	}
	kuf_say("the guest runs");
	incoming_started(&r->incoming, stream_now_ns());
	r->source.k = m->pager.k;
	r->source.nr_never = vm_poisoned(&m->vm);
	stream_source_start(&r->source);
	coming(m, MACHINE_HERE);
	comeback_start(&r->incoming.comeback, &r->source);
	kuf_say("received: loaded in %llu ms, runs %llu ms after it was given up",
		(unsigned long long)(r->incoming.ready_ns - r->incoming.state_ns) / 1000000,
		(unsigned long long)(stream_now_ns() - r->incoming.go_ns) / 1000000);
	machine_show_progress(m, &r->progress);
	return 0;
}

static int finish(struct recv *r, int code)
{
	const struct stream_source_counts *c = &r->source.counts;

	/* From here on nobody comes back. */
	comeback_stop(&r->incoming.comeback);
	net_unlisten(&r->at, r->listen_fd);
	r->listen_fd = -1;
	/* What a guest ends with that did not miss anything is its own. */
	if (READ_ONCE(r->source.end) == STREAM_SOURCE_CUT && code == KUF_EXIT_TIMEOUT &&
	    !r->source.complete)
		code = KUF_EXIT_LOST;
	code = machine_finish(&r->machine, code);
	if (!r->incoming.went)
		return code;
	stream_source_finish(&r->source);
	kuf_say("received: %llu urgent pages, %llu in the background, %llu zeroes",
		(unsigned long long)c->demand_pages, (unsigned long long)c->background_pages,
		(unsigned long long)c->zero_pages);
	kuf_say("received: %llu wrong, %llu came twice", (unsigned long long)c->wrong_pages,
		(unsigned long long)c->repeated_pages);
	if (c->lost_pages)
		kuf_say("received: %llu lost at the source",
			(unsigned long long)c->lost_pages);
	return code;
}

int cmd_recv(int argc, char **argv)
{
	struct recv *r = calloc(1, sizeof(*r));
	int code, err;

	if (!r) {
		kuf_error(-ENOMEM, "no memory");
		return KUF_EXIT_FAILED;
	}
	machine_init(&r->machine);
	r->listen_fd = -1;
	r->source.bell = -1;
	err = parse(r, argc, argv);
	if (err) {
		free(r);
		return err > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	}
	incoming_init(&r->incoming, -1, -1);
	err = receive(r);
	if (!err)
		err = run(r);
	code = machine_wait(&r->machine, err, r->options.timeout_s);
	/* It was given up, and did not run: its source has all that it takes. */
	if (err && r->incoming.went)
		code = KUF_EXIT_CUT;
	progress_stop(&r->progress);
	control_stop(&r->control);
	code = finish(r, code);
	machine_print_report(&r->machine);
	machine_release(&r->machine);
	trace_source_destroy(r->trace);
	stream_source_free(&r->source);
	incoming_free(&r->incoming);
	net_unlisten(&r->at, r->listen_fd);
	policy_free(&r->how);
	free(r);
	return code;
}
