// SPDX-License-Identifier: GPL-2.0
/*
 * Source and destination in a process each, one of which is killed, or stopped for a
 * while: before a frame goes on, or at any time.  What they have recorded, and what the
 * other one does, leaves the VM with one owner at most; one that was only stopped gets
 * all of its memory.
 *
 * Arguments: how many rounds (24), and the first one's number.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "recover_files.h"
#include "relay.h"
#include "world.h"

#define MEM		(1024ul * 1024)
#define PAGES		(MEM / PAGE_SIZE)
#define RELAY		"unix:/tmp/kuf-kills-relay"
#define LISTEN		"unix:/tmp/kuf-kills"
#define JOURNAL_A	"/tmp/kuf-kills-a"
#define JOURNAL_B	"/tmp/kuf-kills-b"
#define STOPPED_US	300000

#define LISTEN_C	"unix:/tmp/kuf-kills-c"
#define JOURNAL_C	"/tmp/kuf-kills-c-journal"
#define MEM_FILE	"/tmp/kuf-kills-memory"
#define EPOCH		8	/* of the first offer */

/* What the processes tell each other. */
static struct {
	unsigned int runs[2];
	/* For another destination, which is world's second one as well. */
	unsigned int runs_c[2];
	bool another, revoke, c_listens, revoked, tried;
	unsigned int recovers;		/* of the source */
	/* Of one whose memory is in a file. */
	bool file, was_complete;
	int another_err;
	bool listens, begin, alone;
	/* At their end; of one that was killed nothing. */
	bool given_up, paused, resumed, source_ended, destination_ended;
	enum outgoing_phase phase;
	int service_err;
	u64 present, wrong;
} *shared;

enum { SOURCE, DESTINATION };

static u64 mix(u64 x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15;
	x ^= x >> 29;
	return x * 0xd1342543de82ef95;
}

static bool is_set(bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

static void wait_until(bool *flag, unsigned int ms)
{
	while (!is_set(flag) && ms--)
		usleep(1000);
}

/* The operator tries to give it to another one. */
static void give_to_another(struct world *w)
{
	struct net_address to;

	wait_until(&shared->revoke, WORLD_PATIENCE_MS);
	shared->revoked = !journal_revoke(JOURNAL_B, &w->journal[0], w->out.session, EPOCH) &&
			  !journal_write(&w->journal[0], w->out.session, EPOCH, JOURNAL_VACANT);
	set(&shared->tried);
	if (!shared->revoked)
		return;
	outgoing_vacate(&w->out);
	wait_until(&shared->c_listens, WORLD_PATIENCE_MS);
	net_parse(&to, LISTEN_C);
	shared->another_err = outgoing_to_another(&w->out, &to);
}

static void be_source(void)
{
	static struct world w = {
		.part = WORLD_SOURCE, .listen = LISTEN, .connect = RELAY, .recover_at = RELAY,
		.mem_size = MEM, .journals = { JOURNAL_A },
	};

	w.runs = shared->runs;
	w.mem_path = shared->file ? MEM_FILE : NULL;
	world_listen(&w);
	wait_until(&shared->begin, WORLD_PATIENCE_MS);
	w.recovers = shared->another ? 0 : shared->recovers;
	world_start(&w);
	if (shared->another && w.out.phase == OUTGOING_CUT)
		give_to_another(&w);
	shared->given_up = w.out.given_up;
	shared->paused = w.paused;
	shared->resumed = w.resumed;
	shared->phase = w.out.phase;
	set(&shared->source_ended);
	_exit(0);
}

/* Until all is there, or nobody is left to bring it. */
static void receive(struct world *w, bool *listens)
{
	world_listen(w);
	set(listens);
	if (!world_start(w)) {
		while (!is_set(&shared->alone) && !w->service_err &&
		       READ_ONCE(w->ss.end) != STREAM_SOURCE_COMPLETE)
			usleep(1000);
		shared->present = world_present(w);
		shared->wrong = world_wrong(w);
		shared->service_err = w->service_err;
	}
	set(&shared->destination_ended);
	if (is_set(&shared->alone) || w->ss.end == STREAM_SOURCE_COMPLETE)
		_exit(0);
	printf("# the destination says: %s", world_said);
	fflush(stdout);
	_exit(0);
}

static void be_destination(void)
{
	static struct world w = {
		.part = WORLD_DESTINATION, .listen = LISTEN, .mem_size = MEM,
		.policy = KUF_EAGER, .timeout_ms = 100, .go_timeout_ms = 1500,
		.journals = { NULL, JOURNAL_B },
	};

	w.runs = shared->runs;
	receive(&w, &shared->listens);
}

static void be_another(void)
{
	static struct world w = {
		.part = WORLD_DESTINATION, .listen = LISTEN_C, .mem_size = MEM,
		.policy = KUF_EAGER, .go_timeout_ms = 1500, .journals = { NULL, JOURNAL_C },
		.patient = true,
	};

	w.runs = shared->runs_c;
	receive(&w, &shared->c_listens);
}

static pid_t start(void (*be)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		/* A relay of this process may have connections, which are to end with it. */
		close_range(3, ~0u, 0);
		be();
	}
	return pid;
}

