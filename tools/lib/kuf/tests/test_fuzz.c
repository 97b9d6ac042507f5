// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Bytes from elsewhere: exports, what comes through a socket, recordings, replies of
 * sources, and page words of a hostile peer.  The same every time; with sanitizers
 * it sees more.
 */
#include "test.h"

static uint64_t seed = 0x4b5546;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Numbers that break things. */
static uint64_t nasty(void)
{
	static const uint64_t some[] = {
		0, 1, 2, 4095, 4096, 4097, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffff000, 0xffffffffffffffff,
		GPA, GPA + PAGE, 8, 64, 65, 255, 256,
	};
	uint64_t n = some[rnd() % (sizeof(some) / sizeof(some[0]))];

	return rnd() % 4 ? n : n + rnd() % 16 - 8;
}

static void mutate(uint8_t *bytes, size_t size)
{
	unsigned int i, n = 1 + rnd() % 4;
	uint64_t value;

	for (i = 0; i < n && size; i++) {
		size_t at = rnd() % size, width = 1u << rnd() % 4;

		switch (rnd() % 3) {
		case 0:
			bytes[at] ^= 1 << rnd() % 8;
			break;
		case 1:
			bytes[at] = rnd();
			break;
		default:
			at &= ~(width - 1);
			if (at + width > size)
				break;
			value = nasty();
			memcpy(bytes + at, &value, width);
		}
	}
}

#define IMPORTS	60000

static void imports(void)
{
	static struct kuf_export ex = { .size = sizeof(ex) }, bad;
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	struct kuf_region r[3];
	unsigned int i, good = 0, refused = 0;
	uint64_t sum;
	int fd, ret;

	for (i = 0; i < 3; i++)
		r[i] = new_region(k, GPA + i * 100 * PAGE, 1 + 70 * i, 0);
	EQUAL(kuf_export(k, -1, &ex), 0);
	for (i = 0; i < IMPORTS; i++) {
		memcpy(&bad, &ex, sizeof(bad));
		mutate(bad.bytes, bad.nr_bytes);
		if (rnd() % 8 == 0)
			bad.nr_bytes = nasty();
		if (rnd() % 8 == 0)
			bad.nr_fds = nasty();
		if (rnd() % 8 == 0)
			bad.fds[rnd() % 8] = rnd() % 2 ? (int)nasty() : ex.fds[rnd() % 7];
		/* Most with a right checksum, or nothing behind it would be tried. */
		if (rnd() % 8 && bad.nr_bytes <= sizeof(bad.bytes) && bad.nr_bytes >= 32) {
			memset(bad.bytes + 24, 0, 8);
			sum = kufi_checksum(bad.bytes, bad.nr_bytes);
			memcpy(bad.bytes + 24, &sum, 8);
		}
		ret = kuf_import(&bad, &other, &fd);
		if (ret) {
			if (ret != -EBADMSG && ret != -EINVAL && ret != -ENOMEM && ret != -ENODEV)
				FAIL("import says %d", ret);
			refused++;
			continue;
		}
		good++;
		kuf_destroy(other);
	}
	printf("# %u imports: %u good, %u refused\n", IMPORTS, good, refused);
	CHECK(good && refused > IMPORTS / 2);
	kuf_destroy(k);
	for (i = 0; i < 3; i++)
		free_region(&r[i]);
}

#define TRACES	100000

static void traces(void)
{
	struct kuf_trace_entry entries[20], out[20];
	uint8_t bytes[400], bad[400];
	unsigned int i, good = 0;
	size_t used, size;
	uint64_t nr, sum;
	int ret;

	for (i = 0; i < 20; i++)
		entries[i] = (struct kuf_trace_entry){ .gpa = i * PAGE };
	for (i = 0; i < TRACES; i++) {
		EQUAL(kuf_trace_pack(entries, rnd() % 21, bytes, sizeof(bytes), &used), 0);
		memcpy(bad, bytes, sizeof(bad));
		mutate(bad, used);
		size = rnd() % 4 ? used : rnd() % sizeof(bad);
		if (rnd() % 2 && size >= 32) {
			sum = kufi_checksum(bad + 32, size - 32);
			memcpy(bad + 24, &sum, 8);
		}
		ret = kuf_trace_parse(bad, size, out, rnd() % 21, &nr);
		if (ret && ret != -EBADMSG && ret != -ENOSPC)
			FAIL("parse says %d", ret);
		good += !ret;
	}
	printf("# %u recordings: %u good\n", TRACES, good);
	CHECK(good);
}

#define MESSAGES	5000

