// SPDX-License-Identifier: GPL-2.0
/*
 * kuf save: asks a VM that runs for it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
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

	*request = (struct control_request){};
	/* The VM has a working directory of its own. */
	if (path[0] != '/') {
		if (!getcwd(request->path, sizeof(request->path) - 1))
			return kuf_error(-errno, "the working directory");
		len = strlen(request->path);
		request->path[len++] = '/';
	}
	if (len + strlen(path) >= sizeof(request->path))
		return kuf_error(-ENAMETOOLONG, "%s", path);
	strcpy(request->path + len, path);
	return 0;
}

static int ask(const char *path, const struct control_request *request)
{
	struct control_reply reply;
	struct sockaddr_un address;
	int fd, err;

	err = control_address(&address, path);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return kuf_error(-errno, "socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err = kuf_error(-errno, "%s", path);
	else if (send(fd, request, sizeof(*request), MSG_NOSIGNAL) != sizeof(*request) ||
		 recv(fd, &reply, sizeof(reply), 0) != sizeof(reply))
		err = kuf_error(-EPIPE, "the VM of %s does not answer", path);
	else if (reply.err)
		err = kuf_error(reply.err, "not saved");
	close(fd);
	return err;
}

int cmd_save(int argc, char **argv)
{
	struct control_request request;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return KUF_EXIT_OK;
	}
	if (argc != 3 || argv[1][0] == '-' || !argv[2][0]) {
		fputs(help, stderr);
		return KUF_EXIT_USAGE;
	}
	if (make_request(&request, argv[2]) || ask(argv[1], &request))
		return KUF_EXIT_FAILED;
	return KUF_EXIT_OK;
}
