// SPDX-License-Identifier: GPL-2.0
/*
 * kuf save: asks a VM that runs for it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control.h"

static const char help[] =
"usage: kuf save SOCKET FILE\n"
"\n"
"Writes a VM that runs with --control=SOCKET to FILE: all of its state and memory, but\n"
"not its disk. The VM ends then; kuf restore FILE goes on with it. When it cannot be\n"
"saved it runs on. FILE is complete, or it is not there.\n"
"\n"
"Exit status: 0 saved; 1 not saved, the VM's kuf says why; 2 wrong usage.\n";

static int make_request(struct control_request *request, const char *path)
{
	size_t len = 0;

	*request = (struct control_request){ .op = CONTROL_SAVE };
	/* The VM has a working directory of its own. */
	if (path[0] != '/') {
		if (!getcwd(request->text, sizeof(request->text) - 1))
			return kuf_error(-errno, "the working directory");
		len = strlen(request->text);
		request->text[len++] = '/';
	}
	if (len + strlen(path) >= sizeof(request->text))
		return kuf_error(-ENAMETOOLONG, "%s", path);
	strcpy(request->text + len, path);
	return 0;
}

int cmd_save(int argc, char **argv)
{
	struct control_request request;
	struct control_reply reply;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return KUF_EXIT_OK;
	}
	if (argc != 3 || argv[1][0] == '-' || !argv[2][0]) {
		fputs(help, stderr);
		return KUF_EXIT_USAGE;
	}
	if (make_request(&request, argv[2]) || control_ask(argv[1], &request, &reply))
		return KUF_EXIT_FAILED;
	if (reply.err)
		kuf_error(reply.err, "not saved");
	return reply.err ? KUF_EXIT_FAILED : KUF_EXIT_OK;
}
