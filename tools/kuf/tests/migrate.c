// SPDX-License-Identifier: GPL-2.0
/*
 * A Linux guest moves to another kuf while it works, post-copy, and on to a third one
 * before all of its memory is there; what is to be noticed is noticed.
 *
 * Arguments: unix (one vCPU, anon), smp (two, gmem), smp4 (four, shmem), tcp, break (faults
 * made on purpose), others (a source that dies, userfaultfd), and those of
 * migrate_recover.c, which begin with recover; all without.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kuf.h"
#include "mover.h"

/* Whoever is not ready for it does not get it. */
static void test_refusals(const char *kind)
{
	static const char *const none[] = { NULL };
	bool ok;

	/* Nobody is there. */
	ok = send_to(CONTROL_A, "unix:/tmp/kuf-nobody", NULL) == KUF_EXIT_FAILED;
	/* One without a disk. */
	receive(&b, UNIX_B, none);
	ok &= send_to(CONTROL_A, UNIX_B, NULL) == KUF_EXIT_FAILED;
	if (!ok)
		kill(b.pid, SIGTERM);
	test_finish(&b);
	ok &= ended(&b, KUF_EXIT_FAILED) && strstr(b.said, "the VM that comes has a disk") &&
	      !b.console[0];
	ok &= test_wait_for(&a, "generation 4.");
	result(ok, "refused", kind);
}

/*
 * Twice, the second time before all of its memory came, so that what the third one needs
 * is had of the first one then.
 */
static void test_moves(const char *cpus, const char *backing, const char *to_b, const char *to_c,
		       const char *backing_b, const char *backing_c, const char *policy_b,
		       const char *kind)
{
	const char *const more_b[] = { DISK, backing_b, policy_b, "--control=" CONTROL_B, NULL };
	const char *const more_c[] = { DISK, backing_c, "--policy=lazy", NULL };
	bool refuses = !strcmp(kind, "unix"), ok;
	int sent;

	if (!boot(GENERATIONS, cpus, backing, NULL, NULL)) {
		if (refuses)
			result_no_guest("refused", kind);
		result_no_guest("leaves", kind);
		result_no_guest("arrives", kind);
		return;
	}
	if (refuses)
		test_refusals(kind);
	receive(&b, to_b, more_b);
	begin_to_send(&asks_first, CONTROL_A, to_b, "--latency=1000");
	ok = test_wait_for(&b, "generation 7.");
	receive(&c, to_c, more_c);
	sent = ok ? send_to(CONTROL_B, to_c, NULL) : KUF_EXIT_FAILED;
	if (sent) {
		kill(c.pid, SIGTERM);
		kill(b.pid, SIGTERM);
		kill(a.pid, SIGTERM);
	}
	test_finish(&c);
	test_finish(&b);
	test_finish(&a);
	test_finish(&asks_first);
	lines("a", &a, "sent: ");
	lines("b", &b, "received: ");
	lines("b", &b, "lazy: ");
	lines("b", &b, "sent: ");
	lines("c", &c, "received: ");
	lines("c", &c, "lazy: ");
	ok = ok && !sent && ended(&asks_first, KUF_EXIT_OK);
	result(ok && ended(&a, KUF_EXIT_OK) && !strstr(a.console, "guest: ok") && clean(&a) &&
	       ended(&b, KUF_EXIT_OK) && !strstr(b.console, "guest: ok") && clean(&b) &&
	       strstr(b.console, nonce) && !strstr(b.console, "guest: up") &&
	       strstr(b.said, "received: 0 wrong"), "leaves", kind);
	result(ok && ended(&c, KUF_EXIT_OK) && strstr(c.console, "guest: ok") && clean(&c) &&
	       strstr(c.console, nonce) && !strstr(c.console, "guest: up") &&
	       strstr(c.said, "received: 0 wrong") && test_disk_written(), "arrives", kind);
}

static void test_break(const char *fault, const char *says)
{
	char option[40];
	/*
	 * That a page does not come is told by time; and in the background it might come
	 * nevertheless.
	 */
	static const char *const in_time[] = { "--policy=lazy", "--request-timeout=10000" };
	bool drop = !strcmp(fault, "drop");
	const char *const more[] = { DISK, option, drop ? in_time[0] : NULL, in_time[1], NULL };
	int sent;

	if (!boot(ENDLESS, "1", "anon", NULL, NULL)) {
		result_no_guest("break", fault);
		return;
	}
	snprintf(option, sizeof(option), "--break=%s", fault);
	receive(&b, UNIX_B, more);
	sent = send_to(CONTROL_A, UNIX_B, NULL);
	/* Where nothing came nothing ends, nor where nothing was noticed. */
	if (sent != KUF_EXIT_LOST) {
		kill(b.pid, SIGTERM);
		kill(a.pid, SIGTERM);
	}
	test_finish(&b);
	test_finish(&a);
	result(sent == KUF_EXIT_LOST && ended(&a, KUF_EXIT_LOST) && ended(&b, KUF_EXIT_PAGER) &&
	       strstr(b.said, says), "break", fault);
}

