// SPDX-License-Identifier: GPL-2.0
/*
 * kuf recover: goes on with a move whose connections were cut.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "net.h"
#include "options.h"
#include "recover_files.h"

enum { OPT_RETRY = 256, OPT_ANOTHER, OPT_REVOKE, OPT_FROM_JOURNAL,
	OPT_FROM_MEMORY, OPT_HELP };

static const struct option long_options[] = {
	{ "retry", required_argument, NULL, OPT_RETRY },
	{ "to-another", required_argument, NULL, OPT_ANOTHER },
	{ "revoke", required_argument, NULL, OPT_REVOKE },
	{ "journal", required_argument, NULL, OPT_FROM_JOURNAL },
	{ "mem-path", required_argument, NULL, OPT_FROM_MEMORY },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf recover SOCKET [ADDRESS] [OPTION...]\n"
"       kuf recover --journal=FILE --mem-path=FILE ADDRESS [--retry=SEC]\n"
"\n"
"For a VM that kuf send gave up before its connections were cut: has the kuf of\n"
"SOCKET, which has its memory, connect again to the kuf that got the VM, where it\n"
"listens, or at ADDRESS, if that leads there now. The guest, which waited for what was\n"
"missing, goes on; if it did not know yet that it may run, it starts. Ends as kuf send.\n"
"\n"
"Only that same kuf is accepted: another one that listens there does not have the VM.\n"
"kuf status SOCKET says recoverable for as long as this is to be done.\n"
"\n"
"In the second form, for one whose own kuf was killed after it gave the VM up: is the\n"
"source in its place, with what it left in these two files, its own --journal and\n"
"--mem-path.\n"
"\n"
"  --retry=SEC       try so long, now and, once it runs there, after each further cut (0:\n"
"                    once)\n"
"  --to-another=ADDRESS  give it to the kuf that listens there instead, as kuf send would;\n"
"                    only if the one that got it never started it, and never will:\n"
"  --revoke=JOURNAL  its file of kuf recv --journal, not a copy. Its kuf must have ended,\n"
"                    and is refused the VM from then on\n"
"\n"
"Exit status: 0 it moved; 1 there is nothing to recover; 2 wrong usage; 7 it is lost; 8\n"
"the connections could not be made, or were cut again: it can be tried once more.\n";

static int set_journal(struct control_request *r, const char *path)
{
	char absolute[PATH_MAX];

	if (!realpath(path, absolute))
		return kuf_error(-errno, "--revoke=%s", path);
	strcpy(r->revoke, absolute);
	return 0;
}

/* One whose process is not there any more. */
struct from_files {
	const char *journal, *mem_path;
};

static int check_files(const struct control_request *r, const struct from_files *files)
{
	if (!files->journal || !files->mem_path)
		return kuf_error(0, "--journal=FILE and --mem-path=FILE are only of use together");
	if (r->op != CONTROL_RECOVER || r->revoke[0])
		return kuf_error(0, "--journal=FILE: not with --to-another");
	return 0;
}

static int parse(struct control_request *r, const char **socket, struct from_files *files,
		 int argc, char **argv)
{
	unsigned int retry = 0;
	int option, err = 0;

	while (!err && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPT_RETRY:
			err = options_parse_number("retry", optarg, 0, CONTROL_RETRY_MAX / 1000,
						   &retry);
			break;
		case OPT_ANOTHER:
			r->op = CONTROL_ANOTHER;
			err = control_set_address(r, optarg);
			break;
		case OPT_FROM_JOURNAL:
			files->journal = optarg;
			break;
		case OPT_FROM_MEMORY:
			files->mem_path = optarg;
			break;
		case OPT_REVOKE:
			err = set_journal(r, optarg);
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		default:
			fputs("kuf recover --help shows all options\n", stderr);
			return -EINVAL;
		}
	}
	if (err)
		return err;
	r->retry_ms = retry * 1000ull;
	if (files->journal || files->mem_path) {
		if (optind + 1 != argc)
			return kuf_error(0, "ADDRESS is needed; kuf recover --help says more");
		return check_files(r, files) ?: control_set_address(r, argv[optind]);
	}
	if (optind + 1 != argc && optind + 2 != argc)
		return kuf_error(0, "SOCKET is needed; kuf recover --help says more");
	*socket = argv[optind];
	if (r->revoke[0] && r->op != CONTROL_ANOTHER)
		return kuf_error(0, "--revoke=JOURNAL: only with --to-another=ADDRESS");
	if (optind + 1 == argc)
		return 0;
	if (r->op == CONTROL_ANOTHER)
		return kuf_error(0, "--to-another=ADDRESS: no other ADDRESS then");
	return control_set_address(r, argv[optind + 1]);
}

int cmd_recover(int argc, char **argv)
{
	struct control_request request = { .op = CONTROL_RECOVER };
	struct from_files files = {};
	const char *socket = NULL;
	int err;

	err = parse(&request, &socket, &files, argc, argv);
	if (err)
		return err > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	if (files.journal)
		return recover_files(files.journal, files.mem_path, request.text,
				     request.retry_ms);
	return control_move(socket, &request);
}