/* A socket whose other end says anything. */
static void messages(void)
{
	static struct kuf_export ex = { .size = sizeof(ex) };
	struct kuf *other;
	uint32_t header[4];
	uint8_t bytes[256];
	unsigned int i, n;
	int ends[2], ret, fd;

	for (i = 0; i < MESSAGES; i++) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		header[0] = rnd() % 8 ? 0x5346554b : rnd();
		header[1] = rnd() % 2 ? rnd() % 256 : nasty();
		header[2] = rnd() % 2 ? 0 : nasty();
		header[3] = nasty();
		n = rnd() % 17;
		EQUAL(write(ends[0], header, n), n);
		for (n = 0; n < sizeof(bytes); n++)
			bytes[n] = rnd();
		n = rnd() % sizeof(bytes);
		EQUAL(write(ends[0], bytes, n), n);
		close(ends[0]);
		ret = kuf_recv(&ex, ends[1]);
		if (!ret)
			EQUAL(kuf_import(&ex, &other, &fd), -EBADMSG);
		else if (ret != -EBADMSG && ret != -EPIPE)
			FAIL("recv says %d", ret);
		close(ends[1]);
	}
}

#define REPLIES	100000
#define NR_FUZZ	4500		/* so that the set of needs has levels */

static char data[NR_FUZZ * PAGE];
static unsigned int left;

static int any_reply(void *source, struct kuf_reply *reply)
{
	(void)source;
	if (!left || rnd() % 8 == 0)
		return rnd() % 4 ? -EAGAIN : -EIO;
	left--;
	reply->gpa = rnd() % 4 ? GPA + (rnd() % 2 ? 0 : NR_FUZZ - 32) * PAGE +
		     (rnd() % 40) * PAGE : nasty();
	reply->len = rnd() % 4 ? (1 + rnd() % 20) * PAGE : nasty();
	/* What it lets us read is its own business; ours is not to write beyond. */
	reply->data = rnd() % 16 ? data : NULL;
	reply->as_id = rnd() % 8 ? 0 : nasty();
	reply->type = rnd() % 8 ? rnd() % 4 : nasty();
	reply->error = nasty();
	return 0;
}

static int any_request(void *source, const struct kuf_request *request)
{
	static const int says[] = { 0, 0, 0, -EAGAIN, -EIO };

	(void)source;
	(void)request;
	return says[rnd() % 5];
}

/*
 * Whatever a source says and whatever a peer writes into the words: nothing outside of
 * the region is touched, nothing waits for ever.
 */
static void replies(void)
{
	struct kuf_source_ops ops = {
		.size = sizeof(ops), .request = any_request, .receive = any_reply,
	};
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER };
	struct kuf_service s = { .size = sizeof(s) };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = NR_FUZZ * PAGE, .fd = -1, .gmem_fd = -1,
	};
	struct kufi_set *set;
	unsigned int i, level;
	char *memory;

	memory = mmap(NULL, (NR_FUZZ + 2) * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r.hva = memory + PAGE;
	memset(memory, 0x5a, PAGE);
	memset(memory + (NR_FUZZ + 1) * PAGE, 0x5a, PAGE);
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_set_source(k, &ops, NULL), 0);
	EQUAL(kuf_set_policy(k, &policy), 0);
	k->claim_timeout_ns = 1;
	for (left = REPLIES; left;) {
		uint32_t *word = word_of(k, GPA + rnd() % 64 * PAGE);
		uint64_t gpa = GPA + rnd() % 64 * PAGE;

		switch (rnd() % 8) {
		case 0:
			*word = rnd();
			break;
		case 1:
			set = &k->regions[0].need;
			level = rnd() % set->levels;
			set->level[level][rnd() % set->words[level]] = rnd() & rnd();
			break;
		case 2:
			kuf_access(k, gpa, 1 + rnd() % (8 * PAGE), 0, 0, NULL);
			break;
		case 3:
			kuf_discard(k, 0, gpa, PAGE);
			break;
		case 4:
			kuf_poison(k, 0, gpa, PAGE);
			kuf_unpoison(k, 0, gpa, PAGE);
			break;
		case 5:
			if (rnd() % 64 == 0)
				kuf_recover(k, 1 + rnd() % 254);
			break;
		default:
			s.budget = rnd() % 100;
			kuf_service(k, &s);
		}
	}
	for (i = 0; i < PAGE; i++)
		CHECK(memory[i] == 0x5a && memory[(NR_FUZZ + 1) * PAGE + i] == 0x5a);
	printf("# %u replies: %lu pages filled\n", REPLIES,
	       (unsigned long)(stats_of(k).installed + stats_of(k).zeroed));
	CHECK(stats_of(k).installed);
	kuf_destroy(k);
	munmap(memory, (NR_FUZZ + 2) * PAGE);
}

static const struct test tests[] = {
	TEST(imports), TEST(traces), TEST(messages), TEST(replies),
};

MAIN(tests)
