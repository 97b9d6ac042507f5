// SPDX-License-Identifier: GPL-2.0
/*
 * kuf recv, from READY until the VM runs, with something that fails on the way: the VM goes
 * on at its source, or starts here once that is mended, and is never lost.  Runs on any host:
 * the VM is made up here.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "machine.h"
#include "progress.h"
#include "rebuild.h"
#include "state.h"
#include "world.h"

#define LISTEN		"unix:/tmp/kuf-arrival"
#define JOURNAL_A	"/tmp/kuf-arrival-source"
#define JOURNAL_B	"/tmp/kuf-arrival-journal"
#define GUEST_ENDS	70

/* How often each is to fail, and did what it is to do. */
enum what { PREPARE, VCPUS, COMEBACK, DISK, CLOCKS, RECORD, LASTS, PROGRESS, NR_WHAT };
static unsigned int fails[NR_WHAT], done[NR_WHAT];
static unsigned int out_of_order;
static u32 owner_at_go, owner_before;
static unsigned int tries;	/* to open the disk */
static struct stream spoof = { .fd = -1 };	/* of who read the token on its way */
static bool spoofs;

static int act(enum what what)
{
	if (fails[what]) {
		fails[what]--;
		return -EIO;
	}
	done[what]++;
	return 0;
}

static u32 owner(void)
{
	struct journal j;

	return journal_read(&j, JOURNAL_B) ? ~0u : j.record.owner;
}

int __wrap_state_parse(struct state *state, const void *frames, u64 size, u32 nr)
{
	state->config = (struct state_config){ .mem_size = WORLD_MEM, .nr_cpus = 2 };
	return 0;
}

int __wrap_rebuild(struct machine *m, const struct state *state, const struct options *o)
{
	pthread_mutex_init(&m->vm.lock, NULL);
	pthread_cond_init(&m->vm.stopped_cond, NULL);
	return mem_create(&m->vm.mem, MEM_ANON, state->config.mem_size, -1);
}

int __wrap_machine_start_pager(struct machine *m, const struct pager_config *config)
{
	return 0;
}

int __wrap_state_time_prepare(struct machine *m)
{
	return act(PREPARE);
}

int __wrap_vcpus_prepare(struct vm *vm)
{
	return act(VCPUS);
}

int __real_comeback_prepare(struct comeback *c);

int __wrap_comeback_prepare(struct comeback *c)
{
	return act(COMEBACK) ?: __real_comeback_prepare(c);
}

static struct world world;

/* GO came, so the source does not say that. */
static void send_taken_back(void)
{
	struct proto_hello hello = {
		.required = PROTO_REQUIRED, .role = PROTO_TAKEN_BACK, .epoch = world.out.epoch + 1,
	};

	memcpy(hello.session, world.out.session, sizeof(hello.session));
	memcpy(hello.token, world.out.token, sizeof(hello.token));
	stream_open(&spoof, net_connect(&world.to, WORLD_PATIENCE_MS, -1), "spoof", 0, -1);
	stream_send(&spoof, PROTO_HELLO, &hello, sizeof(hello), WORLD_PATIENCE_MS);
}

int __wrap_blk_reopen(struct blk *blk)
{
	/* Ahead of the source, which comes when it has heard of the disk. */
	if (spoofs && spoof.fd < 0)
		send_taken_back();
	owner_before = owner();
	/* It is not mended before the source has given up coming by itself. */
	if (world.retry_ms && READ_ONCE(world.recovered))
		fails[DISK] = 0;
	else
		tries++;
	return act(DISK);
}

int __wrap_state_time_start(struct machine *m)
{
	out_of_order += !done[PREPARE];
	return act(CLOCKS);
}

int __real_journal_write(struct journal *j, const u8 *session, u64 epoch,
			 enum journal_owner owner);

int __wrap_journal_write(struct journal *j, const u8 *session, u64 epoch,
			 enum journal_owner owner)
{
	bool here = j->path && !strcmp(j->path, JOURNAL_B) && owner == JOURNAL_HERE;
	int err;

	if (here && act(RECORD))
		return -ENOSPC;
	err = __real_journal_write(j, session, epoch, owner);
	/* It has its name, and nobody knows whether that outlasts a crash of the host. */
	if (here && act(LASTS))
		return -EIO;
	return err;
}

