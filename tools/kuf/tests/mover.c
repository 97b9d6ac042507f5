// SPDX-License-Identifier: GPL-2.0
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

#include "kuf.h"
#include "mover.h"

struct test_run a, b, c, asks_first, asks;
char nonce[40];

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

bool ended(const struct test_run *r, int status)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == status;
}

bool clean(const struct test_run *r)
{
	return !strstr(r->console, "BUG:") && !strstr(r->console, "WARNING:") &&
	       !strstr(r->console, "Oops") && !strstr(r->console, "Call Trace") &&
	       !strstr(r->console, "guest: FAILED");
}

void result(bool ok, const char *name, const char *kind)
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

void result_no_guest(const char *name, const char *kind)
{
	printf("# the guest does not work\n");
	result(false, name, kind);
}

/* The test VM's loopback interface is down at first. */
bool has_tcp(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool has = fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &ifr);

	if (fd >= 0)
		close(fd);
	return has;
}

bool boot(unsigned int generations, const char *cpus, const char *backing, const char *more,
	  const char *other)
{
	char append[320], ncpus[20], kind[20];
	char *argv[16] = { TEST_KUF, "run", LINUX, "--initrd=" TEST_INITRD, append, ncpus, kind,
			 "--mem=96M", "--timeout=300", DISK, "--control=" CONTROL_A,
			 (char *)more, more ? (char *)other : NULL };
	const char *at;

	memset(&b, 0, sizeof(b));
	memset(&c, 0, sizeof(c));
	memset(&asks, 0, sizeof(asks));
	memset(&asks_first, 0, sizeof(asks_first));
	test_make_disk();
	/* Of one that was killed. */
	unlink(CONTROL_A);
	snprintf(append, sizeof(append), "--append=%s guest.keep=%u", test_cmdline(atoi(cpus)),
		 generations);
	snprintf(ncpus, sizeof(ncpus), "--cpus=%s", cpus);
	snprintf(kind, sizeof(kind), "--backing=%s", backing);
	test_start(&a, argv);
	if (!test_wait_for(&a, "generation 2.")) {
		/* A guest that failed may go on for as long as it is let. */
		kill(a.pid, SIGTERM);
		test_finish(&a);
		return false;
	}
	at = strstr(a.console, "nonce ");
	snprintf(nonce, sizeof(nonce), "%.22s", at ?: "no nonce");
	return true;
}

void receive(struct test_run *r, const char *address, const char *const *more)
{
	char listen[80];
	char *argv[16] = { TEST_KUF, "recv", listen, "--timeout=300", };
	int n;

	for (n = 0; more[n]; n++)
		argv[n + 4] = (char *)more[n];

	if (!strncmp(address, "unix:", 5))
		unlink(address + 5);
	snprintf(listen, sizeof(listen), "--listen=%s", address);
	test_start(r, argv);
	test_wait_said(r, "listening at");
}

void begin_to_send(struct test_run *r, const char *control, const char *address,
		   const char *more)
{
	char *argv[8] = { TEST_KUF, "send", (char *)control, (char *)address, (char *)more };

	test_start(r, argv);
}

int send_to(const char *control, const char *address, const char *more)
{
	begin_to_send(&asks, control, address, more);
	test_finish(&asks);
	return WIFEXITED(asks.status) ? WEXITSTATUS(asks.status) : -1;
}

/* What it says of pages, in lines of "kuf: lazy: " and so on. */
void lines(const char *who, const struct test_run *r, const char *prefix)
{
	const char *at;

	for (at = strstr(r->said, prefix); at; at = strstr(at + 1, prefix))
		printf("# %s: %.*s\n", who, (int)strcspn(at, "\n"), at);
}

bool status_says(const char *control, const char *state)
{
	char *argv[8] = { TEST_KUF, "status", (char *)control };

	test_start(&asks, argv);
	test_finish(&asks);
	return strstr(asks.console, state) || strstr(asks.said, state);
}

int recover(const char *what, const char *more, const char *other)
{
	char *argv[8] = { TEST_KUF, "recover", (char *)what, (char *)more, (char *)other };

	test_start(&asks, argv);
	test_finish(&asks);
	return WIFEXITED(asks.status) ? WEXITSTATUS(asks.status) : -1;
}