/* The source dies, with most of the guest's memory. */
static void test_cut(void)
{
	static const char *const more[] = { DISK, "--policy=lazy", "--timeout=120", NULL };
	bool ok;

	if (!boot(ENDLESS, "1", "anon", NULL, NULL)) {
		result_no_guest("cut", "lazy");
		return;
	}
	receive(&b, UNIX_B, more);
	begin_to_send(&asks_first, CONTROL_A, UNIX_B, NULL);
	ok = test_wait_for(&b, "generation");
	if (!ok)
		kill(b.pid, SIGTERM);
	kill(a.pid, SIGKILL);
	test_finish(&a);
	test_finish(&asks_first);
	test_finish(&b);
	result(ok && ended(&asks_first, KUF_EXIT_FAILED) && ended(&b, KUF_EXIT_LOST) && clean(&b) &&
	       strstr(b.said, "the source of the VM is gone"), "cut", "lazy");
}

/* The same by userfaultfd, to compare with. */
static void test_uffd(void)
{
	static const char *const more[] = { DISK, "--engine=uffd", "--policy=background", NULL };
	int sent;

	if (!boot(GENERATIONS, "1", "anon", NULL, NULL)) {
		result_no_guest("engine", "uffd");
		return;
	}
	receive(&b, UNIX_B, more);
	sent = send_to(CONTROL_A, UNIX_B, NULL);
	if (sent) {
		kill(b.pid, SIGTERM);
		kill(a.pid, SIGTERM);
	}
	test_finish(&a);
	test_finish(&b);
	lines("a", &a, "sent: ");
	lines("b", &b, "received: ");
	lines("b", &b, "lazy: ");
	result(!sent && ended(&a, KUF_EXIT_OK) && ended(&b, KUF_EXIT_OK) && clean(&b) &&
	       strstr(b.console, nonce) && strstr(b.console, "guest: ok") &&
	       test_disk_written(), "engine", "uffd");
}

int main(int argc, char **argv)
{
	bool all = argc < 2;
	bool by_unix = all || !strcmp(argv[1], "unix");
	bool smp = all || !strcmp(argv[1], "smp");
	bool smp4 = all || !strcmp(argv[1], "smp4");
	bool by_tcp = all || !strcmp(argv[1], "tcp");
	bool breaks = all || !strcmp(argv[1], "break");
	const char *recovers = all ? "recover-all" : argv[1];
	bool others = all || !strcmp(argv[1], "others");

	if (!by_unix && !smp && !smp4 && !by_tcp && !breaks && !others &&
	    !recover_cases(recovers)) {
		printf("Bail out! unix, smp, smp4, tcp, break, others, recover..., not %s\n",
		       argv[1]);
		return 1;
	}
	test_make_initrd();
	ktap_plan(3 * by_unix + 2 * smp + 2 * smp4 + 2 * by_tcp + 3 * breaks + 2 * others +
		  recover_cases(recovers));
	if (by_unix)
		test_moves("1", "anon", UNIX_B, UNIX_C, "--backing=shmem", "--backing=anon",
			   "--policy=background", "unix");
	if (smp)
		test_moves("2", "gmem", UNIX_B, UNIX_C, "--backing=gmem", "--backing=gmem",
			   "--policy=lazy", "smp");
	if (smp4)
		test_moves("4", "shmem", UNIX_B, UNIX_C, "--backing=shmem", "--backing=gmem",
			   "--policy=background", "smp4");
	if (by_tcp && has_tcp()) {
		test_moves("1", "shmem", TCP_B, TCP_C, "--backing=anon", "--backing=shmem",
			   "--policy=lazy", "tcp");
	} else if (by_tcp) {
		ktap_skip("no CONFIG_INET", "leaves-tcp");
		ktap_skip("no CONFIG_INET", "arrives-tcp");
	}
	if (breaks) {
		test_break("early-clear", "was let go before its content came");
		test_break("flip", "is not in memory as it was sent (CRC32C)");
		test_break("drop", "does not come");
	}
	if (others) {
		test_cut();
		test_uffd();
	}
	recover_run(recovers);
	return ktap_end();
}
