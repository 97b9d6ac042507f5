/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_CORPUS_H
#define KUF_TESTS_CORPUS_H

#include "kuf.h"

/*
 * Files of tests/kuf/corpus: what somebody says to one side of a move, or a saved VM, that
 * is not as it should be.  Made by kuf_corpus, always the same; played by kuf_hostile_test.
 *
 * First a line with the license, then one with what has to come of it:
 *	SIDE OUTCOME TEXT
 * and then operations.
 */
enum corpus_op_kind {
	CORPUS_CONNECT = 1,	/* recv: connects; send: accepts */
	CORPUS_BYTES,		/* @length of them follow */
	CORPUS_RUN,		/* @length times the four bytes that follow */
	CORPUS_HOLE,		/* snapshot: @length pages */
	CORPUS_AWAIT,		/* reads up to a frame of type @arg, or the end */
	CORPUS_TOUCH,		/* recv: the guest needs page @length */
	CORPUS_CLOSE,
};

struct corpus_op {
	u8 kind;
	u8 connection;		/* up to CORPUS_CONNECTIONS */
	u16 arg;
	u32 length;
};

#define CORPUS_CONNECTIONS	6
#define CORPUS_FILE_MAX		(64u << 10)

/* What both sides of it know. */
#define CORPUS_TOKEN	0x77	/* each byte, of each */
#define CORPUS_SESSION	0xab
#define CORPUS_EPOCH	7	/* before GO */

#endif /* KUF_TESTS_CORPUS_H */
