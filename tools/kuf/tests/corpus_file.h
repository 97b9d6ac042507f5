/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_CORPUS_FILE_H
#define KUF_TESTS_CORPUS_FILE_H

#include "corpus.h"
#include "proto.h"
#include "state.h"

/* Writing files of the corpus, one at a time. */

extern const char *corpus_dir;
__attribute__((format(printf, 1, 2)))
void begin(const char *fmt, ...);
void expect(const char *side, const char *outcome, const char *says);
void end(void);

void op(enum corpus_op_kind kind, u8 connection, u16 arg, u32 length);
void bytes(u8 connection, const void *data, u32 size);

/* Of each connection: what frames on it have. */
extern u64 corpus_epoch[CORPUS_CONNECTIONS];

/* What may be wrong with a frame. */
enum wrong {
	NOTHING, TRUNCATED, FLIPPED, REPEATED, SKIPPED, OVERSIZED, SHORT, MAGIC, VERSION, EPOCH,
	SEQUENCE, RESERVED, FLAGS, UNKNOWN, NR_WRONGS
};

struct corpus_wrong {
	const char *name, *says;
};

extern const struct corpus_wrong wrongs[NR_WRONGS];

void frame_wrong(u8 connection, u16 type, const void *data, u32 size, enum wrong how);
void frame(u8 connection, u16 type, const void *data, u32 size);
struct proto_hello hello_of(enum proto_role role);
void hello(u8 connection, enum proto_role role);

extern const u8 nothing[64 << 10];

/* A state that can be read, though no host could load it. */
void build_state(struct frame_writer *w, const struct state_config *config, bool cpuid,
		 u16 version);

/* corpus_recv.c, corpus_send.c */
void corpus_make_recv(void);
void corpus_make_send(void);

#endif /* KUF_TESTS_CORPUS_FILE_H */
