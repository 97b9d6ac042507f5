// SPDX-License-Identifier: GPL-2.0
/*
 * Moves of a Linux guest that do not go well: connections are cut, and processes are
 * stopped and killed, at either side.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kuf.h"
#include "mover.h"
#include "relay.h"

#define JOURNAL_A	"/tmp/kuf-journal-a"
#define JOURNAL_B	"/tmp/kuf-journal-b"
#define MEMORY_A	"/tmp/kuf-memory-a"

/* The network fails: before the VM was given up, and when its memory is on its way. */
static void test_basic(void)
{
	static const char *const more[] = { DISK, "--policy=background", "--control=" CONTROL_B,
					    "--journal=/tmp/kuf-journal-b", NULL };
	/* READY */
	struct relay early = { .listen = UNIX_R, .to = UNIX_B, .act = RELAY_CUT,
			       .to_source = true, .frame = 1, .cuts = 1 };
	struct relay late = { .listen = UNIX_R, .to = UNIX_B, .act = RELAY_CUT, .frame = 300,
			      .cuts = 1 };
	bool ok;
	int sent;

	if (!boot(GENERATIONS, "1", "anon", NULL, NULL)) {
		result_no_guest("taken-back", "unix");
		result_no_guest("recovered", "unix");
		return;
	}
	unlink("/tmp/kuf-journal-b");
	receive(&b, UNIX_B, more);
	relay_start(&early);
	sent = send_to(CONTROL_A, UNIX_R, NULL);
	test_finish(&b);
	relay_join(&early);
	ok = sent == KUF_EXIT_FAILED && ended(&b, KUF_EXIT_FAILED) && !b.console[0] &&
	     strstr(b.said, "the source goes on with the VM") &&
	     test_wait_for(&a, "generation 4.");
	result(ok, "taken-back", "unix");

	receive(&b, UNIX_B, more);
	relay_start(&late);
	sent = send_to(CONTROL_A, UNIX_R, NULL);
	test_wait_said(&b, "the source of the VM is gone");
	ok = sent == KUF_EXIT_CUT && status_says(CONTROL_A, "recoverable") &&
	     status_says(CONTROL_B, "recoverable") &&
	     send_to(CONTROL_A, UNIX_B, NULL) == KUF_EXIT_FAILED;
	ok &= recover(CONTROL_A, "unix:/tmp/kuf-nobody", NULL) == KUF_EXIT_CUT;
	relay_join(&late);
	ok &= recover(CONTROL_A, UNIX_B, NULL) == KUF_EXIT_OK;
	if (!ok)
		kill(b.pid, SIGTERM);
	test_finish(&a);
	test_finish(&b);
	lines("a", &a, "sent: ");
	lines("b", &b, "received: ");
	lines("b", &b, "lazy: ");
	result(ok && ended(&a, KUF_EXIT_OK) && ended(&b, KUF_EXIT_OK) && clean(&b) &&
	       strstr(b.console, nonce) && strstr(b.console, "guest: ok") &&
	       strstr(b.said, "received: 0 wrong") && test_disk_written(), "recovered", "unix");
}

/* It went on there, and all is as it should be. */
static bool arrived(const struct test_run *r)
{
	return ended(r, KUF_EXIT_OK) && clean(r) && strstr(r->console, nonce) &&
	       strstr(r->console, "guest: ok") && !strstr(r->console, "guest: up") &&
	       strstr(r->said, "received: 0 wrong") && test_disk_written();
}

static void finish(bool ok, struct test_run *to, const char *kind)
{
	if (!ok)
		kill(to->pid, SIGTERM);
	test_finish(to);
	lines("a", &a, "sent: ");
	lines("at last", to, "received: ");
	result(ok && arrived(to), "recovered", kind);
}

/* Cut once while memory comes, and recovered by hand, or by itself again and again. */
static void test_cut_late(const char *cpus, const char *backing, const char *to, const char *retry,
			  const char *kind)
{
	char backing_b[40];
	const char *const more[] = { DISK, "--policy=background", backing_b,
				     "--journal=" JOURNAL_B, "--control=" CONTROL_B, NULL };
	struct relay cut = { .listen = UNIX_R, .to = to, .act = RELAY_CUT, .frame = 300,
			     .cuts = retry ? 4 : 1, .every = 60 };
	bool ok;
	int sent;

	if (!boot(GENERATIONS, cpus, backing, NULL, NULL)) {
		result_no_guest("recovered", kind);
		return;
	}
	unlink(JOURNAL_B);
	unlink(CONTROL_B);
	snprintf(backing_b, sizeof(backing_b), "--backing=%s", backing);
	receive(&b, to, more);
	ok = status_says(CONTROL_B, "listening");
	relay_start(&cut);
	sent = send_to(CONTROL_A, UNIX_R, retry);
	relay_join(&cut);
	if (retry) {
		printf("# cut %u times\n", cut.done_cuts);
		ok &= sent == KUF_EXIT_OK && cut.done_cuts;
	} else {
		test_wait_said(&b, "the source of the VM is gone");
		ok &= sent == KUF_EXIT_CUT && status_says(CONTROL_A, "pages absent there") &&
		      recover(CONTROL_A, to, NULL) == KUF_EXIT_OK;
	}
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	finish(ok && ended(&a, KUF_EXIT_OK), &b, kind);
}

