// SPDX-License-Identifier: GPL-2.0
/*
 * Frames, and what a destination makes of replies that nobody should send.  In one
 * thread, and always the same.
 *
 * Arguments: how many damaged streams to make up (20000).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crc32c.h"
#include "guest.h"
#include "random.h"
#include "maps.h"
#include "stream_done.h"
#include "world.h"

/* Two ends; @b reads from a socket into which raw bytes can be written as well. */
static struct stream a, b;

static void open_two(struct stream *one, struct stream *other, u64 epoch)
{
	int fds[2], size = 1 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)) {
		printf("Bail out! socketpair\n");
		exit(1);
	}
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	stream_open(one, fds[0], "one", epoch, -1);
	stream_open(other, fds[1], "other", epoch, -1);
	world_said[0] = '\0';
}

static void open_pair(u64 epoch)
{
	open_two(&a, &b, epoch);
}

static void close_pair(void)
{
	stream_close(&a);
	stream_close(&b);
}

static void put_raw(const void *data, size_t size)
{
	if (send(a.fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		printf("# a short write\n");
}

static const u8 payload[128 << 10];

static void seal(struct proto_header *h, const void *data)
{
	h->crc = 0;
	if (h->length <= sizeof(payload))
		h->crc = crc32c(crc32c(0, h, sizeof(*h)), data, h->length);
}

static struct proto_header sound(u16 type, u32 length)
{
	return (struct proto_header){
		.magic = PROTO_MAGIC, .version = PROTO_VERSION, .type = type,
		.length = length, .epoch = 5,
	};
}

/* What is made of a header with a checksum that is right. */
static void test_header(struct proto_header h, int want, const char *says, const char *name)
{
	struct stream_frame f;
	int r;

	open_pair(5);
	seal(&h, payload);
	put_raw(&h, sizeof(h));
	put_raw(payload, h.length < sizeof(payload) ? h.length : 0);
	while (!stream_fill(&b))
		;
	r = stream_next(&b, &f);
	if (r != want || !world_heard(says ?: ""))
		printf("# %d, %s\n", r, world_said);
	ktap_result(r == want && world_heard(says ?: ""), "header-%s", name);
	close_pair();
}

static void test_headers(void)
{
	struct proto_header h = sound(PROTO_GO, sizeof(struct proto_epoch));

#define BAD(change, says, name) do {						\
	struct proto_header right = h;						\
										\
	change;									\
	test_header(h, -EBADMSG, says, name);					\
	h = right;								\
} while (0)
	test_header(h, 1, NULL, "sound");
	BAD(h.magic ^= 1, "no frame", "magic");
	BAD(h.version++, "of a version", "version");
	BAD(h.epoch = 6, "another epoch", "epoch");
	BAD(h.sequence = 1, "out of sequence", "sequence");
	BAD(h.reserved = 1, "of a kind", "reserved");
	BAD(h.flags = BIT(1), "of a kind", "flags");
	BAD(h.length = 7, "with a length", "short");
	BAD(h.length = 9, "with a length", "long");
	BAD(h.length = ~0u, "too long", "huge");
	BAD(h.type = 0, "of a type", "type-0");
	BAD(h.type = PROTO_NR_TYPES, "of a type", "type");
	BAD((h.type = PROTO_PAGE, h.length = 100 << 10), "too long", "page-long");
	BAD((h.type = PROTO_REQUEST, h.length = 65 * 16), "with a length", "request-long");
	BAD((h.type = PROTO_NR_TYPES, h.flags = PROTO_OPTIONAL, h.length = ~0u), "too long",
	    "optional-huge");
#undef BAD
	h.type = PROTO_NR_TYPES;
	h.flags = PROTO_OPTIONAL;
	test_header(h, 0, NULL, "optional");
}

/* One byte after the other, and cut off anywhere: nothing before it is complete. */
static void test_pieces(void)
{
	struct proto_header h = sound(PROTO_REQUEST, 3 * sizeof(struct proto_range));
	u8 bytes[sizeof(h) + 3 * sizeof(struct proto_range)];
	struct stream_frame f;
	unsigned int i, bad = 0;

	open_pair(5);
	seal(&h, payload);
	memcpy(bytes, &h, sizeof(h));
	memcpy(bytes + sizeof(h), payload, h.length);
	for (i = 0; i < sizeof(bytes); i++) {
		bad += stream_next(&b, &f) != 0 || stream_has_frame(&b);
		put_raw(bytes + i, 1);
		bad += stream_fill(&b) != 0;
	}
	bad += !stream_has_frame(&b) || stream_next(&b, &f) != 1 || stream_fill(&b) != -EAGAIN;
	stream_close(&a);
	bad += stream_fill(&b) != -EPIPE;
	close_pair();
	ktap_result(!bad, "pieces");
}

/* Many frames through buffers that they do not fit into at once. */
static void test_many(void)
{
	struct proto_page head = { .nr = PROTO_PAGES };
	struct iovec iov[] = {
		{ &head, sizeof(head) },
		{ (void *)payload, PROTO_PAGES * (sizeof(u32) + PAGE_SIZE) },
	};
	unsigned int sent = 0, received = 0, bad = 0;
	struct stream_frame f;
	struct proto_page got;
	int r;

	open_pair(1);
	while (received < 3000 && !bad) {
		head.gpa = sent * PAGE_SIZE;
		if (sent < 3000 && !stream_put(&a, PROTO_PAGE, 0, iov, 2))
			sent++;
		r = stream_flush(&a);
		bad += r && r != -EAGAIN;
		stream_fill(&b);
		while ((r = stream_next(&b, &f)) > 0) {
			memcpy(&got, f.data, sizeof(got));
			bad += got.gpa != received++ * PAGE_SIZE || f.type != PROTO_PAGE;
		}
		bad += r < 0;
	}
	ktap_result(!bad && a.tx_bytes == b.rx_bytes && a.tx_sequence == 3000, "many");
	close_pair();
}

/* Whoever waits: for another frame than what comes, for nothing, for one who gives up. */
static void test_waits(void)
{
	struct stream_frame f;
	struct proto_epoch e = { 1 };
	int other, late, aborted, gone;

	open_pair(1);
	stream_send(&a, PROTO_READY, &e, sizeof(e), 100);
	other = stream_receive(&b, PROTO_GO, &f, 100);
	late = stream_receive(&b, PROTO_GO, &f, 20);
	stream_abort(&a, "because\n\033[31m of that");
	aborted = stream_receive(&b, PROTO_GO, &f, 100);
	stream_close(&a);
	gone = stream_receive(&b, PROTO_GO, &f, 100);
	ktap_result(other == -EBADMSG && late == -ETIMEDOUT && aborted == -ECONNABORTED &&
		    gone == -EPIPE && world_heard("READY instead of GO") &&
		    world_heard("gives up: because??[31m of that"), "waits");
	close_pair();
}

/*
 * Replies to a destination, damaged.
 */

#define ASKED	12

static struct mem memory = { .size = WORLD_MEM, .fd = -1 };
static struct stream other_a, other_b;
static u8 content[PROTO_PAGES * PAGE_SIZE];

/* The bytes that a source would send for ASKED pages, and where frames begin. */
static u32 replies(u8 *bytes, u32 *frames)
{
	struct proto_page head = { .nr = 1 };
	struct proto_range zero = { .len = PAGE_SIZE };
	struct proto_header h;
	u32 size = 0, crc, i;
	u8 *data;

	for (i = 0; i < ASKED; i++) {
		frames[i] = size;
		data = bytes + size + sizeof(h);
		head.gpa = i * PAGE_SIZE;
		zero.gpa = head.gpa;
		if (i % 4 < 2) {
			crc = crc32c(0, content + i * PAGE_SIZE, PAGE_SIZE);
			h = sound(PROTO_PAGE, sizeof(head) + sizeof(crc) + PAGE_SIZE);
			memcpy(data, &head, sizeof(head));
			memcpy(data + sizeof(head), &crc, sizeof(crc));
			memcpy(data + sizeof(head) + sizeof(crc), content + i * PAGE_SIZE,
			       PAGE_SIZE);
		} else {
			h = sound(PROTO_ZERO, sizeof(zero));
			memcpy(data, &zero, sizeof(zero));
		}
		h.sequence = i;
		seal(&h, data);
		memcpy(bytes + size, &h, sizeof(h));
		size += sizeof(h) + h.length;
	}
	frames[i] = size;
	return size;
}

/* Three of four in what is not content. */
static u32 pick(const u32 *frames)
{
	u32 i = next_random() % (ASKED), size = frames[i + 1] - frames[i];

	if (size > 72 && next_random() % 4)
		size = 72;
	return frames[i] + next_random() % size;
}

/* True: all checksums are right, so that it may be a lie that nobody can notice. */
static bool damage(u8 *bytes, u32 *size, const u32 *frames)
{
	static u8 copy[64 << 10];
	u32 i = next_random() % (ASKED), j = next_random() % (ASKED), n;
	struct proto_header h;

	switch (next_random() % 6) {
	case 0:
		*size = next_random() % *size;
		return false;
	case 1:		/* exchange */
	case 2:		/* repeat, as if it were the next one */
		n = frames[j + 1] - frames[j];
		memcpy(copy, bytes + frames[j], n);
		memmove(bytes + frames[i] + n, bytes + frames[i], *size - frames[i]);
		memcpy(bytes + frames[i], copy, n);
		*size += n;
		return false;
	default:
		for (n = 1 + next_random() % 4; n; n--)
			bytes[pick(frames)] ^= 1 + next_random() % 255;
	}
	if (next_random() % 2)
		return false;
	/* With checksums that are right what is behind them is reached. */
	for (i = 0; i < ASKED; i++) {
		memcpy(&h, bytes + frames[i], sizeof(h));
		if (h.length == frames[i + 1] - frames[i] - sizeof(h)) {
			seal(&h, bytes + frames[i] + sizeof(h));
			memcpy(bytes + frames[i], &h, sizeof(h));
		}
	}
	return true;
}

static struct kuf *new_context(struct stream_source *ss)
{
	struct kuf_params params = { .size = sizeof(params), .vm_fd = -1 };
	struct kuf_region region = {
		.size = sizeof(region), .len = 64 * PAGE_SIZE, .gmem_fd = -1, .fd = -1,
		.hva = memory.area,
	};
	struct kuf *k;
	u64 page;

	memset(memory.area, 0xee, ASKED * PAGE_SIZE);
	if (stream_source_init(ss, &memory, &other_b, &b) || kuf_create(&params, &k) ||
	    kuf_region_add(k, &region) || kuf_set_source(k, stream_source_ops(), ss)) {
		printf("Bail out! no context\n");
		exit(1);
	}
	ss->k = k;
	stream_source_start(ss);
	for (page = 0; page < ASKED; page++)
		kuf_access(k, page * PAGE_SIZE, PAGE_SIZE, 0, 0, NULL);
	return k;
}

static bool is_right(u64 page)
{
	u64 i = page * PAGE_SIZE;

	return !memcmp(memory.area + i, page % 4 < 2 ? content + i : payload, PAGE_SIZE);
}

/* How many pages were let go; *wrong: of these are not what they have to be. */
static unsigned int feed(const u8 *bytes, u32 size, unsigned int *wrong, int *err)
{
	struct kuf_service service;
	struct stream_source ss;
	enum kuf_state state;
	unsigned int n = 0, i;
	struct kuf *k;

	open_pair(5);
	open_two(&other_a, &other_b, 5);
	k = new_context(&ss);
	put_raw(bytes, size);
	*err = 0;
	for (i = 0; i < 20 && !*err; i++) {
		service = (struct kuf_service){ .size = sizeof(service) };
		*err = kuf_service(k, &service);
	}
	for (i = 0; i < ASKED; i++) {
		kuf_page_state(k, 0, i * PAGE_SIZE, &state);
		n += state == KUF_PRESENT;
		*wrong += state == KUF_PRESENT && !is_right(i);
	}
	if (ss.end == STREAM_SOURCE_CUT && !*err)
		*err = -EPIPE;
	kuf_destroy(k);
	stream_source_free(&ss);
	stream_close(&other_a);
	stream_close(&other_b);
	close_pair();
	return n;
}

static void test_replies(unsigned int rounds)
{
	static u8 right[256 << 10], bytes[256 << 10];
	unsigned int i, wrong = 0, lies = 0, refused = 0, all, some = 0, *counter;
	u32 frames[ASKED + 1], size = replies(right, frames), n;
	int err;

	all = feed(right, size, &wrong, &err);
	if (all != ASKED)
		printf("# %u, %u wrong, %d, %s\n", all, wrong, err, world_said);
	ktap_result(all == ASKED && !wrong && !err, "replies");
	for (i = 0; i < rounds; i++) {
		memcpy(bytes, right, size);
		n = size;
		counter = damage(bytes, &n, frames) ? &lies : &wrong;
		some += feed(bytes, n, counter, &err) < ASKED;
		refused += !!err;
	}
	printf("# %u streams, %u refused, %u incomplete, %u pages wrong, %u with right checksums\n",
	       i, refused, some, wrong, lies);
	ktap_result(!wrong && refused > rounds / 2, "fuzz-replies");
}

/* One that is late does not keep others from being asked for. */
static void test_late(void)
{
	static struct stream_side side;
	unsigned int i, bad = !!stream_side_ask(&side, 0, PAGE_SIZE);
	const struct stream_asked *oldest;

	for (i = 1; i < 5 * STREAM_ASKED; i++) {
		bad += !!stream_side_ask(&side, i * PAGE_SIZE, PAGE_SIZE) ||
		       !stream_side_answered(&side, i * PAGE_SIZE, PAGE_SIZE);
		side.nr_batch = 0;
	}
	oldest = stream_side_oldest(&side);
	bad += !oldest || oldest->gpa || !stream_side_overtaken(&side) ||
	       !stream_side_answered(&side, 0, PAGE_SIZE) || stream_side_oldest(&side);
	ktap_result(!bad, "late");
}

/*
 * The end of a migration, with more poisoned ranges than a frame holds.
 */

/* Pages, as the origin hears of them; 0: a frame that is not the next one, or none. */
static u64 hear_poisoned(struct stream *s, unsigned int frames)
{
	struct pageset set;
	struct maps_reader r = { .set = &set, .mem = &memory, .left = WORLD_PAGES };
	struct stream_frame f;
	u64 nr = 0;

	if (pageset_make(&set, WORLD_PAGES))
		return 0;
	while (frames && !stream_receive(s, PROTO_POISONED, &f, 1000) && !maps_read(&r, s, &f))
		frames--;
	if (!frames)
		nr = set.count;
	pageset_free(&set);
	return nr;
}

static bool hear_done(struct stream *s, enum proto_done_kind kind, u64 poisoned)
{
	struct stream_frame f;
	struct proto_done done;

	if (stream_receive(s, PROTO_DONE, &f, 1000))
		return false;
	memcpy(&done, f.data, sizeof(done));
	return done.kind == kind && done.poisoned == poisoned;
}

/* Two frames; of the first connections only the first one is taken from this side. */
static void begin_done(struct stream_source *ss)
{
	int size = 4096;
	u64 page;

	open_pair(5);
	open_two(&other_a, &other_b, 5);
	setsockopt(other_b.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (stream_source_init(ss, &memory, &other_b, &b)) {
		printf("Bail out! no source\n");
		exit(1);
	}
	for (page = 1; page < 3 * PROTO_MAP_RANGES; page += 2)
		pageset_add(&ss->came, page);
	ss->nr_never = WORLD_PAGES - ss->came.count;
	stream_source_start(ss);
}

static void end_done(struct stream_source *ss)
{
	stream_source_free(ss);
	stream_close(&other_a);
	stream_close(&other_b);
	close_pair();
}

static void test_done(void)
{
	const struct kuf_source_ops *ops = stream_source_ops();
	struct kuf_reply reply = { .size = sizeof(reply) };
	struct stream next[2], ends[2];
	struct stream_source ss;
	u64 never;
	bool ok;

	/* The guest ends there. */
	begin_done(&ss);
	ok = ops->receive(&ss, &reply) == -EAGAIN && !ss.done_sent && ss.told.count;
	ok = ok && !stream_done_put(&ss, PROTO_DONE_ENDED) && ss.done_sent;
	/* A little at a time. */
	while (ok && !stream_is_flushed(&other_b)) {
		stream_flush(&other_b);
		stream_fill(&other_a);
	}
	ok = ok && hear_poisoned(&other_a, 1) == PROTO_MAP_RANGES &&
	     hear_done(&other_a, PROTO_DONE_ENDED, PROTO_MAP_RANGES);
	end_done(&ss);
	ktap_result(ok, "done-within");

	/* Other connections hear all of it. */
	begin_done(&ss);
	never = ss.nr_never;
	ok = ops->receive(&ss, &reply) == -EAGAIN && !ss.done_sent && ss.told.count == never;
	open_two(&next[0], &ends[0], 5);
	open_two(&next[1], &ends[1], 5);
	stream_source_replace(&ss, &next[0], &next[1]);
	ok = ok && ops->receive(&ss, &reply) == -EAGAIN && ss.done_sent &&
	     hear_poisoned(&ends[0], 2) == never && hear_done(&ends[0], PROTO_DONE_ALL, never);
	end_done(&ss);
	stream_close(&ends[0]);
	stream_close(&ends[1]);
	ktap_result(ok, "done-again");
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? atoi(argv[1]) : 20000, i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	memory.area = mmap(NULL, WORLD_MEM, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (i = 0; i < sizeof(content); i++)
		content[i] = next_random() | 1;
	ktap_plan(16 + 4 + 2 + 2);
	test_headers();
	test_pieces();
	test_many();
	test_waits();
	test_late();
	test_replies(rounds);
	test_done();
	return ktap_end();
}
