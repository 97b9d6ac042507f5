/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_JOURNAL_H
#define KUF_JOURNAL_H

#include "kuf.h"

/*
 * Who owns a VM, as one side of its moves knows it: what must not be forgotten when the
 * process is killed.  A file of one record, replaced as a whole; without a file the
 * record is in memory only, and goes with the process.  Beside it is FILE.lock: for as
 * long as a process that opened the journal lives it has that locked.
 *
 * For one thread at a time: whoever starts the VM, and then whoever sends it.
 */
enum journal_owner {
	JOURNAL_NOBODY,		/* nothing is recorded */
	JOURNAL_HERE,		/* it runs here, or may, since that epoch */
	JOURNAL_COMES,		/* it was offered to this side, which must not run it yet */
	JOURNAL_GIVEN_UP,	/* given to another side: it never runs here in that epoch */
	JOURNAL_REVOKED,	/* it came, and another one has it instead: it never runs here */
	JOURNAL_VACANT,		/* given up, and revoked there: it may only be offered again */
};

/* What it takes to go on as the source when that was killed. */
struct journal_given {
	u8 token[16];		/* of the destination */
	u64 mem_size;		/* of the VM */
	u64 mem_file;		/* inode of the file with all of its memory; 0: none has */
};

struct journal_record {
	u8 magic[8];
	u32 version;
	u32 owner;		/* enum journal_owner */
	u8 session[16];		/* of the VM */
	u64 epoch;
	struct journal_given given;	/* JOURNAL_GIVEN_UP; otherwise 0 */
	u32 crc;		/* CRC32C of this, with 0 here */
	u32 reserved;		/* 0 */
};

struct journal {
	const char *path;	/* NULL: in memory only */
	struct journal_record record;
};

/*
 * Locks and reads the file, if there is one.  -errno after a message: it is damaged, no
 * journal, or another process has it.
 */
int journal_open(struct journal *j, const char *path);
/* The same without a lock, to look at it. */
int journal_read(struct journal *j, const char *path);
/* Durable when this returns 0.  After an error the file has the former record, or this one. */
int journal_write(struct journal *j, const u8 *session, u64 epoch, enum journal_owner owner);
/* The same for JOURNAL_GIVEN_UP. */
int journal_give_up(struct journal *j, const u8 *session, u64 epoch,
		    const struct journal_given *given);

/* Each -EINVAL after a message, if the record forbids it. */
/* A VM that begins: the file must not be of another one. */
int journal_may_begin(const struct journal *j);
/* A VM that was saved: sets @epoch, if that VM was here before. */
int journal_may_go_on(const struct journal *j, const u8 *session, u64 *epoch);
/* A VM whose source was killed: is there what it takes to be that source? */
int journal_may_serve(const struct journal *j);
/* A VM that is offered, to run here from @epoch on. */
int journal_may_come(const struct journal *j, const u8 *session, u64 epoch);

/*
 * The file of a destination that the VM was given to for @epoch: if it is sure that it did
 * not start there, and that nobody lives who could do that still, it never may.  Durable
 * when this returns 0; -errno after a message.  @own: what this process has opened.
 */
int journal_revoke(const char *path, const struct journal *own, const u8 *session, u64 epoch);

#endif /* KUF_JOURNAL_H */
