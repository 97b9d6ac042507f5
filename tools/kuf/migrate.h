/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_MIGRATE_H
#define KUF_MIGRATE_H

#include "machine.h"
#include "outgoing.h"

/*
 * Moves a machine that runs to where @to leads.  The caller has set o->cancel and the
 * origin's latency and bandwidth; others may look at @o meanwhile, as it says.
 *
 * 0: it runs there, and what it needed came from here: it is to be ended here.  Else
 * -errno after a message: as outgoing_run().
 */
int migrate_send(struct machine *m, struct outgoing *o, const struct net_address *to);
/* After that, with OUTGOING_CUT: as outgoing_recover(). */
int migrate_recover(struct outgoing *o, const struct net_address *to);

/*
 * Before a page of a VM that was given up is poisoned: recorded durably, so that nobody goes
 * on from files that do not tell.  -errno after a message.  Any thread.
 */
int migrate_lost(struct machine *m);

/*
 * The same to another destination, as outgoing_to_another(): @revoke: the journal of the
 * one that it was given to, "": that was revoked before.
 */
int migrate_to_another(struct machine *m, struct outgoing *o, const char *revoke,
		       const struct net_address *to);

#endif /* KUF_MIGRATE_H */
