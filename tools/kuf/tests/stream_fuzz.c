// SPDX-License-Identifier: GPL-2.0
/*
 * Whole migrations, with somebody between the two sides who damages a frame.  Whatever
 * it is: there is at most one owner, no page is let go that is not what the source has,
 * and all of it ends.  What is harmless is not noticed, what has to be is.
 *
 * Arguments: how many (300), and the first one's number.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest.h"
#include "relay.h"
#include "world.h"

#define NEEDS	8
#define AHEAD	24

static struct world world;

static u64 mix(u64 x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15;
	x ^= x >> 29;
	return x * 0xd1342543de82ef95;
}

static const char *judge(const struct relay *r, int err, int touched, u64 wrong)
{
	bool success = !err && !touched && !world.source_err && !world.service_err &&
		       world.ss.end == STREAM_SOURCE_COMPLETE;

	if (world.resumed && world.in.went)
		return "two owners";
	/* With checksums that are right a zero page, or another one, is believed. */
	if (wrong && r->act <= RELAY_LAST_NOTICED)
		return "a wrong page";
	if (touched == -EILSEQ && r->act <= RELAY_LAST_NOTICED)
		return "wrong content";
	if (!success && (!r->acted || r->act <= RELAY_LAST_HARMLESS))
		return "noticed what is harmless";
	/* What is behind the last frame is not read any more. */
	if (success && r->acted && r->act > RELAY_LAST_HARMLESS &&
	    r->act <= RELAY_LAST_NOTICED && r->after)
		return "not noticed";
	return NULL;
}

static bool one(u64 number, unsigned int *acted, unsigned int *success)
{
	static struct kuf_trace_entry ahead[AHEAD];
	struct relay r = {
		.listen = "unix:/tmp/kuf-relay",
		.to = "unix:/tmp/kuf-stream-fuzz",
		.act = mix(number) % RELAY_ACTS,
		.urgent = mix(number) >> 20 & 1,
		.to_source = mix(number) >> 21 & 1,
		.frame = (mix(number) >> 30) % 14,
		.seed = mix(number) | 1,
	};
	int err, touched = 0, i;
	const char *why;
	u64 wrong = 0;

	for (i = 0; i < AHEAD; i++)
		ahead[i] = (struct kuf_trace_entry){ .gpa = (1000 + i * 7) * PAGE_SIZE };
	world = (struct world){
		.listen = r.to, .connect = r.listen, .timeout_ms = 300,
		.policy = KUF_RECORDED, .replay = ahead, .nr_replay = AHEAD,
	};
	unlink("/tmp/kuf-stream-fuzz");
	world_listen(&world);
	relay_start(&r);
	err = world_start(&world);
	for (i = 0; !err && !touched && i < NEEDS; i++)
		touched = world_touch(&world, mix(number * 100 + i) % WORLD_PAGES, 400);
	if (!err) {
		wrong = world_wrong(&world);
		for (i = 0; !touched && i < AHEAD; i++)
			touched = world_touch(&world, 1000 + i * 7, 400);
	}
	world_end(&world);
	relay_join(&r);
	why = judge(&r, err, touched, wrong);
	*acted += r.acted;
	*success += !err && !touched && !world.source_err && !world.service_err;
	if (why)
		printf("# %llu: %s: %s, %s, to %s, frame %u: %d %d %d %d, end %d; said: %s",
		       (unsigned long long)number, why, relay_act_name(r.act),
		       r.urgent ? "urgent" : "main", r.to_source ? "source" : "destination",
		       r.frame, err, touched, world.source_err, world.service_err,
		       world.ss.end, world_said);
	return !why;
}

int main(int argc, char **argv)
{
	unsigned int nr = argc > 1 ? atoi(argv[1]) : 300, acted = 0, success = 0, bad = 0;
	u64 first = argc > 2 ? atoll(argv[2]) : 0, i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(1);
	for (i = first; i < first + nr; i++)
		bad += !one(i, &acted, &success);
	printf("# %u migrations, %u met the relay's act, %u went well\n", nr, acted, success);
	ktap_result(!bad && acted > nr / 4 && success > nr / 4 && success < nr, "migrations");
	return ktap_end();
}
