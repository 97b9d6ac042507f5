// SPDX-License-Identifier: GPL-2.0
/*
 * Files with a saved VM, as readers see them that must not trust them.  Runs on any
 * host, without KVM; always does the same.
 *
 * Arguments: how many damaged files to make up (20000).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "frame.h"
#include "guest.h"
#include "random.h"
#include "snapshot.h"

#define FILE_NAME	"/tmp/kuf-frame-test"
#define MEM_SIZE	MIN_MEM

/* What the readers say is kept, not printed: they say it thousands of times. */
static char said[512];

static void keep(const char *fmt, va_list ap)
{
	vsnprintf(said, sizeof(said), fmt, ap);
}

int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;

	/* The first one tells why. */
	if (!said[0]) {
		va_start(ap, fmt);
		keep(fmt, ap);
		va_end(ap);
	}
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

static void test_crc(void)
{
	u8 zeroes[32] = {}, ascending[32];
	u32 i;

	for (i = 0; i < sizeof(ascending); i++)
		ascending[i] = i;
	/* RFC 3720, B.4. */
	ktap_result(crc32c(0, zeroes, 32) == 0x8a9136aa &&
		    crc32c(0, ascending, 32) == 0x46dd794e &&
		    crc32c(0, "123456789", 9) == 0xe3069283 &&
		    crc32c(crc32c(0, ascending, 13), ascending + 13, 19) == 0x46dd794e,
		    "crc32c");
}

/*
 * A saved VM that can be read, though no host could load it.  One group with another
 * type, version or length, or that is not there, is what the tests vary.
 */
struct variant {
	const char *name;
	const char *says;	/* NULL: it can be read */
	u16 type, instead;	/* 0: leave it out */
	u16 version;
	u32 instance;
	int more;		/* bytes that it is longer */
	bool twice;
	u16 beside;		/* one more, of another type */
};

static const struct state_group * const groups[] = {
	&state_cpuid, &state_sregs, &state_regs, &state_xcrs, &state_xsave, &state_msrs,
	&state_lapic, &state_events, &state_mp, &state_debug, &state_irqchip, &state_pit,
	&state_uart, &state_blk, &state_time,
};

static u8 payload[FRAMES_MAX / 64];

static void add(struct frame_writer *w, const struct variant *v, u16 type, u16 version,
		u32 length)
{
	if (v->type != type) {
		frame_add(w, type, version, 0, payload, length);
		return;
	}
	if (!v->instead)
		return;
	frame_add(w, v->instead, v->version, v->instance, payload, length + v->more);
	if (v->beside)
		frame_add(w, v->beside, 1, 0, payload, 5);
	if (v->twice)
		frame_add(w, v->instead, v->version, v->instance, payload, length + v->more);
}

static void build(struct frame_writer *w, const struct variant *v,
		  const struct state_config *config)
{
	size_t i;

	memcpy(payload, config, sizeof(*config));
	add(w, v, STATE_CONFIG, 1, sizeof(*config));
	for (i = 0; i < ARRAY_SIZE(groups); i++)
		add(w, v, groups[i]->type, groups[i]->version, groups[i]->min);
	add(w, v, STATE_PAGES, 1, MEM_SIZE / PAGE_SIZE * sizeof(u32));
}

static struct frame_file describe(const struct frame_writer *w)
{
	struct frame_file file = {};

	file.data_offset = align_up(sizeof(file) + w->size, PAGE_SIZE);
	file.file_size = file.data_offset + MEM_SIZE;
	frame_file_seal(&file, w);
	return file;
}

static const struct state_config sound = {
	.mem_size = MEM_SIZE, .nr_cpus = 1, .has_disk = 1,
};

/* Memory is a hole. */
static bool write_file(const struct frame_file *file, const void *frames, u64 size, u64 length)
{
	int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool ok = fd >= 0 && !ftruncate(fd, length) &&
		  pwrite(fd, file, sizeof(*file), 0) == sizeof(*file) &&
		  pwrite(fd, frames, size, sizeof(*file)) == (ssize_t)size;

	close(fd);
	return ok;
}

static int open_file(void)
{
	struct snapshot s;
	int err;

	said[0] = '\0';
	err = snapshot_open(&s, FILE_NAME);
	snapshot_close(&s);
	return err;
}

static void expect(const char *name, const char *says)
{
	int err = open_file();
	bool ok = says ? err < 0 && strstr(said, says) : !err;

	if (!ok)
		printf("# %d, '%s'\n", err, said);
	ktap_result(ok, "%s", name);
}

