/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_CONTROL_H
#define KUF_CONTROL_H

#include <limits.h>

#include "machine.h"

enum control_op {
	CONTROL_SAVE = 1,	/* to path */
	CONTROL_STATUS,		/* with a text */
};

/* Of one packet each way. */
struct control_request {
	u32 op;
	u32 reserved;		/* 0 */
	char path[PATH_MAX];	/* absolute, ends with 0; all 0 if there is none */
};

#define CONTROL_TEXT_MAX	(16u << 10)

struct control_answer {
	s32 err;
	u32 length;		/* of the text, with its 0; the packet ends there */
	char text[CONTROL_TEXT_MAX];
};

/*
 * Asks the VM of the socket at @path, and checks what it answers.  0, or an
 * error after a message.
 */
int control_ask(const char *path, const struct control_request *request,
		struct control_answer *answer);

/*
 * A socket by which the VM can be saved, or asked what it does.  Whoever can connect to
 * it can stop the VM and have a file written by it: it is the user's own, of mode 0600.
 */
struct control {
	struct machine *machine;
	const char *path;
	int socket;
	int stop;		/* eventfd */
	pthread_t thread;
	bool has_thread;
	struct control_answer answer;	/* the thread's */
};

int control_start(struct control *c, struct machine *m, const char *path);
/* After the end of the VM; also for one that was never started. */
void control_stop(struct control *c);

/* Sets @address; -EINVAL after a message when @path is too long. */
struct sockaddr_un;
int control_address(struct sockaddr_un *address, const char *path);

#endif /* KUF_CONTROL_H */
