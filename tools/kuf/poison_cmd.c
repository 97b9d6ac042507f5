// SPDX-License-Identifier: GPL-2.0
/*
 * kuf poison: marks pages of a VM that runs as lost.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"

enum { OPT_CLEAR = 256, OPT_HELP };

static const struct option long_options[] = {
	{ "clear", no_argument, NULL, OPT_CLEAR },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf poison SOCKET GPA [LEN] [--clear]\n"
"\n"
"Marks LEN bytes (4096) of the memory of the VM that has --control=SOCKET as lost, from the\n"
"guest physical address GPA on; both are multiples of 4096, 0x... is hexadecimal. When the\n"
"guest touches such a page it gets a machine check with its address, as if the memory were\n"
"broken; a disk request of it fails. Pages stay poisoned when the VM is saved or moved.\n"
"\n"
"  --clear           those that are poisoned are usable again, and zero; where the VM runs\n"
"\n"
"Needs KVM_USERFAULT_FEATURE_POISON. Exit status: 0 done; 1 not done, the VM's kuf says why;\n"
"2 wrong usage.\n";

static int parse_number(const char *what, const char *text, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (text[0] >= '0' && text[0] <= '9' && !*end && !errno)
		return 0;
	return kuf_error(0, "%s=%s: a number of bytes is needed", what, text);
}

static int parse(struct control_request *request, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPT_CLEAR:
			request->op = CONTROL_UNPOISON;
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (argc - optind < 2 || argc - optind > 3) {
		fputs(help, stderr);
		return -EINVAL;
	}
	request->len = PAGE_SIZE;
	if (parse_number("GPA", argv[optind + 1], &request->gpa) ||
	    (argc - optind == 3 && parse_number("LEN", argv[optind + 2], &request->len)))
		return -EINVAL;
	if (request->gpa % PAGE_SIZE || request->len % PAGE_SIZE || !request->len)
		return kuf_error(0, "GPA and LEN are multiples of %lu", PAGE_SIZE);
	return 0;
}

int cmd_poison(int argc, char **argv)
{
	struct control_request request = { .op = CONTROL_POISON };
	struct control_reply reply;
	int r;

	r = parse(&request, argc, argv);
	if (r)
		return r > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	if (control_ask(argv[optind], &request, &reply))
		return KUF_EXIT_FAILED;
	if (reply.err)
		kuf_error(reply.err, "not done");
	return reply.err ? KUF_EXIT_FAILED : KUF_EXIT_OK;
}