/* Either side stands still for a while; the source for so long that it is given up. */
static void test_stop(void)
{
	static const char *const more[] = { DISK, "--policy=lazy",
					    "--request-timeout=10000", NULL };
	bool ok;

	if (!boot(GENERATIONS, "1", "anon", NULL, NULL)) {
		result_no_guest("recovered", "stop");
		return;
	}
	receive(&b, UNIX_B, more);
	begin_to_send(&asks_first, CONTROL_A, UNIX_B, NULL);
	ok = test_wait_for(&b, "generation");
	kill(b.pid, SIGSTOP);
	sleep(2);
	kill(b.pid, SIGCONT);
	kill(a.pid, SIGSTOP);
	ok &= test_wait_said(&b, "the source of the VM is gone");
	kill(a.pid, SIGCONT);
	test_finish(&asks_first);
	ok &= ended(&asks_first, KUF_EXIT_CUT) && recover(CONTROL_A, UNIX_B, NULL) == KUF_EXIT_OK;
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	finish(ok, &b, "stop");
}

/* The source is killed, and its memory is in a file. */
static void test_file(void)
{
	static const char *const more[] = { DISK, "--policy=lazy", NULL };
	bool ok;

	unlink(JOURNAL_A);
	unlink(MEMORY_A);
	if (!boot(GENERATIONS, "1", "shmem", "--mem-path=" MEMORY_A, "--journal=" JOURNAL_A)) {
		result_no_guest("recovered", "file");
		return;
	}
	receive(&b, UNIX_B, more);
	begin_to_send(&asks_first, CONTROL_A, UNIX_B, NULL);
	ok = test_wait_for(&b, "generation");
	/* As long as it lives nobody is in its place. */
	ok &= recover("--journal=" JOURNAL_A, "--mem-path=" MEMORY_A, UNIX_B) == KUF_EXIT_FAILED;
	kill(a.pid, SIGKILL);
	test_finish(&a);
	test_finish(&asks_first);
	ok &= test_wait_said(&b, "the source of the VM is gone") &&
	      recover("--journal=" JOURNAL_A, "--mem-path=" MEMORY_A, UNIX_B) == KUF_EXIT_OK;
	lines("in its place", &asks, "sent: ");
	finish(ok, &b, "file");
	unlink(MEMORY_A);
}

/* The destination is killed before it hears GO; another one gets the VM. */
static void test_another(void)
{
	static const char *const more_b[] = { DISK, "--journal=" JOURNAL_B, NULL };
	static const char *const more_c[] = { DISK, "--policy=background", NULL };
	struct relay kills = { .listen = UNIX_R, .to = UNIX_B, .act = RELAY_NOTHING,
			       .to_source = true, .frame = 1, .signal = SIGKILL, .cuts = 1 };
	bool ok;
	int sent;

	if (!boot(GENERATIONS, "1", "anon", NULL, NULL)) {
		result_no_guest("recovered", "another");
		return;
	}
	unlink(JOURNAL_B);
	receive(&b, UNIX_B, more_b);
	kills.pid = b.pid;
	relay_start(&kills);
	sent = send_to(CONTROL_A, UNIX_R, NULL);
	test_finish(&b);
	relay_join(&kills);
	ok = sent == KUF_EXIT_CUT && !b.console[0];
	receive(&c, UNIX_C, more_c);
	ok &= recover(CONTROL_A, "--to-another=" UNIX_C, NULL) == KUF_EXIT_CUT &&
	      recover(CONTROL_A, "--to-another=unix:/tmp/kuf-nobody", "--revoke=" JOURNAL_B) ==
	      KUF_EXIT_CUT && status_says(CONTROL_A, "vacant") &&
	      recover(CONTROL_A, "--to-another=" UNIX_C, NULL) == KUF_EXIT_OK;
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	finish(ok && ended(&a, KUF_EXIT_OK), &c, "another");
}

static void test_smp(void)
{
	test_cut_late("2", "gmem", UNIX_B, NULL, "smp");
}

static void test_retry(void)
{
	test_cut_late("1", "anon", UNIX_B, "--retry=60", "retry");
}

static void test_tcp(void)
{
	if (has_tcp())
		test_cut_late("1", "shmem", TCP_B, NULL, "tcp");
	else
		ktap_skip("no CONFIG_INET", "recovered-tcp");
}

static const struct {
	const char *name;
	void (*run)(void);
	unsigned int results;
} cases[] = {
	{ "recover", test_basic, 2 }, { "recover-smp", test_smp, 1 },
	{ "recover-retry", test_retry, 1 }, { "recover-tcp", test_tcp, 1 },
	{ "recover-stop", test_stop, 1 }, { "recover-file", test_file, 1 },
	{ "recover-another", test_another, 1 },
};

static bool is_case(size_t i, const char *name)
{
	return !strcmp(name, cases[i].name) || !strcmp(name, "recover-all");
}

unsigned int recover_cases(const char *name)
{
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (is_case(i, name))
			n += cases[i].results;
	}
	return n;
}

void recover_run(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (is_case(i, name))
			cases[i].run();
	}
}
