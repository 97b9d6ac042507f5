/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_RELAY_H
#define KUF_TESTS_RELAY_H

#include <sys/types.h>

#include "proto.h"

/*
 * Somebody between source and destination who does one thing to one of their frames.
 */
enum relay_act {
	/* What nobody may notice. */
	RELAY_NOTHING,
	RELAY_OPTIONAL,		/* an optional frame of no known type before it */
	RELAY_PIECES,		/* bytes, with pauses */
	RELAY_LAST_HARMLESS = RELAY_PIECES,
	/* What has to be noticed. */
	RELAY_FLIP,		/* a bit, anywhere */
	RELAY_TRUNCATE,		/* and cut */
	RELAY_CUT,
	RELAY_REPEAT,
	RELAY_SKIP,
	RELAY_SWAP,		/* after the next one */
	RELAY_GARBAGE,		/* before it */
	/* With a checksum that is right: */
	RELAY_MAGIC,
	RELAY_VERSION,
	RELAY_EPOCH,
	RELAY_SEQUENCE,
	RELAY_LENGTH,
	RELAY_RESERVED,
	RELAY_FLAGS,
	RELAY_UNKNOWN_TYPE,
	RELAY_LAST_NOTICED = RELAY_UNKNOWN_TYPE,
	/* What may be noticed; with checksums that are right. */
	RELAY_OTHER_TYPE,
	RELAY_CONTENT,		/* a bit behind the header */
	RELAY_RANDOM,		/* all behind the header */
	RELAY_ACTS,
};

struct relay {
	const char *listen, *to;	/* unix:... */
	enum relay_act act;
	bool urgent, to_source;		/* which connection, which way */
	u32 frame;			/* the number of the frame */
	u64 seed;
	/* Acts so often, and others connect in place of those that are cut; 0: neither. */
	unsigned int cuts;
	pid_t pid;			/* if not 0: gets @signal before the frame goes on */
	int signal;
	u32 every;			/* after the first: so many frames later */

	/* After relay_join(). */
	bool acted;
	unsigned int done_cuts;
	u32 after;			/* frames that way that came later */
};

void relay_start(struct relay *r);
void relay_join(struct relay *r);
const char *relay_act_name(enum relay_act act);

#endif /* KUF_TESTS_RELAY_H */
