// SPDX-License-Identifier: GPL-2.0
/*
 * Guests whose memory comes from kuf pager, a process of its own, which is killed, stopped
 * and started again in the middle of their work: they end right, and each page came once.
 *
 * Arguments: tiny (a guest of some bytes), linux, or two (Linux guests at once, from one
 * file and one pager).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "chain.h"
#include "guest.h"
#include "kuf.h"
#include "tiny.h"

#define CONTROL		"/tmp/kuf-control"
#define PAGER		"/tmp/kuf-pager"
#define SAVED		"/tmp/kuf-saved"
#define DISK_SAVED	"/tmp/kuf-disk-saved"
#define DISK_TWO	"/tmp/kuf-disk-two"
#define GENERATIONS	32
#define PATIENCE_S	120

static struct test_run run, second, pager, other;
static struct chain saved_chain;
static unsigned int killed;

static bool ended(const struct test_run *r, int status)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == status;
}

static void result(bool ok, const char *name)
{
	if (!ok) {
		test_show(&run);
		test_show(&second);
		test_show(&pager);
	}
	ktap_result(ok, "%s", name);
}

static bool clean(const char *console)
{
	return !strstr(console, "BUG:") && !strstr(console, "WARNING:") &&
	       !strstr(console, "Oops") && !strstr(console, "Call Trace") &&
	       !strstr(console, "guest: FAILED");
}

static bool start_pager(void)
{
	char *argv[8] = { TEST_KUF, "pager", "--listen=" PAGER };

	test_start(&pager, argv);
	return test_wait_said(&pager, "pager: at " PAGER);
}

/* How it ended, and what it said, is looked at by who started it. */
static void end_pager(int how)
{
	kill(pager.pid, how);
	test_finish(&pager);
}

static bool restart_pager(int how)
{
	if (test_has_ended(&run))
		return false;
	end_pager(how);
	killed++;
	/* Away for a while: guests wait. */
	usleep(100000);
	return start_pager();
}

/* And up to two more options. */
static void start_restore(struct test_run *r, const char *policy, const char *one,
			  const char *other)
{
	char *argv[16] = { TEST_KUF, "restore", SAVED, (char *)policy, "--pager=unix:" PAGER,
			 "--pager-timeout=100", "--timeout=300" };
	int n = 7;

	if (one)
		argv[n++] = (char *)one;
	if (other)
		argv[n++] = (char *)other;
	test_start(r, argv);
}

/* Of how many pagers the VM's memory came, and whether all of it was counted. */
static bool counted(const struct test_run *r, const char *name)
{
	long long pagers = test_number(r, "lazy: pagers "), rest;

	rest = test_number(r, "not counted by those that died: ");
	printf("# %s: %.1f s, %lld pages filled by %lld pagers, %lld of them not counted\n", name,
	       r->seconds, test_number(r, "lazy: "), pagers, rest);
	/* Those that were killed had no more than a round that they had not told of. */
	return strstr(r->said, " 0 wrong") && strstr(r->said, "failed 0") && pagers >= 1 &&
	       rest >= 0 && rest <= 160ll * killed;
}

static bool pager_serves(void)
{
	char text[64];

	snprintf(text, sizeof(text), "the pager (process %d) serves", pager.pid);
	return test_wait_said(&run, text);
}

/* kuf status notices within seconds; the guest does not. */
static bool pager_is_silent(const char *control)
{
	const char *const args[] = { "status", control, NULL };
	time_t end = time(NULL) + PATIENCE_S;

	do {
		test_execute(&other, args);
		if (strstr(other.console, "does not answer: process "))
			return true;
		usleep(200000);
	} while (time(NULL) < end && !test_has_ended(&run));
	return false;
}

static void test_tiny_killed(const char *backing)
{
	char name[32];
	unsigned int i;
	bool ok;

	killed = 0;
	ok = start_pager();
	start_restore(&run, "--policy=lazy", backing, NULL);
	ok = ok && test_wait_said(&run, "the guest runs");
	/* At any moment until the guest has ended; at least one is in its way. */
	for (i = 0; i < 6 && restart_pager(i == 3 ? SIGTERM : SIGKILL); i++)
		usleep(150000 * (i + 1));
	test_finish(&run);
	end_pager(SIGTERM);
	ok = ok && killed && ended(&run, KUF_EXIT_OK) && ended(&pager, KUF_EXIT_OK);
	snprintf(name, sizeof(name), "tiny-killed-%s", backing + strlen("--backing="));
	result(counted(&run, name) && ok && test_number(&run, "lazy: ") >= 2048, name);
}

/* The pager lets go of a VM whose kuf is killed, and serves others. */
static void test_vmm_killed(void)
{
	bool ok;

	killed = 0;
	ok = start_pager();
	start_restore(&run, "--policy=background", "--backing=gmem", NULL);
	ok = ok && test_wait_said(&run, "the guest runs");
	kill(run.pid, SIGKILL);
	test_finish(&run);
	ok = ok && test_wait_said(&pager, " is gone");
	start_restore(&run, "--policy=lazy", NULL, NULL);
	test_finish(&run);
	end_pager(SIGTERM);
	result(counted(&run, "another") && ok && ended(&run, KUF_EXIT_OK) &&
	       ended(&pager, KUF_EXIT_OK), "tiny-vmm-killed");
}