static const struct variant variants[] = {
	{ "sound", NULL },
	{ "optional", NULL, STATE_UART, STATE_UART, 1, .beside = FRAME_OPTIONAL | 99 },
	{ "not-optional", "type 99", STATE_UART, STATE_UART, 1, .beside = 99 },
	{ "unknown", "type 99", STATE_UART, 99, 1 },
	{ "unknown-optional", "no serial port", STATE_UART, FRAME_OPTIONAL | 99, 1 },
	{ "version", "version 2", STATE_UART, STATE_UART, 2 },
	{ "missing", "no MSRs", STATE_MSRS, 0 },
	{ "missing-pages", "no list of pages", STATE_PAGES, 0 },
	{ "missing-config", "does not come first", STATE_CONFIG, 0 },
	{ "missing-disk", "a disk without", STATE_BLK, 0 },
	{ "twice", "there twice", STATE_REGS, STATE_REGS, 1, .twice = true },
	{ "config-twice", "cannot read", STATE_CONFIG, STATE_CONFIG, 1, .twice = true },
	{ "pages-twice", "list of pages", STATE_PAGES, STATE_PAGES, 1, .twice = true },
	{ "vcpu", "of vCPU 1", STATE_REGS, STATE_REGS, 1, 1 },
	{ "instance", "of vCPU 1", STATE_TIME, STATE_TIME, 1, 1 },
	{ "longer", "with a length", STATE_REGS, STATE_REGS, 1, .more = 1 },
	{ "shorter", "with a length", STATE_REGS, STATE_REGS, 1, .more = -1 },
	{ "pages-longer", "list of pages", STATE_PAGES, STATE_PAGES, 1, .more = 4 },
	{ "config-longer", "cannot read", STATE_CONFIG, STATE_CONFIG, 1, .more = 8 },
};

static void test_variant(const struct variant *v)
{
	struct frame_writer w = {};
	struct frame_file file;

	build(&w, v, &sound);
	file = describe(&w);
	write_file(&file, w.data, w.size, file.file_size);
	expect(v->name, v->says);
	frame_writer_free(&w);
}

static const struct {
	const char *name;
	struct state_config config;
} configs[] = {
	{ "no-cpu", { MEM_SIZE, 0 } },
	{ "many-cpus", { MEM_SIZE, MAX_CPUS + 1 } },
	{ "no-memory", { 0, 1 } },
	{ "odd-memory", { MEM_SIZE + 1, 1 } },
	{ "much-memory", { ~0ull << 12, 1 } },
	{ "backing", { MEM_SIZE, 1, NR_MEM_BACKINGS } },
	{ "disks", { MEM_SIZE, 1, 0, 2 } },
	{ "reserved", { MEM_SIZE, 1, 0, 0, 1 } },
};

static void test_config(size_t i)
{
	struct frame_writer w = {};
	struct frame_file file;
	struct variant none = {};

	build(&w, &none, &configs[i].config);
	file = describe(&w);
	write_file(&file, w.data, w.size, file.file_size);
	expect(configs[i].name, "the configuration does not make sense");
	frame_writer_free(&w);
}

/* Headers with a checksum that is right, as frame_file_seal() only makes sound ones. */
static void seal_again(struct frame_file *file)
{
	file->crc = 0;
	file->crc = crc32c(0, file, sizeof(*file));
}

#define NR_HEADERS	9

static void test_headers(const struct frame_writer *w)
{
	const struct frame_file right = describe(w);
	static const struct {
		const char *name, *says;
	} cases[NR_HEADERS] = {
		{ "header-version", "version 2" },
		{ "header-feature", "needs features 0x8000000000000000" },
		{ "header-optional", NULL },
		{ "header-no-memory", "no memory" },
		{ "header-file-size", "bytes long instead of" },
		{ "header-frames-size", "does not make sense" },
		{ "header-data-offset", "does not make sense" },
		{ "header-more-frames", "1 frames are missing" },
		{ "header-fewer-frames", "more frames than" },
	};
	size_t i;

	for (i = 0; i < NR_HEADERS; i++) {
		struct frame_file file = right;

		file.version += i == 0;
		file.required |= i == 1 ? BIT_ULL(63) : 0;
		file.optional |= i == 2 ? BIT_ULL(63) : 0;
		file.required &= i == 3 ? ~FRAME_REQUIRED_MEMORY : ~0ull;
		file.file_size += i == 4;
		file.frames_size = i == 5 ? ~0ull - 100 : file.frames_size;
		file.data_offset = i == 6 ? 0 : file.data_offset;
		file.nr_frames += i == 7 ? 1 : i == 8 ? -1 : 0;
		seal_again(&file);
		write_file(&file, w->data, w->size, right.file_size);
		expect(cases[i].name, cases[i].says);
	}
}

