/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_INCOMING_H
#define KUF_INCOMING_H

#include "comeback.h"

/*
 * A VM that comes here, until it may run: the destination's side of the phases.  For one
 * thread; from incoming_go() on its connections are handed on.
 */
struct incoming {
	struct lobby lobby;
	struct comeback comeback;
	struct stream main, urgent;
	int go_timeout_ms;		/* for a source to come back; -1: for ever */
	struct proto_hello hello;	/* the source's */
	struct proto_config config;
	u8 *state;			/* config.state_size bytes, for state_parse() */
	u64 state_ns, ready_ns, go_ns;	/* when END_OF_STATE came, READY went, GO came */
	bool went;			/* GO came: the VM is ours */
};

void incoming_init(struct incoming *in, int listen_fd, int cancel);
/* Waits for a source; @timeout_ms -1: for ever. */
int incoming_accept(struct incoming *in, int timeout_ms);
/* Receives all of the VM but its memory. */
int incoming_receive(struct incoming *in);
/*
 * It is loaded, and all memory is absent: waits until it may run.  From then on the
 * source never runs it again.  When the connections are cut nobody knows whether it may:
 * then it waits for the source to connect once more, and says what comeback.mem and
 * comeback.k are, which the caller has set.
 */
int incoming_go(struct incoming *in);
/*
 * After that, when the VM could not be started: tells the source, and waits for it to connect
 * and say GO once more.
 */
int incoming_go_again(struct incoming *in);
/* Tells the source, if it is there; the connections are not used here any more. */
void incoming_started(struct incoming *in, u64 now_ns);
/* After an error: the source is told, if it can still go on with its VM. */
void incoming_abort(struct incoming *in, const char *why);
void incoming_free(struct incoming *in);

#endif /* KUF_INCOMING_H */