static void test_tiny(void)
{
	const char *const nowhere[] = { "restore", SAVED, "--policy=lazy", "--pager=unix:/none",
					NULL };
	bool ok;

	result(tiny_save(&run, &other, SAVED), "save-tiny");
	test_execute(&run, nowhere);
	result(ended(&run, KUF_EXIT_FAILED) &&
	       strstr(run.said, "no pager listens at /none: kuf pager --listen=SOCKET"),
	       "tiny-nowhere");
	test_tiny_killed("--backing=anon");
	test_tiny_killed("--backing=gmem");
	test_vmm_killed();

	/* Nobody comes any more. */
	killed = 0;
	ok = start_pager();
	{
		char *argv[16] = { TEST_KUF, "restore", SAVED, "--policy=lazy",
				 "--pager=unix:" PAGER, "--pager-timeout=5", "--timeout=100" };

		test_start(&run, argv);
	}
	ok = ok && test_wait_said(&run, "the guest runs");
	end_pager(SIGKILL);
	test_finish(&run);
	result(ok && ended(&run, KUF_EXIT_PAGER) &&
	       strstr(run.said, "no pager came to " PAGER " in 5 s (--pager-timeout)"),
	       "tiny-no-pager");
}

/* A Linux guest in the middle of its work. */
static bool save_linux(void)
{
	char append[320];
	char *vm[16] = { TEST_KUF, "run", "--kernel=" TEST_KERNEL, "--initrd=" TEST_INITRD,
		       append, "--mem=96M", "--timeout=300", "--disk=" TEST_DISK,
		       "--control=" CONTROL };
	const char *const save[] = { "save", CONTROL, SAVED, NULL };
	bool ok;

	unlink(SAVED);
	test_make_initrd();
	test_make_disk();
	snprintf(append, sizeof(append), "--append=%s guest.keep=%u", test_cmdline(1), GENERATIONS);
	test_start(&run, vm);
	ok = test_wait_for(&run, "generation 2.");
	test_execute(&other, save);
	test_finish(&run);
	memset(&saved_chain, 0, sizeof(saved_chain));
	ok = ok && ended(&other, KUF_EXIT_OK) && ended(&run, KUF_EXIT_OK) &&
	     chain_read(&saved_chain, run.console) && saved_chain.generation < GENERATIONS &&
	     clean(run.console) && test_copy(TEST_DISK, DISK_SAVED);
	printf("# saved in generation %u after %.1f s\n", saved_chain.generation, run.seconds);
	result(ok, "save-linux");
	return ok;
}

/* It is the one that was saved, and went on where it was, and did all of its work. */
static bool guest_is_right(const struct test_run *r)
{
	struct chain chain = saved_chain;

	return ended(r, KUF_EXIT_OK) && strstr(r->console, "guest: ok") && clean(r->console) &&
	       !strstr(r->console, "guest: up") && chain_read(&chain, r->console) &&
	       chain.generation == GENERATIONS;
}

static void test_linux(void)
{
	unsigned int i;
	bool ok;

	test_copy(DISK_SAVED, TEST_DISK);
	killed = 0;
	ok = start_pager();
	start_restore(&run, "--policy=lazy", "--disk=" TEST_DISK, "--control=" CONTROL);
	ok = ok && test_wait_said(&run, "the guest runs");
	/* Some of them may not have been noticed before they are killed, which is fine, too. */
	for (i = 0; ok && i < 5; i++) {
		ok = i % 2 == 0 || pager_serves();
		usleep(200000 * i);
		ok = ok && restart_pager(SIGKILL);
	}
	/* Earlier than that it would be one that never came. */
	ok = ok && pager_serves();
	kill(pager.pid, SIGSTOP);
	ok = ok && pager_is_silent(CONTROL);
	kill(pager.pid, SIGCONT);
	ok = ok && restart_pager(SIGTERM);
	test_finish(&run);
	end_pager(SIGTERM);
	result(counted(&run, "linux") && ok && guest_is_right(&run) && test_disk_written() &&
	       strstr(run.said, "does not answer: is it stopped") && ended(&pager, KUF_EXIT_OK) &&
	       test_number(&run, "lazy: pagers ") >= 4, "linux-killed");
}

/* From one file, with one pager, which is killed as well. */
static void test_two(void)
{
	unsigned int i;
	bool ok;

	test_copy(DISK_SAVED, TEST_DISK);
	test_copy(DISK_SAVED, DISK_TWO);
	killed = 0;
	ok = start_pager();
	start_restore(&run, "--policy=lazy", "--disk=" TEST_DISK, NULL);
	start_restore(&second, "--policy=background", "--disk=" DISK_TWO, NULL);
	ok = test_wait_said(&run, "the guest runs") && test_wait_said(&second, "the guest runs") &&
	     ok;
	for (i = 0; ok && i < 3; i++) {
		usleep(300000 * i);
		ok = restart_pager(SIGKILL);
	}
	test_finish(&run);
	test_finish(&second);
	end_pager(SIGTERM);
	ok = counted(&run, "two, lazy") && ok;
	ok = counted(&second, "two, background") && ok;
	result(ok && guest_is_right(&run) && guest_is_right(&second) && test_disk_written(), "two");
}

int main(int argc, char **argv)
{
	bool tiny = argc == 2 && !strcmp(argv[1], "tiny");
	bool linux_guest = argc == 2 && !strcmp(argv[1], "linux");
	bool two = argc == 2 && !strcmp(argv[1], "two");

	if (!tiny && !linux_guest && !two) {
		printf("Bail out! usage: kuf_pager_vm_test tiny|linux|two\n");
		return 1;
	}
	ktap_plan(tiny ? 6 : 2);
	if (tiny)
		test_tiny();
	else if (!save_linux())
		ktap_result(false, "%s", argv[1]);
	else if (two)
		test_two();
	else
		test_linux();
	return ktap_end();
}
