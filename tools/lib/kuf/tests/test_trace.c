// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Recordings as bytes.
 */
#include "test.h"

static struct kuf_trace_entry in[3] = {
	{ .gpa = GPA, .as_id = 0, .time_us = 1 },
	{ .gpa = -PAGE, .as_id = 1, .time_us = 77 },
	{ .gpa = 0, .as_id = 0xffff, .time_us = ~0u },
};

static void round_trip(void)
{
	struct kuf_trace_entry out[3] = {};
	char bytes[200];
	uint64_t nr;
	size_t used;

	EQUAL(kuf_trace_pack(in, 3, bytes, sizeof(bytes), &used), 0);
	EQUAL(used, 32 + 3 * 16);
	EQUAL(kuf_trace_parse(bytes, used, out, 3, &nr), 0);
	EQUAL(nr, 3);
	CHECK(!memcmp(in, out, sizeof(in)));
	EQUAL(kuf_trace_pack(NULL, 0, bytes, sizeof(bytes), &used), 0);
	EQUAL(kuf_trace_parse(bytes, used, NULL, 0, &nr), 0);
	EQUAL(nr, 0);
}

static void sizes(void)
{
	struct kuf_trace_entry out[3];
	char bytes[200];
	uint64_t nr;
	size_t used;

	EQUAL(kuf_trace_pack(in, 3, NULL, 0, &used), -ENOSPC);
	EQUAL(used, 80);
	EQUAL(kuf_trace_pack(in, 3, bytes, 79, &used), -ENOSPC);
	EQUAL(kuf_trace_pack(in, 3, bytes, 80, &used), 0);
	EQUAL(kuf_trace_parse(bytes, 80, out, 2, &nr), -ENOSPC);
	EQUAL(nr, 3);
	EQUAL(kuf_trace_parse(bytes, 80, NULL, 0, &nr), -ENOSPC);
	EQUAL(kuf_trace_pack(NULL, 1, bytes, 80, &used), -EINVAL);
	EQUAL(kuf_trace_pack(in, ~0ull / 16, bytes, 80, &used), -EINVAL);
	EQUAL(kuf_trace_pack(in, 1, NULL, 80, &used), -EINVAL);
	EQUAL(kuf_trace_pack(in, 1, bytes, 80, NULL), -EINVAL);
	EQUAL(kuf_trace_parse(NULL, 80, out, 3, &nr), -EINVAL);
	EQUAL(kuf_trace_parse(bytes, 80, NULL, 3, &nr), -EINVAL);
	EQUAL(kuf_trace_parse(bytes, 80, out, 3, NULL), -EINVAL);
}

/* Every length but the right one, and every flipped bit. */
static void damaged(void)
{
	struct kuf_trace_entry out[3];
	char bytes[200];
	unsigned int i;
	uint64_t nr;
	size_t used;

	EQUAL(kuf_trace_pack(in, 3, bytes, sizeof(bytes), &used), 0);
	for (i = 0; i < sizeof(bytes); i++)
		if (i != used)
			EQUAL(kuf_trace_parse(bytes, i, out, 3, &nr), -EBADMSG);
	for (i = 0; i < used * 8; i++) {
		bytes[i / 8] ^= 1 << i % 8;
		EQUAL(kuf_trace_parse(bytes, used, out, 3, &nr), -EBADMSG);
		bytes[i / 8] ^= 1 << i % 8;
	}
	EQUAL(kuf_trace_parse(bytes, used, out, 3, &nr), 0);
}

static const struct test tests[] = { TEST(round_trip), TEST(sizes), TEST(damaged), };

MAIN(tests)
