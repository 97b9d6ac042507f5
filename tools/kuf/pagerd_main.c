// SPDX-License-Identifier: GPL-2.0
/*
 * kuf pager: fills the memory of VMs that other processes run.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "options.h"
#include "pagerd.h"

/* Each VM has about so many files open, one that comes has more for a moment. */
#define VM_FILES	10
#define OTHER_FILES	160

enum { OPT_LISTEN = 256, OPT_BANDWIDTH, OPT_MAX_VMS, OPT_HELP };

static const struct option long_options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "bandwidth", required_argument, NULL, OPT_BANDWIDTH },
	{ "max-vms", required_argument, NULL, OPT_MAX_VMS },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf pager --listen=SOCKET [OPTION...]\n"
"\n"
"Fills the memory of VMs that kuf restore --pager=unix:SOCKET goes on with, from the\n"
"files that they were saved to, which come with them. It can be killed, stopped and\n"
"started again at any time: VMs wait meanwhile (kuf restore --pager-timeout), and\n"
"nothing is lost. On SIGTERM and SIGINT it ends in order.\n"
"\n"
"  --listen=SOCKET   where, of mode 0600; only this user and root are served\n"
"  --bandwidth=BYTES bytes a second for what nobody waits for, with K, M or G, of all\n"
"                    VMs together, who share it evenly (no limit)\n"
"  --max-vms=N       refuse more VMs than that at a time, up to 1024 (64)\n"
"\n"
"In each round every VM gets up to 64 pages that it waits for; then one VM gets up to 16\n"
"pages that nobody waits for. Whoever waits for a file, all VMs wait.\n"
"\n"
"Exit status: 0 it was told to end; 1 it could not work; 2 wrong usage.\n";

static int parse(struct pagerd_options *o, int argc, char **argv)
{
	int option, err = 0;

	while (!err && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPT_LISTEN:
			o->path = strncmp(optarg, "unix:", 5) ? optarg : optarg + 5;
			break;
		case OPT_BANDWIDTH:
			err = options_parse_bandwidth(optarg, &o->bandwidth);
			break;
		case OPT_MAX_VMS:
			err = options_parse_number("max-vms", optarg, 1, PAGERD_VMS_MAX,
						   &o->max_vms);
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		default:
			fputs("kuf pager --help shows all options\n", stderr);
			return -EINVAL;
		}
	}
	if (!err && (optind != argc || !o->path || !*o->path))
		err = kuf_error(0, "--listen=SOCKET is needed, and nothing but options");
	return err;
}

/* As many files as may be, and enough. */
static int allow_files(unsigned int max_vms)
{
	rlim_t need = max_vms * VM_FILES + OTHER_FILES;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return kuf_error(-errno, "RLIMIT_NOFILE");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		return kuf_error(-errno, "RLIMIT_NOFILE");
	if (limit.rlim_cur < need)
		return kuf_error(-EMFILE,
				 "--max-vms=%u: %llu files are needed, of %llu: raise ulimit -Hn",
				 max_vms, (unsigned long long)need,
				 (unsigned long long)limit.rlim_cur);
	return 0;
}

int cmd_pager(int argc, char **argv)
{
	struct pagerd_options o = { .max_vms = PAGERD_VMS };
	struct pagerd d;
	int err;

	err = parse(&o, argc, argv);
	if (err)
		return err > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	err = allow_files(o.max_vms);
	if (err)
		return KUF_EXIT_FAILED;
	/* Whoever read what it says may go. */
	signal(SIGPIPE, SIG_IGN);
	err = pagerd_open(&d, &o);
	if (!err)
		err = pagerd_catch_signals(&d);
	if (!err) {
		kuf_say("pager: at %s, for up to %u VMs", o.path, o.max_vms);
		do {
			err = pagerd_round(&d, -1);
		} while (!err);
	}
	pagerd_close(&d);
	return err > 0 ? KUF_EXIT_OK : KUF_EXIT_FAILED;
}