/* A frame with a checksum that is right and a length that is not. */
static void test_length(u32 length, const char *name)
{
	struct frame frame = { STATE_UART, 1, 0, length };
	struct frame_reader r = { .data = (u8 *)&frame, .size = sizeof(frame) };
	struct frame out;
	const void *data;

	frame.crc = crc32c(0, &frame, sizeof(frame));
	ktap_result(frame_next(&r, &out, &data) == (length ? -EBADMSG : 1), "%s", name);
}

/* Cut off anywhere it is nothing. */
static void test_cut(const struct frame_writer *w)
{
	struct frame_file file = describe(w), none = {};
	u64 length, bad = 0;

	for (length = sizeof(file); length < file.file_size; length += 1234567) {
		write_file(&file, w->data, length < w->size ? length : w->size, length);
		bad += truncate(FILE_NAME, length) || !open_file();
	}
	/* All but the header, which is written at last. */
	write_file(&none, w->data, w->size, file.file_size);
	bad += !open_file();
	ktap_result(!bad, "cut");
}

/* Makes a frame's or the header's checksum right again: what is behind it is reached. */
static void repair(u8 *frames, u64 size)
{
	struct frame frame;
	u64 at = 0;

	while (size - at >= sizeof(frame)) {
		memcpy(&frame, frames + at, sizeof(frame));
		if (frame.length > size - at - sizeof(frame))
			return;
		frame.crc = 0;
		frame.crc = crc32c(crc32c(0, &frame, sizeof(frame)),
				   frames + at + sizeof(frame), frame.length);
		memcpy(frames + at, &frame, sizeof(frame));
		at += sizeof(frame) + frame.length;
	}
}

/* Three of four are in a head. */
static u64 pick(const unsigned int *heads, unsigned int nr, u64 size)
{
	u64 r = next_random();

	if (r & 3)
		return heads[(r >> 2) % nr] + (r >> 32) % sizeof(struct frame);
	return (r >> 2) % size;
}

/*
 * Damages a few bytes, in frames' heads for the most part, and repairs checksums every
 * other time.  What was not repaired has to be refused; sanitizers see more.
 */
static void test_fuzz(const struct frame_writer *w, unsigned int rounds)
{
	/* The list of pages is long and dull: with what is before it, and its head. */
	u64 size = w->size - MEM_SIZE / PAGE_SIZE * sizeof(u32);
	unsigned int heads[64], nr_heads = 0, at;
	unsigned int taken = 0, repaired_bad = 0, plain_taken = 0, i, n;
	static struct state state;
	u8 *copy = malloc(w->size);
	bool repairs;

	for (at = 0; at < w->size && nr_heads < ARRAY_SIZE(heads); nr_heads++) {
		heads[nr_heads] = at;
		at += sizeof(struct frame) + ((struct frame *)(w->data + at))->length;
	}
	for (i = 0; copy && i < rounds; i++) {
		memcpy(copy, w->data, w->size);
		for (n = 1 + next_random() % 4; n; n--)
			copy[pick(heads, nr_heads, size)] ^= 1 + next_random() % 255;
		repairs = i & 1;
		if (repairs)
			repair(copy, w->size);
		said[0] = '\0';
		if (!state_parse(&state, copy, w->size, w->nr)) {
			taken++;
			plain_taken += !repairs && memcmp(copy, w->data, w->size);
		} else {
			repaired_bad += repairs;
		}
	}
	free(copy);
	printf("# %u files, %u taken, %u of those repaired refused\n", i, taken, repaired_bad);
	ktap_result(i == rounds && !plain_taken && taken && repaired_bad, "fuzz");
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? atoi(argv[1]) : 20000;
	struct frame_writer w = {};
	struct variant none = {};
	size_t i;

	ktap_plan(1 + ARRAY_SIZE(variants) + ARRAY_SIZE(configs) + NR_HEADERS + 3 + 2);
	test_crc();
	for (i = 0; i < ARRAY_SIZE(variants); i++)
		test_variant(&variants[i]);
	for (i = 0; i < ARRAY_SIZE(configs); i++)
		test_config(i);
	build(&w, &none, &sound);
	test_headers(&w);
	test_length(0, "length-0");
	test_length(1, "length-1");
	test_length(~0u, "length-max");
	test_cut(&w);
	test_fuzz(&w, rounds);
	frame_writer_free(&w);
	unlink(FILE_NAME);
	return ktap_end();
}
