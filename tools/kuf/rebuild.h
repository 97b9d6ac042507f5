/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_REBUILD_H
#define KUF_REBUILD_H

#include "machine.h"
#include "options.h"
#include "proto.h"
#include "state.h"

/* Is there a disk for a VM that has one, and only then?  @what: the VM, for messages. */
int rebuild_check(const struct state *state, const struct options *o, const char *what);

/* The same of one that was sent, with what was announced before. */
int rebuild_check_sent(const struct state *state, const struct proto_config *sent,
		       const struct options *o);

/*
 * The machine that a state is of, with that loaded.  All of its memory is there and
 * nothing in it; its disk is paused, its vCPUs do not run, and its clocks stand still.
 */
int rebuild(struct machine *m, const struct state *state, const struct options *o);

#endif /* KUF_REBUILD_H */
