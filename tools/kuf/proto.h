/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PROTO_H
#define KUF_PROTO_H

#include "kuf.h"

/*
 * What two kufs say to each other while a VM moves from one to the other, post-copy:
 * the VM runs at its destination as soon as its state is there, and its memory comes
 * page by page.  Documentation/virt/kvm/kuf-stream.rst shows the phases.
 *
 * Two connections, both made by the source: main and urgent.  Frames on each, little
 * endian, numbered from 0 in each direction of each connection; a number that is not
 * the next one is an error.  Nothing is encrypted, and the peer is trusted with the
 * guest, but with nothing else.
 *
 *	source				destination
 *	HELLO (main)		->
 *				<-	HELLO, with a token
 *	HELLO (urgent, token)	->			on the urgent connection, from here
 *				<-	HELLO		on
 *	(pauses the VM)
 *	CONFIG, STATE...	->			on main, from here on
 *	END_OF_STATE		->
 *				<-	READY		all is loaded, all memory absent
 *	(gives the VM up)
 *	GO			->			all that follows: epoch + 1
 *				<-	STARTED
 *				<-	REQUEST		urgent ones on urgent, others on main
 *	PAGE, ZERO, FAILED	->			on the request's connection
 *				<-	POISONED...	on main, if there are such pages
 *				<-	DONE		on main
 *	BYE			->
 *
 * Connections that were cut after the source gave the VM up are replaced by others:
 *
 *	HELLO (main again)	->
 *				<-	HELLO, with another token
 *	HELLO (urgent, token)	->
 *				<-	HELLO
 *				<-	RESUME		on main, from here on: epoch + 1
 *				<-	ABSENT...	all pages that are absent there
 *				<-	POISONED	and all that are poisoned
 *	GO			->			and on as above
 *
 * ABORT may come instead of anything, from either side.  Until GO was sent it means
 * that the source goes on with the VM; afterwards the source never runs it again.
 */
#define PROTO_MAGIC	0x53465546u	/* "FUFS" */
#define PROTO_VERSION	2

/* Of a frame's sender: a receiver that does not know the type goes on. */
#define PROTO_OPTIONAL	BIT(0)

struct proto_header {
	u32 magic;
	u16 version;
	u16 type;
	u32 flags;		/* PROTO_OPTIONAL */
	u32 length;		/* of what follows */
	u64 epoch;		/* 0 for HELLO; the source's; the destination's after GO */
	u64 sequence;
	u32 crc;		/* CRC32C of this, with 0 here, and what follows */
	u32 reserved;		/* 0 */
};

enum proto_type {
	PROTO_HELLO = 1,
	PROTO_CONFIG,
	PROTO_STATE,		/* a piece of what state_save() gives */
	PROTO_END_OF_STATE,
	PROTO_READY,
	PROTO_GO,
	PROTO_STARTED,
	PROTO_REQUEST,		/* struct proto_range, up to PROTO_RANGES */
	PROTO_PAGE,
	PROTO_ZERO,		/* struct proto_range, up to PROTO_RANGES */
	PROTO_FAILED,
	PROTO_DONE,
	PROTO_BYE,
	PROTO_ABORT,
	PROTO_RESUME,
	PROTO_ABSENT,		/* struct proto_range, up to PROTO_MAP_RANGES */
	PROTO_POISONED,		/* the same */
	PROTO_NR_TYPES,
};

/* Features. */
#define PROTO_POSTCOPY	BIT_ULL(0)
#define PROTO_PAGE_CRC	BIT_ULL(1)	/* each page comes with its CRC32C */
#define PROTO_REQUIRED	(PROTO_POSTCOPY | PROTO_PAGE_CRC)

enum proto_role {
	PROTO_MAIN = 1,
	PROTO_URGENT,
	/* With the token that the first main connection was told, and the epoch of GO: */
	PROTO_MAIN_AGAIN,	/* in place of one that was cut, after GO was sent */
	PROTO_TAKEN_BACK,	/* says no more: GO was not sent, and the VM runs at its source */
};

#define PROTO_ID_SIZE	16

struct proto_hello {
	u64 required;		/* who does not know one of these has to refuse */
	u64 optional;
	u8 session[PROTO_ID_SIZE];	/* of the VM, from its boot on */
	/* Made up by the destination; by it the urgent connection proves to belong here. */
	u8 token[PROTO_ID_SIZE];
	u64 epoch;		/* the source's */
	u32 role;		/* enum proto_role, of the connection */
	u32 reserved;
};

#define PROTO_STATE_CHUNK	(64u << 10)
#define PROTO_STATE_MAX		(16ull << 20)

struct proto_config {
	u64 mem_size;
	u64 state_size;		/* bytes in all STATE frames together */
	u32 state_frames;	/* that these are, as state_parse() counts them */
	u32 page_size;
	u32 nr_cpus;
	u32 reserved;
};

struct proto_end {
	u64 state_size;
	u32 state_crc;		/* CRC32C of all the state */
	u32 reserved;
};

/* READY and GO: the epoch that begins with GO. */
struct proto_epoch {
	u64 epoch;
};

/*
 * What the destination has of a VM whose connections were cut.  As many pages follow in
 * ABSENT and POISONED: in order, and no page twice.
 */
struct proto_resume {
	u8 session[PROTO_ID_SIZE];
	u64 epoch;		/* that begins, or began, with GO */
	u64 pages;		/* of the VM's memory */
	u64 absent;		/* of these */
	u64 poisoned;		/* of these, in up to PROTO_MAP_RANGES ranges; not absent */
	u32 started;		/* GO came before */
	u32 reserved;
};

struct proto_started {
	u64 load_ns;		/* END_OF_STATE to READY */
	u64 start_ns;		/* GO to the vCPUs */
};

#define PROTO_RANGES		64
#define PROTO_MAP_RANGES	4096	/* KVM has no more ranges of poison */
#define PROTO_REQUEST_PAGES	64	/* in one range of a REQUEST, at most */
#define PROTO_PAGES		16	/* in one PAGE */

struct proto_range {
	u64 gpa;
	u64 len;
};

/* Then the CRC32C of each page, then the pages. */
struct proto_page {
	u64 gpa;
	u32 nr;
	u32 reserved;
};

struct proto_failed {
	u64 gpa;
	u64 len;
	s32 err;		/* -errno; -EHWPOISON: lost, and to be poisoned */
	u32 reserved;
};

enum proto_done_kind {
	PROTO_DONE_ALL = 1,	/* every page was taken */
	PROTO_DONE_ENDED,	/* the guest ended before */
	PROTO_DONE_BAD,		/* the destination could not go on with what came */
};

struct proto_done {
	u32 kind;		/* enum proto_done_kind */
	u32 reserved;
	u64 pages;		/* with content */
	u64 zero_pages;
	u64 digest;		/* proto_digest() of all pages but poisoned ones, if all came */
	u64 poisoned;		/* pages, which POISONED told before */
};

struct proto_bye {
	u32 differs;		/* the digest is not that of the source's memory */
	u32 reserved;
};

#define PROTO_TEXT_MAX	200	/* ABORT: why, for people; no 0 in it */

/* Summed up over all pages: the same, whatever the order they came in. */
static inline u64 proto_digest(u64 page, u32 crc)
{
	u64 x = (page << 32 | crc) * 0x9e3779b97f4a7c15;

	return (x ^ x >> 29) * 0xd1342543de82ef95;
}

#endif /* KUF_PROTO_H */
