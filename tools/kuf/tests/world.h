/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_WORLD_H
#define KUF_TESTS_WORLD_H

#include <pthread.h>

#include <kuf/kuf.h>

#include "incoming.h"
#include "journal.h"
#include "outgoing.h"
#include "stream_source.h"

/*
 * Both sides of a migration in one process, on any host: the source has memory and the
 * destination a context of libkuf, neither has a VM.
 */
#define WORLD_MEM	MIN_MEM	/* at most, and unless said otherwise */
#define WORLD_PAGES	(WORLD_MEM / PAGE_SIZE)
#define WORLD_STATE	(150 << 10)	/* more than a frame */
/* For what comes, however busy the host is. */
#define WORLD_PATIENCE_MS	60000

enum world_error {		/* where somebody fails on purpose */
	WORLD_FINE,
	WORLD_NO_SAVE,
	WORLD_NO_GIVE_UP,
	WORLD_NO_LOAD,		/* the destination cannot use the state */
	WORLD_VANISH,		/* the destination vanishes instead of READY */
};

enum world_part { WORLD_BOTH, WORLD_SOURCE, WORLD_DESTINATION };

struct world {
	/* Before world_start(). */
	enum world_part part;	/* of a world of two processes */
	const char *journals[2];	/* of source and destination, or NULL */
	const char *mem_path;	/* the source's memory is a file, or NULL */
	/* Who runs the VM: source, destination; for others to see, or NULL. */
	unsigned int *runs;
	const char *listen;	/* an address */
	const char *connect;	/* another one for the source, or NULL: where it listens */
	enum world_error error;
	enum kuf_policy_kind policy;
	const struct kuf_trace_entry *replay;	/* KUF_RECORDED */
	u64 nr_replay;
	enum break_kind fault;
	u64 latency_ns, bandwidth;
	int timeout_ms;
	u64 mem_size;		/* 0: WORLD_MEM */
	int (*load)(struct world *w);	/* NULL: the state is the one of these worlds */
	int go_timeout_ms;	/* 0: not long */
	u64 retry_ms;		/* of the source */
	/*
	 * How often the source connects again after a cut, and where: the same address
	 * as @connect.
	 */
	unsigned int recovers;
	const char *recover_at;
	u64 bad_page;		/* that the source cannot read, if not 0 */
	int bad_error;		/* 0: -EIO */
	u64 absent_page;	/* at the source, too, until it is 0 */
	u64 lost_page;		/* is poisoned at the source, if not 0; may be set later on */
	unsigned int found;	/* how often a page was told to be broken */
	unsigned int unrecorded;	/* of which so many times nobody else may be told */
	/* The destination's context is there, and nothing has come. */
	void (*prepare)(struct world *w);
	bool patient;		/* a destination that waits until somebody comes, or kills it */
	u64 changing_page;	/* has another content when the source reads it again */
	unsigned int reads;	/* of that one, alone or among others */

	struct mem source;	/* area */
	struct outgoing out;
	struct net_address to;
	char to_text[NET_TEXT_MAX];
	pthread_t source_thread;
	int source_err;
	struct journal journal[2];
	bool paused, resumed, gave_up, done;
	unsigned int offers, recovered;
	u64 epoch;		/* of the last offer */

	struct mem memory;	/* the destination's */
	int memory_fd, listen_fd, cancel_fd;
	struct net_address at;
	struct incoming in;
	struct stream_source ss;
	struct kuf *k;
	pthread_t service_thread;
	bool serving;
	int stop;		/* eventfd */
	int service_err;
};

/* Listens; the source does not come before world_start(). */
void world_listen(struct world *w);
/* Both sides, until the destination may run, or not: 0 or its error. */
int world_start(struct world *w);
/*
 * Another process's source, of WORLD_DESTINATION, or one that was killed: connects to the
 * destination as if it had given the VM up, and serves it to the end.
 */
int world_come_back(struct world *w, const u8 *token);
/* A page as the guest would need it: 0, or what kuf_access() says; -EILSEQ: wrong content. */
int world_touch(struct world *w, u64 page, int timeout_ms);
/* Serves until libkuf reports an error, or all is there, or so long. */
void world_wait(struct world *w, int timeout_ms);
/* The guest ends.  Returns what the source returned. */
int world_end(struct world *w);
/* How many pages are let go and are wrong. */
u64 world_wrong(struct world *w);
u64 world_present(struct world *w);

/* What was said by kuf_error() and kuf_say() since world_listen(). */
extern char world_said[8192];
bool world_heard(const char *text);
void world_forget(void);

#endif /* KUF_TESTS_WORLD_H */
