// SPDX-License-Identifier: GPL-2.0
/*
 * Whole migrations whose connections are cut: at each frame of each connection, either
 * way, and then several times at random; or on which a frame is damaged after the VM was
 * given up.  Whatever it is, one side owns the VM then, and no other; it gets all of its
 * memory once the source connects again.
 *
 * Arguments: how many random rounds (60), the first one's number (0), and how many KiB of
 * memory (1024).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest.h"
#include "relay.h"
#include "world.h"

#define NEEDS		6
#define WAIT_MS		60000
#define RELAY		"unix:/tmp/kuf-cuts-relay"
#define LISTEN		"unix:/tmp/kuf-cuts"

static struct world world;
static u64 pages = 256;
static unsigned int went, stayed, recovered;
static int timeout_ms;

static u64 mix(u64 x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15;
	x ^= x >> 29;
	return x * 0xd1342543de82ef95;
}

/* All of it gets there. */
static const char *complete(u64 number)
{
	u64 until = stream_now_ns() + WAIT_MS * 1000000ull;
	int i, err;

	for (i = 0; i < NEEDS; i++) {
		do {
			err = world_touch(&world, mix(number * 100 + i) % pages, 100);
		} while (err == -ETIMEDOUT && stream_now_ns() < until);
		if (err)
			return err == -EILSEQ ? "wrong content" : "a page does not come";
	}
	while (stream_now_ns() < until && !world.service_err &&
	       !__atomic_load_n(&world.done, __ATOMIC_ACQUIRE))
		usleep(500);
	if (world_present(&world) != pages)
		return "memory is missing";
	return world_wrong(&world) ? "wrong memory" : NULL;
}

/* Nobody was killed: there is one owner, whatever was cut. */
static const char *judge(int err, const char *why)
{
	bool runs_here = !world.paused || world.resumed, runs_there = world.in.went;

	if (runs_here && runs_there)
		return "two owners";
	if (!runs_here && !runs_there)
		return "no owner";
	if (world.out.given_up != runs_there)
		return "not whom it was given to";
	if (why)
		return why;
	if (world.service_err)
		return "the pager failed";
	if (runs_there && (world.out.phase != OUTGOING_DONE || world.source_err))
		return "the source did not complete";
	if (runs_there && err)
		return "it came, and an error";
	/* Told, and not by its own patience. */
	if (world.in.ready_ns && err == -ETIMEDOUT)
		return "it waited in vain";
	return NULL;
}

static bool one(struct relay *r, u64 number)
{
	const char *why = NULL;
	int err;

	r->listen = RELAY;
	r->to = LISTEN;
	world = (struct world){
		.listen = LISTEN, .connect = RELAY, .recover_at = RELAY, .recovers = 20,
		.timeout_ms = timeout_ms,
		.mem_size = pages * PAGE_SIZE, .policy = KUF_EAGER, .go_timeout_ms = WAIT_MS,
	};
	unlink("/tmp/kuf-cuts");
	world_listen(&world);
	relay_start(r);
	err = world_start(&world);
	if (!err)
		why = complete(number);
	world_end(&world);
	relay_join(r);
	why = judge(err, why);
	went += world.in.went;
	stayed += world.resumed;
	recovered += world.recovered;
	if (why)
		printf("# %llu: %s: %s, %s, to %s, frame %u: %d %d %d, end %d, phase %s; said: %s",
		       (unsigned long long)number, why, relay_act_name(r->act),
		       r->urgent ? "urgent" : "main", r->to_source ? "source" : "destination",
		       r->frame, err, world.source_err, world.service_err, world.ss.end,
		       outgoing_phase_name(world.out.phase), world_said);
	return !why;
}

/* At each frame, until there is no further one. */
static void test_each(bool urgent, bool to_source, enum relay_act act)
{
	unsigned int bad = 0, missed = 0;
	u32 frame;

	went = 0;
	stayed = 0;
	recovered = 0;
	/* How many there are depends on how requests are put together: some may be fewer. */
	for (frame = 0; missed < 3; frame++) {
		struct relay r = {
			.act = act, .urgent = urgent, .to_source = to_source, .frame = frame,
			.cuts = 1, .seed = frame + 1,
		};

		bad += !one(&r, frame);
		missed += !r.acted;
	}
	printf("# %u frames: %u moved, %u stayed, %u recovered, %u bad\n", frame, went, stayed,
	       recovered, bad);
	ktap_result(!bad && went && recovered, "%s-%s-%s", relay_act_name(act),
		    urgent ? "urgent" : "main", to_source ? "to-source" : "to-destination");
}

static void test_random(unsigned int nr, u64 first)
{
	unsigned int bad = 0;
	u64 i;

	went = 0;
	stayed = 0;
	recovered = 0;
	for (i = first; i < first + nr; i++) {
		u64 x = mix(i);
		struct relay r = {
			.act = x & 1 ? RELAY_CUT : RELAY_TRUNCATE,
			.urgent = x >> 10 & 1 && x >> 11 & 1, .to_source = x >> 12 & 1,
			.frame = (x >> 13) % 40, .cuts = 1 + (x >> 20) % 5,
			.every = (x >> 30) % 8, .seed = x | 1,
		};

		bad += !one(&r, i);
	}
	printf("# %u rounds: %u moved, %u stayed, %u recovered, %u bad\n", nr, went, stayed,
	       recovered, bad);
	ktap_result(!bad && went && recovered, "random");
}

/* As if it had been a cut: no page is lost. */
static void test_damage(unsigned int nr, u64 first)
{
	unsigned int bad = 0, acted = 0;
	u64 i;

	went = 0;
	stayed = 0;
	recovered = 0;
	for (i = first; i < first + nr; i++) {
		u64 x = mix(i ^ 0xdada);
		struct relay r = {
			.act = RELAY_FLIP + x % (RELAY_OTHER_TYPE - RELAY_FLIP + 1),
			.urgent = x >> 10 & 1, .to_source = x >> 12 & 1, .cuts = 1,
			.frame = (x >> 13) % 40, .seed = x | 1,
		};

		/* Behind GO, and what is said to it. */
		r.frame = r.urgent ? 1 + r.frame % 6 : r.to_source ? 2 + r.frame % 8 :
			  7 + r.frame;
		timeout_ms = 300;
		bad += !one(&r, i);
		acted += r.acted;
	}
	timeout_ms = 0;
	printf("# %u rounds, %u damaged: %u moved, %u recovered, %u bad\n", nr, acted, went,
	       recovered, bad);
	ktap_result(!bad && went == nr && acted > nr / 2 && recovered > nr / 2, "damage");
}

int main(int argc, char **argv)
{
	unsigned int nr = argc > 1 ? atoi(argv[1]) : 60;
	u64 first = argc > 2 ? atoll(argv[2]) : 0;

	pages = argc > 3 ? atoll(argv[3]) * 1024 / PAGE_SIZE : pages;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(10);
	test_each(false, false, RELAY_CUT);
	test_each(false, true, RELAY_CUT);
	test_each(true, false, RELAY_CUT);
	test_each(true, true, RELAY_CUT);
	test_each(false, false, RELAY_TRUNCATE);
	test_each(false, true, RELAY_TRUNCATE);
	test_each(true, false, RELAY_TRUNCATE);
	test_each(true, true, RELAY_TRUNCATE);
	test_random(nr, first);
	test_damage(nr, first);
	return ktap_end();
}
