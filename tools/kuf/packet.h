/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PACKET_H
#define KUF_PACKET_H

#include <sys/types.h>

#include "kuf.h"

/*
 * Between kuf restore and kuf pager: packets of a UNIX socket (SOCK_SEQPACKET, which
 * nobody waits for), some of them with file descriptors.  Nothing of what comes is
 * believed: each length is compared with what is there.
 *
 *	restore			pager
 *	HELLO, the files ->
 *			<-	READY		or REFUSED, and the end
 *	GO		->
 *	PING		->
 *			<-	PONG		whenever it gets to it
 *	END		->
 *			<-	ENDED, and the end
 *
 * Besides, the pager may end it with BYE (another one is to go on) or FAILED (nobody
 * can).  It serves the VM from GO on, and closes its end when it has let go of all of
 * the VM's memory, or because it died: so the end of the socket means that there are no
 * claims any more but those of the dead.
 */
#define PACKET_MAGIC	"KUFPAGER"
#define PACKET_VERSION	1

enum packet_type {
	PACKET_HELLO = 1,
	PACKET_READY,
	PACKET_REFUSED,		/* err, text */
	PACKET_GO,
	PACKET_PING,
	PACKET_PONG,
	PACKET_END,
	PACKET_ENDED,
	PACKET_BYE,		/* text */
	PACKET_FAILED,		/* err, text */
};

struct packet_head {
	u8 magic[8];
	u32 version;
	u32 type;
	u32 size;		/* of all of the packet */
	u32 reserved;		/* 0 */
};

#define PACKET_TEXT	160

/* All but HELLO. */
struct packet {
	struct packet_head head;
	s32 err;		/* -errno, or 0 */
	u32 reserved;		/* 0 */
	char text[PACKET_TEXT];	/* ends with 0 */
};

#define HELLO_THEN_EAGER	BIT(0)
#define HELLO_RECORD		BIT(1)	/* the shared memory has room for a recording */
#define HELLO_REPLAY		BIT(2)	/* a third file: nr_replay entries */
#define HELLO_SAME_FD		BIT(3)	/* the userfault fd is the one that @dead had */
#define HELLO_FLAGS		(HELLO_THEN_EAGER | HELLO_RECORD | HELLO_REPLAY | HELLO_SAME_FD)

/*
 * Behind it come export_size bytes of kuf_export().  Files: the saved VM, readable; what
 * is shared (struct pager_shared, a sealed memfd); with REPLAY the entries (sealed, too);
 * and the export's.
 */
struct packet_hello {
	struct packet_head head;
	u32 policy;		/* enum kuf_policy_kind */
	u32 flags;
	u32 nr_fds;
	u32 dead;		/* with SAME_FD: the peer that died */
	u64 mem_size;
	u64 nr_replay;
	u8 session[16];
	u32 export_size;
	u32 reserved;		/* 0 */
};

#define HELLO_FILES	3	/* besides the export's, at most */

void packet_head_init(struct packet_head *head, enum packet_type type, u32 size);
/* All of @len bytes are one packet: is it what this kuf speaks?  -EPROTO if not. */
int packet_head_check(const struct packet_head *head, size_t len);
/* A packet that is no HELLO: the same. */
int packet_check(const struct packet *packet, size_t len);

/* -EAGAIN: there is no room now; -EPIPE: nobody is there any more. */
int packet_say(int fd, enum packet_type type, int err, const char *text);
/* @more follows @head in the same packet. */
int packet_send(int fd, const void *head, size_t size, const void *more, size_t more_size,
		const int *fds, unsigned int nr_fds);

/*
 * One packet, with up to *nr_fds files, which are the caller's then, also after
 * -EMSGSIZE: there is more in it than there is room.  -EAGAIN: none now; -EPIPE: the end.
 */
int packet_receive(int fd, void *to, size_t size, size_t *len, int *fds, unsigned int *nr_fds);

/* Who is at the other end?  @pid and @uid as they were when it connected, or listened. */
int packet_peer(int fd, pid_t *pid, uid_t *uid);
/* May @uid have what this process has?  Itself and root. */
bool packet_trusts(uid_t uid);

#endif /* KUF_PACKET_H */
