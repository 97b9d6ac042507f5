/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_CONTROL_H
#define KUF_CONTROL_H

#include <limits.h>

#include "machine.h"
#include "outgoing.h"
#include "report.h"

/*
 * A socket by which the VM can be saved, sent elsewhere, and asked how it is.  Whoever
 * can connect to it can stop the VM and have a file written by it: it is the user's own,
 * of mode 0600.
 *
 * One thread listens and answers what takes no time.  What takes long (a job) is done
 * by another one, one job at a time, which takes the connection with it.
 */
enum control_op {
	CONTROL_SAVE = 1,	/* to the file text */
	CONTROL_SEND,		/* to the address text */
	CONTROL_STATUS,
	CONTROL_RECOVER,	/* at the address text, "": at the last one */
	CONTROL_POISON,		/* gpa and len: whole pages */
	CONTROL_UNPOISON,
	CONTROL_ANOTHER,	/* to the address text, with revoke */
};

#define CONTROL_LATENCY_MAX	10000000
#define CONTROL_RETRY_MAX	(1000000 * 1000ull)

/* Of one packet each way. */
struct control_request {
	u32 op;
	u32 reserved;		/* 0 */
	u64 retry_ms;		/* CONTROL_SEND, CONTROL_RECOVER: up to CONTROL_RETRY_MAX */
	u64 latency_us;		/* CONTROL_SEND: up to CONTROL_LATENCY_MAX */
	u64 bandwidth;		/* the same: bytes a second, 0: no limit */
	u64 gpa, len;		/* CONTROL_POISON, CONTROL_UNPOISON */
	char text[PATH_MAX];	/* ends with 0; a file: absolute */
	char revoke[PATH_MAX];	/* CONTROL_ANOTHER: a journal, "": none; the same */
};

enum control_state {
	CONTROL_RUNNING,	/* all of its memory is here */
	CONTROL_POSTCOPY,	/* it runs, and memory still comes from elsewhere */
	CONTROL_SAVING,
	CONTROL_SENDING,	/* outgoing_phase says more */
	CONTROL_GIVEN_UP,	/* it runs elsewhere, and its memory goes there */
	CONTROL_ENDED,
	CONTROL_PAUSED,		/* being sent, and not given up yet */
	CONTROL_WAITS_FOR_GO,	/* it came, and may not run yet */
	CONTROL_RECOVERABLE,	/* connections of its move were cut: kuf recover at the source */
	CONTROL_LISTENING,	/* no VM has come yet */
	CONTROL_RECEIVING,	/* its state comes */
	CONTROL_VACANT,		/* given up, and nobody has it: kuf recover --to-another */
};

/* How a VM is.  Times: nanoseconds of CLOCK_MONOTONIC, 0: not yet. */
struct control_status {
	u32 state;		/* enum control_state */
	u32 outgoing_phase;	/* enum outgoing_phase, of the last one sent */
	u8 session[16];
	u64 epoch;
	u64 mem_size;
	u32 nr_cpus;
	u32 has_disk;
	u64 disk_requests;
	u32 engine;		/* enum pager_engine */
	u32 policy;		/* enum kuf_policy_kind */
	u64 now_ns;
	u64 paused_ns, go_ns, started_ns;	/* of the last one sent */
	struct origin_counts sent;
	u64 left_pages, lost_pages;	/* absent there, poisoned: as far as is known here */
	struct kuf_report report;	/* of what came, or comes, from elsewhere */
	struct remote_status remote;	/* the pager, if it is a kuf pager */
};

struct control_reply {
	s32 err;
	u32 given_up;		/* CONTROL_SEND failed after the VM was given up */
	u32 recoverable;	/* and CONTROL_RECOVER goes on with it */
	u32 reserved;
	struct control_status status;
};

struct control {
	struct machine *machine;
	const char *path;
	int socket;
	int stop;		/* eventfd; jobs end too */
	pthread_t thread;
	bool has_thread;

	/* The job: begun and joined by the thread that listens, apart from @busy. */
	pthread_t job;
	bool has_job;
	bool busy;		/* atomic */
	int job_fd;
	struct control_request request;
	struct outgoing outgoing;
	char to[PATH_MAX];	/* where it was sent last */
};

int control_start(struct control *c, struct machine *m, const char *path);
/* After the end of the VM; also for one that was never started. */
void control_stop(struct control *c);

/* Sets @address; -EINVAL after a message when @path is too long. */
struct sockaddr_un;
int control_address(struct sockaddr_un *address, const char *path);

/* The other side: asks the VM of socket @path.  -errno after a message. */
int control_ask(const char *path, const struct control_request *request,
		struct control_reply *reply);
/* send.c: the same for CONTROL_SEND and CONTROL_RECOVER; what kuf is to exit with. */
int control_move(const char *path, const struct control_request *request);
/* send.c: where to, in @request; -EINVAL after a message. */
int control_set_address(struct control_request *request, const char *address);

#endif /* KUF_CONTROL_H */