int __wrap_progress_start(struct progress *p, FILE *to,
			  void (*get)(void *opaque, struct progress_counts *counts),
			  void *opaque)
{
	return act(PROGRESS);
}

/* The guest ends at once. */
void __wrap_vcpus_go(struct vm *vm)
{
	out_of_order += !done[VCPUS] || !done[COMEBACK] || !done[DISK] || !done[CLOCKS];
	owner_at_go = owner();
	vm_stop(vm, GUEST_ENDS);
}

static bool ended;

static void *be_source(void *arg)
{
	/* Until somebody listens; the name is there a moment before. */
	do {
		usleep(1000);
		world_start(&world);
	} while (!world.paused && !READ_ONCE(ended));
	return NULL;
}

static int receive(void)
{
	char *const argv[] = { "recv", "--listen=" LISTEN, "--journal=" JOURNAL_B, NULL };

	optind = 0;
	return cmd_recv(3, (char **)argv);
}

static const struct arrival {
	const char *name;
	enum what what;
	unsigned int times;
	bool stays;		/* at the source */
	unsigned int recovered;
	bool spoofed;		/* others say that it was taken back */
	u64 retry_ms;		/* the source comes by itself, so long, and then it is mended */
} arrivals[] = {
	{ "fine", DISK, 0 },
	{ "no-clocks-here", PREPARE, 1, true },
	{ "no-vcpu-threads", VCPUS, 1, true },
	{ "no-thread-for-the-source", COMEBACK, 1, true },
	{ "no-disk", DISK, 2, false, 2 },
	{ "no-disk-for-long", DISK, 40, false, 1, .retry_ms = 1500 },
	{ "taken-back-by-others", DISK, 1, false, 1, .spoofed = true },
	{ "clocks-do-not-start", CLOCKS, 1, false, 1 },
	{ "not-recorded", RECORD, 1, false, 1 },
	{ "record-may-not-last", LASTS, 1, false, 1 },
	{ "no-progress", PROGRESS, 1 },
};

static void test(const struct arrival *a)
{
	pthread_t thread;
	int code;
	bool ok;

	memset(done, 0, sizeof(done));
	memset(fails, 0, sizeof(fails));
	fails[a->what] = a->times;
	spoofs = a->spoofed;
	tries = 0;
	owner_at_go = ~0u;
	ended = false;
	unlink(LISTEN + strlen("unix:"));
	unlink(JOURNAL_A);
	unlink(JOURNAL_B);
	world = (struct world){
		.part = WORLD_SOURCE, .listen = LISTEN, .connect = LISTEN, .recover_at = LISTEN,
		.recovers = 10, .journals = { JOURNAL_A }, .retry_ms = a->retry_ms,
	};
	world_listen(&world);
	pthread_create(&thread, NULL, be_source, NULL);
	code = receive();
	__atomic_store_n(&ended, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ok = !out_of_order && world.recovered == a->recovered &&
	     a->spoofed == (spoof.fd >= 0) && (!a->retry_ms || tries <= 5) &&
	     (!a->spoofed || world_heard("another VM is on its way here, or is here"));
	stream_close(&spoof);
	if (a->stays)
		ok = ok && code == KUF_EXIT_FAILED && world.resumed && !world.gave_up &&
		     owner() == JOURNAL_COMES && owner_at_go == ~0u;
	else
		ok = ok && code == GUEST_ENDS && !world.source_err && !world.resumed &&
		     world.out.origin.done.kind == PROTO_DONE_ENDED &&
		     owner_before == JOURNAL_COMES && owner_at_go == JOURNAL_HERE &&
		     (a->what == PROGRESS || done[a->what] == 1);
	if (!ok)
		printf("# code %d, source %d, %u times recovered, %u at go; said: %s", code,
		       world.source_err, world.recovered, owner_at_go, world_said);
	ktap_result(ok, "%s", a->name);
	world_end(&world);
}

int main(void)
{
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(ARRAY_SIZE(arrivals));
	for (i = 0; i < ARRAY_SIZE(arrivals); i++)
		test(&arrivals[i]);
	unlink(JOURNAL_A);
	unlink(JOURNAL_A ".lock");
	unlink(JOURNAL_B);
	unlink(JOURNAL_B ".lock");
	return ktap_end();
}
