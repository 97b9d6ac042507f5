// SPDX-License-Identifier: GPL-2.0
/*
 * Writes the files of tests/kuf/corpus: usage: kuf_corpus DIR
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpus_file.h"
#include "crc32c.h"

int kuf_error(int err, const char *fmt, ...)
{
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

/*
 * Saved VMs, whose memory is a page and a hole.
 */

enum snapshot_wrong {
	S_RIGHT, S_VERSION, S_FEATURE, S_MAGIC, S_HEADER, S_FRAME, S_PAGES, S_PAGE, S_TRUNCATED,
	S_HALF, S_NO_HEADER, S_EMPTY, S_LONG, S_GROUP, S_MEMORY, NR_S
};

static const struct {
	const char *name, *outcome, *says;
} snapshots[NR_S] = {
	[S_RIGHT] = { "right", "completes", "" },
	[S_VERSION] = { "version", "refused", "version 2" },
	[S_FEATURE] = { "feature", "refused", "needs features" },
	[S_MAGIC] = { "magic", "refused", "no saved VM" },
	[S_HEADER] = { "header", "refused", "CRC32C" },
	[S_FRAME] = { "frame", "refused", "is damaged (CRC32C)" },
	[S_PAGES] = { "pages", "refused", "is damaged (CRC32C)" },
	[S_PAGE] = { "page", "refused", "0x0" },
	[S_TRUNCATED] = { "truncated", "refused", "bytes long instead of" },
	[S_HALF] = { "half-written", "refused", "bytes long instead of" },
	[S_NO_HEADER] = { "no-header", "refused", "no saved VM" },
	[S_EMPTY] = { "empty", "refused", "is no saved VM" },
	[S_LONG] = { "long", "refused", "bytes long instead of" },
	[S_GROUP] = { "group-version", "refused", "this kuf reads version" },
	[S_MEMORY] = { "memory", "refused", "list of pages does not make sense" },
};

static void one_snapshot(enum snapshot_wrong how)
{
	u32 crcs[MIN_MEM / PAGE_SIZE], i, first[PAGE_SIZE / 4];
	struct state_config config = { MIN_MEM, 1 };
	struct frame_writer w = {};
	struct frame_file file = {};
	u64 pages = MIN_MEM / PAGE_SIZE - 1, gap;

	for (i = 0; i < PAGE_SIZE / 4; i++)
		first[i] = 0x11111111;
	for (i = 0; i <= pages; i++)
		crcs[i] = crc32c(0, i ? (void *)nothing : (void *)first, PAGE_SIZE);
	if (how == S_MEMORY)
		config.mem_size *= 2;
	build_state(&w, &config, false, how == S_GROUP);
	frame_add(&w, STATE_PAGES, 1, 0, crcs, sizeof(crcs));
	file.data_offset = align_up(sizeof(file) + w.size, PAGE_SIZE);
	gap = file.data_offset - sizeof(file) - w.size;
	file.file_size = file.data_offset + MIN_MEM;
	memset(file.session, CORPUS_SESSION, sizeof(file.session));
	frame_file_seal(&file, &w);
	file.version += how == S_VERSION;
	file.required |= how == S_FEATURE ? BIT_ULL(50) : 0;
	file.magic[2] ^= how == S_MAGIC;
	file.crc = 0;
	file.crc = crc32c(0, &file, sizeof(file));
	file.session[0] ^= how == S_HEADER;
	if (how == S_NO_HEADER)
		memset(&file, 0, sizeof(file));
	w.data[sizeof(struct frame) + 3] ^= how == S_FRAME;
	w.data[w.size - 77] ^= how == S_PAGES;
	first[9] ^= how == S_PAGE ? 0x400 : 0;
	begin("snapshot-%s", snapshots[how].name);
	expect("snapshot", snapshots[how].outcome, snapshots[how].says);
	if (how != S_EMPTY) {
		bytes(0, &file, sizeof(file));
		bytes(0, w.data, how == S_HALF ? w.size / 2 : w.size);
	}
	if (how != S_EMPTY && how != S_HALF) {
		bytes(0, nothing, gap);
		bytes(0, first, sizeof(first));
		op(CORPUS_HOLE, 0, 0, pages - (how == S_TRUNCATED) + (how == S_LONG));
	}
	end();
	frame_writer_free(&w);
}

int main(int argc, char **argv)
{
	int i;

	if (argc != 2) {
		fprintf(stderr, "usage: kuf_corpus DIR\n");
		return 2;
	}
	corpus_dir = argv[1];
	corpus_make_recv();
	corpus_make_send();
	for (i = 0; i < NR_S; i++)
		one_snapshot(i);
	return 0;
}
