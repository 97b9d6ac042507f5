// SPDX-License-Identifier: GPL-2.0
/*
 * The files of the corpus: operations, frames that are right or wrong, states.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpus_file.h"
#include "crc32c.h"

const char *corpus_dir;
u64 corpus_epoch[CORPUS_CONNECTIONS];
static FILE *out;
static u64 sequence[CORPUS_CONNECTIONS];

/*
 * Files.
 */

__attribute__((format(printf, 1, 2)))
void begin(const char *fmt, ...)
{
	char name[80], path[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", corpus_dir, name);
	out = fopen(path, "w");
	if (!out) {
		perror(path);
		exit(1);
	}
	fprintf(out, "# %s-License-Identifier: GPL-2.0\n", "SPDX");
	memset(sequence, 0, sizeof(sequence));
	memset(corpus_epoch, 0, sizeof(corpus_epoch));
}

void expect(const char *side, const char *outcome, const char *says)
{
	fprintf(out, "%s %s %s\n", side, outcome, says);
}

void end(void)
{
	if (fclose(out)) {
		perror("closing");
		exit(1);
	}
}

void op(enum corpus_op_kind kind, u8 connection, u16 arg, u32 length)
{
	struct corpus_op o = { kind, connection, arg, length };

	fwrite(&o, sizeof(o), 1, out);
}

static void plain(u8 connection, const u8 *data, u32 size)
{
	if (!size)
		return;
	op(CORPUS_BYTES, connection, 0, size);
	fwrite(data, size, 1, out);
}

/* Bytes of words that are all the same. */
static u32 run(const u8 *p, u32 left)
{
	u32 n = 4;

	while (n + 4 <= left && !memcmp(p, p + n, 4))
		n += 4;
	return n;
}

void bytes(u8 connection, const void *data, u32 size)
{
	const u8 *p = data;
	u32 at = 0, from = 0, n;

	while (at < size) {
		n = run(p + at, size - at);
		if (n < 32) {
			at++;
			continue;
		}
		plain(connection, p + from, at - from);
		op(CORPUS_RUN, connection, 0, n / 4);
		fwrite(p + at, 4, 1, out);
		at += n;
		from = at;
	}
	plain(connection, p + from, size - from);
}

/*
 * Frames, and what may be wrong with one.
 */

const struct corpus_wrong wrongs[NR_WRONGS] = {
	[NOTHING] = { "nothing", "" },
	[TRUNCATED] = { "truncated", "waiting for" },
	[FLIPPED] = { "flipped", "damaged (CRC32C)" },
	[REPEATED] = { "repeated", "out of sequence" },
	[SKIPPED] = { "skipped", "out of sequence" },
	[OVERSIZED] = { "oversized", "too long" },
	[SHORT] = { "short", "with a length that its type does not have" },
	[MAGIC] = { "magic", "this is no frame" },
	[VERSION] = { "version", "of a version that this kuf does not speak" },
	[EPOCH] = { "epoch", "of another epoch" },
	[SEQUENCE] = { "sequence", "out of sequence" },
	[RESERVED] = { "reserved", "of a kind that this kuf does not know" },
	[FLAGS] = { "flags", "of a kind that this kuf does not know" },
	[UNKNOWN] = { "unknown", "of a type that this kuf does not know" },
};

static void put(u8 connection, struct proto_header *h, const u8 *data, u32 size)
{
	u8 frame[sizeof(*h) + (70 << 10)];

	h->crc = 0;
	h->crc = crc32c(crc32c(0, h, sizeof(*h)), data, size);
	memcpy(frame, h, sizeof(*h));
	memcpy(frame + sizeof(*h), data, size);
	bytes(connection, frame, sizeof(*h) + size);
}

void frame_wrong(u8 connection, u16 type, const void *data, u32 size, enum wrong how)
{
	struct proto_header h = {
		.magic = PROTO_MAGIC, .version = PROTO_VERSION, .type = type, .length = size,
		.epoch = corpus_epoch[connection], .sequence = sequence[connection]++,
	};
	u8 copy[70 << 10], half[sizeof(h)];

	memcpy(copy, data, size);
	switch (how) {
	case TRUNCATED:
		memcpy(half, &h, sizeof(h));
		bytes(connection, half, sizeof(h) - 7);
		op(CORPUS_CLOSE, connection, 0, 0);
		return;
	case FLIPPED:
		/* Behind the checksum. */
		h.crc = crc32c(crc32c(0, &h, sizeof(h)), copy, size);
		copy[size / 2] ^= 4;
		bytes(connection, &h, sizeof(h));
		bytes(connection, copy, size);
		return;
	case REPEATED:
		put(connection, &h, copy, size);
		break;
	case SKIPPED:
		return;
	case OVERSIZED:
		h.length = 1u << 30;
		break;
	case SHORT:
		h.length = type == PROTO_STATE ? 0 : 7;
		break;
	case MAGIC:
		h.magic ^= 0x100;
		break;
	case VERSION:
		h.version++;
		break;
	case EPOCH:
		h.epoch += 3;
		break;
	case SEQUENCE:
		h.sequence += 5;
		break;
	case RESERVED:
		h.reserved = 1;
		break;
	case FLAGS:
		h.flags = BIT(7);
		break;
	case UNKNOWN:
		h.type = 999;
		break;
	default:
		break;
	}
	put(connection, &h, copy, h.length < size ? h.length : size);
}

void frame(u8 connection, u16 type, const void *data, u32 size)
{
	frame_wrong(connection, type, data, size, NOTHING);
}

struct proto_hello hello_of(enum proto_role role)
{
	struct proto_hello h = { .required = PROTO_REQUIRED, .role = role, .epoch = CORPUS_EPOCH };

	memset(h.session, CORPUS_SESSION, sizeof(h.session));
	if (role != PROTO_MAIN)
		memset(h.token, CORPUS_TOKEN, sizeof(h.token));
	if (role == PROTO_MAIN_AGAIN)
		h.epoch++;
	return h;
}

void hello(u8 connection, enum proto_role role)
{
	struct proto_hello h = hello_of(role);

	frame(connection, PROTO_HELLO, &h, sizeof(h));
	corpus_epoch[connection] = h.epoch;
}

/*
 * States.
 */

static const struct state_group * const groups[] = {
	&state_cpuid, &state_sregs, &state_regs, &state_xcrs, &state_xsave, &state_msrs,
	&state_lapic, &state_events, &state_mp, &state_debug, &state_irqchip, &state_pit,
	&state_uart, &state_time,
};

const u8 nothing[64 << 10];

void build_state(struct frame_writer *w, const struct state_config *config, bool cpuid,
		 u16 version)
{
	/* An entry: its checksum, how many, and leaf 1 with something in it. */
	u32 entry[2 + 10] = { 0, 1, 1, 0, 0, 0x12345 };
	size_t i;

	entry[0] = crc32c(0, entry + 2, 40);
	frame_add(w, STATE_CONFIG, 1, 0, config, sizeof(*config));
	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		if (groups[i] == &state_cpuid && cpuid)
			frame_add(w, STATE_CPUID, 1, 0, entry, sizeof(entry));
		else
			frame_add(w, groups[i]->type, groups[i]->version + version, 0, nothing,
				  groups[i]->min);
	}
}
