// SPDX-License-Identifier: GPL-2.0
/*
 * A Linux guest moves to another kuf while it works, post-copy, and on to a third one
 * before all of its memory is there; what is to be noticed is noticed.
 *
 * Arguments: unix (one vCPU, anon), smp (two, gmem), smp4 (four, shmem), tcp, break (faults
 * made on purpose), others (a source that dies, userfaultfd), recover (connections that
 * are cut); all without.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "kuf.h"
#include "relay.h"

#define CONTROL_A	"/tmp/kuf-control-a"
#define CONTROL_B	"/tmp/kuf-control-b"
#define UNIX_B		"unix:/tmp/kuf-stream-b"
#define UNIX_C		"unix:/tmp/kuf-stream-c"
#define UNIX_R		"unix:/tmp/kuf-stream-relay"
#define TCP_B		"tcp:127.0.0.1:4441"
#define TCP_C		"tcp:127.0.0.1:4442"
#define LINUX		"--kernel=" TEST_KERNEL
#define DISK		"--disk=" TEST_DISK
#define GENERATIONS	16

/* Where the guest runs first, second, third; who asks for the first move, and others. */
static struct test_run a, b, c, asks_first, asks;
static char nonce[40];

/* What the relay says. */
int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return err ?: -EINVAL;
}

static bool ended(const struct test_run *r, int status)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == status;
}

static bool clean(const struct test_run *r)
{
	return !strstr(r->console, "BUG:") && !strstr(r->console, "WARNING:") &&
	       !strstr(r->console, "Oops") && !strstr(r->console, "Call Trace") &&
	       !strstr(r->console, "guest: FAILED");
}

static void result(bool ok, const char *name, const char *kind)
{
	if (!ok) {
		test_show(&a);
		test_show(&b);
		test_show(&c);
		test_show(&asks_first);
		test_show(&asks);
	}
	ktap_result(ok, "%s-%s", name, kind);
}

/* The test VM's loopback interface is down at first. */
static bool has_tcp(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool has = fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &ifr);

	if (fd >= 0)
		close(fd);
	return has;
}

static void boot(const char *cpus, const char *backing)
{
	char append[320], ncpus[20], kind[20];
	char *argv[16] = { TEST_KUF, "run", LINUX, "--initrd=" TEST_INITRD, append, ncpus, kind,
			 "--mem=96M", "--timeout=200", DISK, "--control=" CONTROL_A };
	const char *at;

	memset(&b, 0, sizeof(b));
	memset(&c, 0, sizeof(c));
	memset(&asks, 0, sizeof(asks));
	memset(&asks_first, 0, sizeof(asks_first));
	test_make_disk();
	/* Of one that was killed. */
	unlink(CONTROL_A);
	snprintf(append, sizeof(append), "--append=%s guest.keep=%u", test_cmdline(atoi(cpus)),
		 GENERATIONS);
	snprintf(ncpus, sizeof(ncpus), "--cpus=%s", cpus);
	snprintf(kind, sizeof(kind), "--backing=%s", backing);
	test_start(&a, argv);
	test_wait_for(&a, "generation 2.");
	at = strstr(a.console, "nonce ");
	snprintf(nonce, sizeof(nonce), "%.22s", at ?: "no nonce");
}

static void receive(struct test_run *r, const char *address, const char *const *more)
{
	char listen[80];
	char *argv[16] = { TEST_KUF, "recv", listen, "--timeout=200", };
	int n;

	for (n = 0; more[n]; n++)
		argv[n + 4] = (char *)more[n];

	if (!strncmp(address, "unix:", 5))
		unlink(address + 5);
	snprintf(listen, sizeof(listen), "--listen=%s", address);
	test_start(r, argv);
	test_wait_said(r, "listening at");
}

static void begin_to_send(struct test_run *r, const char *control, const char *address,
			  const char *more)
{
	char *argv[8] = { TEST_KUF, "send", (char *)control, (char *)address, (char *)more };

	test_start(r, argv);
}

static int send_to(const char *control, const char *address, const char *more)
{
	begin_to_send(&asks, control, address, more);
	test_finish(&asks);
	return WIFEXITED(asks.status) ? WEXITSTATUS(asks.status) : -1;
}

/* What it says of pages, in lines of "kuf: lazy: " and so on. */
static void lines(const char *who, const struct test_run *r, const char *prefix)
{
	const char *at;

	for (at = strstr(r->said, prefix); at; at = strstr(at + 1, prefix))
		printf("# %s: %.*s\n", who, (int)strcspn(at, "\n"), at);
}

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
static void test_moves(const char *to_b, const char *to_c, const char *backing_b,
		       const char *backing_c, const char *policy_b, const char *kind)
{
	const char *const more_b[] = { DISK, backing_b, policy_b, "--control=" CONTROL_B, NULL };
	const char *const more_c[] = { DISK, backing_c, "--policy=lazy", NULL };
	bool ok;
	int sent;

	receive(&b, to_b, more_b);
	begin_to_send(&asks_first, CONTROL_A, to_b, "--latency=1000");
	ok = test_wait_for(&b, "generation 7.");
	receive(&c, to_c, more_c);
	sent = ok ? send_to(CONTROL_B, to_c, NULL) : KUF_EXIT_FAILED;
	if (sent)
		kill(c.pid, SIGTERM);
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
	const char *const more[] = { DISK, option, "--request-timeout=3000", NULL };
	int sent;

	boot("1", "anon");
	snprintf(option, sizeof(option), "--break=%s", fault);
	receive(&b, UNIX_B, more);
	sent = send_to(CONTROL_A, UNIX_B, NULL);
	/* Where nothing came nothing ends. */
	if (sent != KUF_EXIT_LOST)
		kill(b.pid, SIGTERM);
	test_finish(&b);
	test_finish(&a);
	result(sent == KUF_EXIT_LOST && ended(&a, KUF_EXIT_LOST) && ended(&b, KUF_EXIT_PAGER) &&
	       strstr(b.said, says), "break", fault);
}