/* @stopped: may be stopped late, when the frame comes that this is to happen at. */
static bool reap(pid_t pid, pid_t stopped, unsigned int ms)
{
	while (ms--) {
		if (stopped && ms % 100 == 0)
			kill(stopped, SIGCONT);
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return true;
		usleep(1000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return false;
}

/* Who may run the VM when it is begun anew from what was recorded there? */
static bool may_begin(const char *path, bool *damaged)
{
	struct journal j;
	u8 session[PROTO_ID_SIZE];
	u64 epoch = 0;

	memset(session, 0xab, sizeof(session));
	*damaged = journal_read(&j, path);
	/* What is not there says nothing about it. */
	return !*damaged && j.record.owner != JOURNAL_NOBODY &&
	       !journal_may_go_on(&j, session, &epoch);
}

static const char *judge(int victim, int signal)
{
	bool damaged_a, damaged_b, a, b, ran_b = shared->runs[1];
	struct journal j;
	u8 session[PROTO_ID_SIZE];

	memset(session, 0xab, sizeof(session));
	a = may_begin(JOURNAL_A, &damaged_a);
	b = may_begin(JOURNAL_B, &damaged_b);
	if (damaged_a || damaged_b) {
		printf("# %s\n", world_said);
		return "a damaged journal";
	}
	if (a && b)
		return "both journals let the VM begin";
	if (shared->runs[0] && ran_b)
		return "two owners";
	if (a && ran_b)
		return "the source could begin what runs at the destination";
	if (shared->wrong)
		return "wrong memory";
	if (ran_b && !b)
		return "it ran at the destination without a record";
	/* The same offer must not be taken once more. */
	if (ran_b && (journal_read(&j, JOURNAL_B) ||
		      !journal_may_come(&j, session, j.record.epoch)))
		return "the destination could run it twice";
	if (signal == SIGSTOP && !shared->source_ended)
		return "the source does not end";
	if (shared->source_ended && shared->paused && shared->given_up == shared->resumed)
		return shared->given_up ? "given up, and it goes on" : "nobody has it";
	if (shared->source_ended && shared->given_up && shared->runs[0])
		return "given up, and it runs";
	if (signal == SIGSTOP && ran_b && (shared->present != PAGES || shared->service_err ||
					   shared->phase != OUTGOING_DONE))
		return "its memory did not come";
	if (signal == SIGKILL && victim == DESTINATION && shared->given_up &&
	    shared->phase != OUTGOING_CUT && shared->phase != OUTGOING_DONE)
		return "the source did not keep it";
	return NULL;
}

static unsigned int outcomes[2][2][3];	/* victim; killed; stayed, moved, lost */

static bool one(u64 number)
{
	u64 x = mix(number);
	int victim = x & 1, signal = x & 2 ? SIGKILL : SIGSTOP;
	bool at_frame = x >> 2 & 1, hit;
	struct relay r = {
		.listen = RELAY, .to = LISTEN, .act = RELAY_NOTHING, .cuts = 1, .signal = signal,
		.urgent = x >> 3 & 1 && x >> 4 & 1, .to_source = x >> 5 & 1,
		.frame = (x >> 8) % 12, .seed = 1,
	};
	pid_t pids[2], stopped;
	const char *why;
	bool ended;

	memset(shared, 0, sizeof(*shared));
	shared->runs[0] = 1;
	/* On a busy host one that was only stopped may seem to be gone several times. */
	shared->recovers = signal == SIGSTOP ? 200 : 10;
	unlink(JOURNAL_A);
	unlink(JOURNAL_B);
	unlink("/tmp/kuf-kills");
	pids[SOURCE] = start(be_source);
	pids[DESTINATION] = start(be_destination);
	wait_until(&shared->listens, WORLD_PATIENCE_MS);
	if (at_frame)
		r.pid = pids[victim];
	else
		r.frame = ~0u;
	relay_start(&r);
	set(&shared->begin);
	if (!at_frame) {
		usleep((x >> 16) % 20000);
		kill(pids[victim], signal);
	}
	if (signal == SIGSTOP) {
		usleep(STOPPED_US);
		kill(pids[victim], SIGCONT);
	}
	stopped = signal == SIGSTOP ? pids[victim] : 0;
	ended = reap(pids[SOURCE], stopped, WORLD_PATIENCE_MS);
	/* What was on its way may come yet. */
	if (signal == SIGKILL)
		usleep(50000);
	if (signal == SIGKILL || !shared->given_up || shared->phase != OUTGOING_DONE)
		set(&shared->alone);
	ended &= reap(pids[DESTINATION], victim == DESTINATION ? stopped : 0, WORLD_PATIENCE_MS);
	hit = !at_frame || r.acted;
	relay_join(&r);
	why = ended ? judge(victim, signal) : "it does not end";
	outcomes[victim][signal == SIGKILL][shared->runs[1] ? 1 : shared->runs[0] ? 0 : 2]++;
	if (why)
		printf("# %llu: %s: %s %s, %s, %s to %s, frame %u, hit %d; %u %u %d %s %llu\n",
		       (unsigned long long)number, why, victim ? "destination" : "source",
		       signal == SIGKILL ? "killed" : "stopped",
		       at_frame ? "at a frame" : "any time",
		       r.urgent ? "urgent" : "main", r.to_source ? "source" : "destination",
		       r.frame, hit, shared->runs[0], shared->runs[1], shared->given_up,
		       outgoing_phase_name(shared->phase), (unsigned long long)shared->present);
	return !why;
}

static unsigned int not_given, refused, given;

/* Who has it, by what is recorded, when the first destination was killed? */
static const char *judge_another(bool ran_b)
{
	bool damaged[3], a, b, c;
	struct journal j;
	u8 session[PROTO_ID_SIZE];

	memset(session, 0xab, sizeof(session));
	a = may_begin(JOURNAL_A, &damaged[0]);
	b = may_begin(JOURNAL_B, &damaged[1]);
	c = may_begin(JOURNAL_C, &damaged[2]);
	if (damaged[0] || damaged[1] || damaged[2])
		return "a damaged journal";
	if (a + b + c > 1)
		return "two journals let the VM begin";
	if (ran_b && (shared->revoked || shared->runs_c[1]))
		return "what ran was revoked";
	if (shared->revoked && (shared->another_err || !shared->runs_c[1] || !c ||
				shared->present != PAGES || shared->wrong))
		return "another one does not get it";
	if (shared->revoked && (journal_read(&j, JOURNAL_B) ||
				j.record.owner != JOURNAL_REVOKED ||
				!journal_may_come(&j, session, EPOCH)))
		return "the first one may get it still";
	if (shared->tried && !shared->revoked && !b)
		return "not revoked, and did not start";
	return NULL;
}

/* The first destination is killed around GO, and was stopped before: it lives then. */
static bool one_another(u64 number)
{
	u64 x = mix(number ^ 0xa17);
	bool at_frame = x & 3, to_source = x >> 2 & 1, ran_b, ended;
	struct relay r = {
		.listen = RELAY, .to = LISTEN, .act = RELAY_CUT, .cuts = 1,
		.to_source = to_source, .frame = to_source ? 2 + (x >> 8) % 2 : 6 + (x >> 8) % 2,
		.signal = SIGSTOP, .seed = 1,
	};
	int lives_refused = -EBUSY;
	const char *why;
	pid_t a, b, c;

	memset(shared, 0, sizeof(*shared));
	shared->runs[0] = 1;
	shared->another = true;
	unlink(JOURNAL_A);
	unlink(JOURNAL_B);
	unlink(JOURNAL_C);
	unlink("/tmp/kuf-kills");
	unlink("/tmp/kuf-kills-c");
	a = start(be_source);
	b = start(be_destination);
	wait_until(&shared->listens, WORLD_PATIENCE_MS);
	if (at_frame)
		r.pid = b;
	else
		r.frame = ~0u;
	relay_start(&r);
	set(&shared->begin);
	if (at_frame)
		wait_until(&r.acted, 2000);
	else
		usleep((x >> 16) % 20000);
	kill(b, SIGSTOP);
	if (!access(JOURNAL_B, F_OK) && x >> 30 & 1) {
		static const struct journal none;
		u8 session[PROTO_ID_SIZE];

		memset(session, 0xab, sizeof(session));
		/* Or it has ended by itself, as all of it came. */
		lives_refused = journal_revoke(JOURNAL_B, &none, session, EPOCH);
	}
	kill(b, SIGKILL);
	waitpid(b, NULL, 0);
	ran_b = shared->runs[1];
	c = start(be_another);
	set(&shared->revoke);
	wait_until(&shared->source_ended, WORLD_PATIENCE_MS);
	set(&shared->alone);
	if (!shared->runs_c[1])
		kill(c, SIGKILL);
	ended = reap(a, 0, WORLD_PATIENCE_MS);
	ended &= reap(c, 0, WORLD_PATIENCE_MS);
	why = ended ? NULL : "it does not end";
	relay_join(&r);
	why = why ?: !lives_refused ? "one that lives was revoked" : judge_another(ran_b);
	not_given += !shared->tried;
	refused += shared->tried && !shared->revoked;
	given += shared->revoked;
	if (why)
		printf("# another %llu: %s: tried %d, revoked %d, %d; %u %u %u, %llu; %s\n",
		       (unsigned long long)number, why, shared->tried, shared->revoked,
		       shared->another_err, shared->runs[0], shared->runs[1], shared->runs_c[1],
		       (unsigned long long)shared->present, outgoing_phase_name(shared->phase));
	return !why;
}

static void test_another(unsigned int nr, u64 first)
{
	unsigned int bad = 0;
	u64 i;

	for (i = first; i < first + nr; i++)
		bad += !one_another(i);
	printf("# another: %u not given up, %u started and so refused, %u revoked and given\n",
	       not_given, refused, given);
	ktap_result(!bad && (nr < 20 || (refused && given)), "another");
}

/* In place of the one that was killed: tells by its exit status. */
static void be_recovered(void)
{
	_exit(recover_files(JOURNAL_A, MEM_FILE, LISTEN, 300));
}

static unsigned int outcomes_file[3];	/* not given up, recovered, was complete */

static const char *judge_file(int code)
{
	struct journal j;
	bool damaged, a = may_begin(JOURNAL_A, &damaged);

	if (damaged || journal_read(&j, JOURNAL_A))
		return "a damaged journal";
	if (a && shared->runs[1])
		return "the source could begin what runs at the destination";
	if (shared->was_complete) {
		outcomes_file[2]++;
		return shared->present == PAGES && !shared->wrong ? NULL : "wrong memory";
	}
	outcomes_file[j.record.owner == JOURNAL_GIVEN_UP]++;
	if (j.record.owner != JOURNAL_GIVEN_UP)
		return code == KUF_EXIT_FAILED && !shared->runs[1] ? NULL :
		       "it was not given up, and is recovered";
	if (code || !shared->runs[1])
		return "it was not recovered";
	return shared->present == PAGES && !shared->wrong && !shared->service_err ? NULL :
	       "its memory did not come";
}

/* The source is killed, at a frame for the most part, and another process goes on. */
static bool one_file(u64 number)
{
	u64 x = mix(number ^ 0xf11e);
	bool at_frame = x & 7, early_refused;
	struct relay r = {
		.listen = RELAY, .to = LISTEN, .act = RELAY_NOTHING, .cuts = 1,
		.signal = SIGKILL, .to_source = x >> 3 & 1, .urgent = x >> 4 & 1, .seed = 1,
	};
	pid_t a, b, c;
	const char *why;
	int status = -1;
	unsigned int i;

	r.frame = r.urgent ? 1 + (x >> 8) % 3 : r.to_source ? 1 + (x >> 8) % 6 : 5 + (x >> 8) % 9;
	memset(shared, 0, sizeof(*shared));
	shared->runs[0] = 1;
	shared->file = true;
	shared->recovers = 10;
	unlink(JOURNAL_A);
	unlink(JOURNAL_B);
	unlink(MEM_FILE);
	unlink("/tmp/kuf-kills");
	a = start(be_source);
	b = start(be_destination);
	wait_until(&shared->listens, WORLD_PATIENCE_MS);
	if (at_frame)
		r.pid = a;
	else
		r.frame = ~0u;
	relay_start(&r);
	set(&shared->begin);
	/* It may be over before such a frame comes. */
	for (i = 0; at_frame && i < 5000; i++) {
		if (is_set(&r.acted) || is_set(&shared->source_ended))
			break;
		usleep(1000);
	}
	if (!at_frame)
		usleep((x >> 16) % 20000);
	kill(a, SIGSTOP);
	/* As long as it lives nobody is in its place. */
	early_refused = access(JOURNAL_A, F_OK) || waitpid(a, NULL, WNOHANG) == a ||
			(at_frame && r.acted) ||
			recover_files(JOURNAL_A, MEM_FILE, LISTEN, 0) == KUF_EXIT_FAILED;
	kill(a, SIGKILL);
	waitpid(a, NULL, 0);
	relay_join(&r);
	/* Told so by the source, or it will be as soon as it looks. */
	shared->was_complete = (is_set(&shared->destination_ended) && shared->runs[1]) ||
			       (is_set(&shared->source_ended) && shared->phase == OUTGOING_DONE);
	c = start(be_recovered);
	waitpid(c, &status, 0);
	if (status)
		set(&shared->alone);
	why = reap(b, 0, WORLD_PATIENCE_MS) ? NULL : "it does not end";
	why = why ?: early_refused ? judge_file(WEXITSTATUS(status)) : "taken from one that lives";
	if (why)
		printf("# file %llu: %s: %s to %s, frame %u, hit %d; %d, %u %u, %llu\n",
		       (unsigned long long)number, why, r.urgent ? "urgent" : "main",
		       r.to_source ? "source" : "destination", r.frame, r.acted,
		       WEXITSTATUS(status), shared->runs[0], shared->runs[1],
		       (unsigned long long)shared->present);
	return !why;
}

static void test_file(unsigned int nr, u64 first)
{
	unsigned int bad = 0;
	u64 i;

	for (i = first; i < first + nr; i++)
		bad += !one_file(i);
	printf("# memory in a file: %u not given up, %u recovered, %u were complete\n",
	       outcomes_file[0], outcomes_file[1], outcomes_file[2]);
	ktap_result(!bad && (nr < 20 || outcomes_file[1] > nr / 8), "memory-in-a-file");
	unlink(MEM_FILE);
}

int main(int argc, char **argv)
{
	unsigned int nr = argc > 1 ? atoi(argv[1]) : 24, bad = 0, i, j;
	u64 first = argc > 2 ? atoll(argv[2]) : 0, n;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(3);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (n = first; n < first + nr; n++)
		bad += !one(n);
	for (i = 0; i < 4; i++) {
		const unsigned int *o = outcomes[i / 2][i % 2];

		printf("# %s %s: %u stayed, %u moved, %u on neither side\n",
		       i / 2 ? "destination" : "source", i % 2 ? "killed" : "stopped", o[0], o[1],
		       o[2]);
	}
	for (i = 0, j = 0; i < 4; i++)
		j += !!outcomes[i / 2][i % 2][1];
	/* What happens in which of a few rounds depends on the machine's load. */
	ktap_result(!bad && (j == 4 || nr < 100), "rounds");
	test_another(nr, first);
	test_file(nr, first);
	return ktap_end();
}
