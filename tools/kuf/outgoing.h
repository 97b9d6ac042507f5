/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_OUTGOING_H
#define KUF_OUTGOING_H

#include "frame.h"
#include "net.h"
#include "lobby.h"
#include "origin.h"

/*
 * A VM that goes elsewhere: the source's side, from connecting until its memory is not
 * needed here any more.  For one thread; what is said so may be read by others.
 */

/*
 * What it is done with; in the order in which they are called, resume() last, if at all.
 * offer() and give_up() once more for another destination.
 */
struct outgoing_ops {
	/* Nothing of the VM moves from then on. */
	int (*pause)(void *vm);
	/* Durable: this epoch is used up, whatever comes of it. */
	int (*offer)(void *vm, u64 epoch);
	int (*save)(void *vm, struct frame_writer *w);
	/*
	 * Records durably that the VM is given up in that epoch, to the destination of
	 * that token; makes durable, and lets go of, what the destination is to use from
	 * now on.
	 * An error is the last chance to keep the VM; after 0 it must not run any more.
	 */
	int (*give_up)(void *vm, u64 epoch, const u8 *token);
	void (*resume)(void *vm);
};

enum outgoing_phase {
	OUTGOING_NONE,
	OUTGOING_CONNECTING,
	OUTGOING_STATE,		/* paused; the state is on its way */
	OUTGOING_READY,		/* waits for the destination to be ready */
	OUTGOING_GIVEN_UP,	/* serves memory; the VM is the destination's */
	OUTGOING_CUT,		/* the same, but connections were cut: outgoing_recover() */
	OUTGOING_DONE,
	OUTGOING_FAILED,	/* the VM runs on here, unless it was given up */
};

struct outgoing {
	const struct outgoing_ops *ops;
	void *vm;
	u8 session[PROTO_ID_SIZE];
	u64 epoch;			/* of the last offer; the next one's is one more */
	u8 token[PROTO_ID_SIZE];	/* the destination's: to be known again */
	u64 retry_ms;			/* how long it tries to connect again by itself */
	struct proto_config config;	/* mem_size and nr_cpus are the caller's */
	int cancel;			/* or -1 */
	struct origin origin;		/* its memory and speed are the caller's */

	/* Others may read these while it runs (READ_ONCE). */
	enum outgoing_phase phase;
	bool given_up;
	bool vacant;		/* and revoked there: nobody has it */
	u64 paused_ns, go_ns;

	struct stream main, urgent;
	struct frame_writer state;	/* since it was saved, for another destination */
};

/*
 * Does it all.  0: the destination has the VM and all it wants.  Else -errno after a
 * message: with OUTGOING_CUT outgoing_recover() goes on with it, with @given_up otherwise
 * the VM is lost here, and without it the VM goes on here.
 */
int outgoing_run(struct outgoing *o, const struct net_address *to);
/*
 * With OUTGOING_CUT: the destination never had the VM, and never will (journal_revoke()),
 * which the caller has recorded.  Then it can be offered to another one; as outgoing_run(),
 * but here it does not go on.
 */
void outgoing_vacate(struct outgoing *o);
int outgoing_to_another(struct outgoing *o, const struct net_address *to);
/*
 * In place of outgoing_run() of another process, which was killed after it gave the VM up:
 * what there is of that is set.  0: OUTGOING_CUT.
 */
int outgoing_adopt(struct outgoing *o);
/* With OUTGOING_CUT: connects again to that destination, and goes on; as outgoing_run(). */
int outgoing_recover(struct outgoing *o, const struct net_address *to);

/* With nobody at it any more; whatever became of it. */
void outgoing_free(struct outgoing *o);

const char *outgoing_phase_name(enum outgoing_phase phase);

#endif /* KUF_OUTGOING_H */