/* The source dies, with most of the guest's memory. */
static void test_cut(void)
{
	static const char *const more[] = { DISK, "--policy=lazy", "--timeout=15", NULL };

	boot("1", "anon");
	receive(&b, UNIX_B, more);
	begin_to_send(&asks_first, CONTROL_A, UNIX_B, NULL);
	test_wait_for(&b, "generation");
	kill(a.pid, SIGKILL);
	test_finish(&a);
	test_finish(&asks_first);
	test_finish(&b);
	result(ended(&asks_first, KUF_EXIT_FAILED) && ended(&b, KUF_EXIT_LOST) && clean(&b) &&
	       strstr(b.said, "the source of the VM is gone"), "cut", "lazy");
}

/* The same by userfaultfd, to compare with. */
static void test_uffd(void)
{
	static const char *const more[] = { DISK, "--engine=uffd", "--policy=background", NULL };
	int sent;

	boot("1", "anon");
	receive(&b, UNIX_B, more);
	sent = send_to(CONTROL_A, UNIX_B, NULL);
	if (sent)
		kill(b.pid, SIGTERM);
	test_finish(&a);
	test_finish(&b);
	lines("a", &a, "sent: ");
	lines("b", &b, "received: ");
	lines("b", &b, "lazy: ");
	result(!sent && ended(&a, KUF_EXIT_OK) && ended(&b, KUF_EXIT_OK) && clean(&b) &&
	       strstr(b.console, nonce) && strstr(b.console, "guest: ok") &&
	       test_disk_written(), "engine", "uffd");
}

static bool status_says(const char *control, const char *state)
{
	char *argv[8] = { TEST_KUF, "status", (char *)control };

	test_start(&asks, argv);
	test_finish(&asks);
	return strstr(asks.console, state) || strstr(asks.said, state);
}

static int recover(const char *control, const char *address)
{
	char *argv[8] = { TEST_KUF, "recover", (char *)control, (char *)address };

	test_start(&asks, argv);
	test_finish(&asks);
	return WIFEXITED(asks.status) ? WEXITSTATUS(asks.status) : -1;
}

/* The network fails: before the VM was given up, and when its memory is on its way. */
static void test_recover(void)
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

	boot("1", "anon");
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
	ok &= recover(CONTROL_A, "unix:/tmp/kuf-nobody") == KUF_EXIT_CUT;
	relay_join(&late);
	ok &= recover(CONTROL_A, UNIX_B) == KUF_EXIT_OK;
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

int main(int argc, char **argv)
{
	bool all = argc < 2;
	bool by_unix = all || !strcmp(argv[1], "unix");
	bool smp = all || !strcmp(argv[1], "smp");
	bool smp4 = all || !strcmp(argv[1], "smp4");
	bool by_tcp = all || !strcmp(argv[1], "tcp");
	bool breaks = all || !strcmp(argv[1], "break");
	bool recovers = all || !strcmp(argv[1], "recover");
	bool others = all || !strcmp(argv[1], "others");

	if (!by_unix && !smp && !smp4 && !by_tcp && !breaks && !others && !recovers) {
		printf("Bail out! unix, smp, smp4, tcp, break, others or recover, not %s\n", argv[1]);
		return 1;
	}
	test_make_initrd();
	ktap_plan(3 * by_unix + 2 * smp + 2 * smp4 + 2 * by_tcp + 3 * breaks + 2 * others + 2 * recovers);
	if (by_unix) {
		boot("1", "anon");
		test_refusals("unix");
		test_moves(UNIX_B, UNIX_C, "--backing=shmem", "--backing=anon",
			   "--policy=background", "unix");
	}
	if (smp) {
		boot("2", "gmem");
		test_moves(UNIX_B, UNIX_C, "--backing=gmem", "--backing=gmem", "--policy=lazy",
			   "smp");
	}
	if (smp4) {
		boot("4", "shmem");
		test_moves(UNIX_B, UNIX_C, "--backing=shmem", "--backing=gmem",
			   "--policy=background", "smp4");
	}
	if (by_tcp && has_tcp()) {
		boot("1", "shmem");
		test_moves(TCP_B, TCP_C, "--backing=anon", "--backing=shmem", "--policy=lazy",
			   "tcp");
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
	if (recovers)
		test_recover();
	return ktap_end();
}
