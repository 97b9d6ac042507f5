/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_LOBBY_H
#define KUF_LOBBY_H

#include "stream.h"

/* Who must not be kept waiting, and cannot keep others waiting. */
#define LOBBY_SEATS		8
#define LOBBY_PATIENCE_MS	5000

/* Connections that have not said yet who they are.  For one thread. */
struct lobby {
	int listen_fd, cancel;
	struct {
		struct stream stream;
		u64 until_ns;
	} seats[LOBBY_SEATS];
};

/* Who is waited for. */
struct lobby_guest {
	enum proto_role role;
	/* All but PROTO_MAIN: what its HELLO has to be, apart from role and features. */
	const struct proto_hello *expect;
	const char *name;	/* of the stream */
	/* With @expect: main's, on which nothing is to come before, or -1. */
	int watch_fd;
	bool or_taken_back;	/* PROTO_TAKEN_BACK will do as well */
};

void lobby_open(struct lobby *l, int listen_fd, int cancel);
/*
 * Waits until one says a HELLO as expected, and takes it out.  All others are told that
 * they are not, and are closed.  @timeout_ms -1: for ever.  -ETIMEDOUT, and
 * -EPIPE (watch_fd), without a message.
 */
int lobby_wait(struct lobby *l, const struct lobby_guest *guest, struct stream *stream,
	       struct proto_hello *hello, int timeout_ms);
/* Closes all who are left, not the listening socket. */
void lobby_close(struct lobby *l);

/* Whether this kuf has what @hello requires: -EINVAL after a message. */
int lobby_check_features(const struct proto_hello *hello);

#endif /* KUF_LOBBY_H */
