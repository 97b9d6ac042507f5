/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_CONTROL_H
#define KUF_CONTROL_H

#include <limits.h>

#include "machine.h"

/*
 * A socket by which the VM can be saved.  Whoever can connect to it can stop the VM and
 * have a file written by it: it is the user's own, of mode 0600.
 */
struct control {
	struct machine *machine;
	const char *path;
	int socket;
	int stop;		/* eventfd */
	pthread_t thread;
	bool has_thread;
};

/* Of one packet each way. */
struct control_request {
	char path[PATH_MAX];	/* absolute, ends with 0 */
};

struct control_reply {
	s32 err;
};

int control_start(struct control *c, struct machine *m, const char *path);
/* After the end of the VM; also for one that was never started. */
void control_stop(struct control *c);

/* Sets @address; -EINVAL after a message when @path is too long. */
struct sockaddr_un;
int control_address(struct sockaddr_un *address, const char *path);

#endif /* KUF_CONTROL_H */
