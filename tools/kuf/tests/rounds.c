// SPDX-License-Identifier: GPL-2.0
/*
 * One Linux guest goes from file to file: saved while it works, restored, saved again
 * as soon as it has got on, and so on, lazily and eagerly in turn.  So it is saved with
 * pages that are still absent, too.
 *
 * Arguments: anon, shmem or gmem; how many vCPUs; how many rounds.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "kuf.h"

#define SOCKET		"/tmp/kuf-control"
#define SAVED		"/tmp/kuf-saved"
#define MAX_ROUNDS	100
#define GENERATIONS	8	/* a round */

static struct test_run run, saving;
static char nonce[40];

static bool ended_well(const struct test_run *r)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == KUF_EXIT_OK;
}

static bool clean(const char *console)
{
	return !strstr(console, "BUG:") && !strstr(console, "WARNING:") &&
	       !strstr(console, "Oops") && !strstr(console, "Call Trace") &&
	       !strstr(console, "guest: FAILED");
}

static void result(bool ok, const char *what, unsigned int round)
{
	if (!ok) {
		test_show(&run);
		test_show(&saving);
	}
	printf("# %s: %.1f s, %lld pages brought\n", what, run.seconds,
	       test_number(&run, "lazy: "));
	ktap_result(ok, "%s-%u", what, round);
}

static void boot(const char *backing, const char *cpus, unsigned int generations)
{
	char append[320], ncpus[20], kind[20];
	char *argv[16] = { TEST_KUF, "run", "--kernel=" TEST_KERNEL, "--initrd=" TEST_INITRD,
			 append, ncpus, kind, "--mem=96M", "--timeout=300",
			 "--disk=" TEST_DISK, "--control=" SOCKET };

	test_make_disk();
	snprintf(append, sizeof(append), "--append=%s guest.keep=%u", test_cmdline(atoi(cpus)),
		 generations);
	snprintf(ncpus, sizeof(ncpus), "--cpus=%s", cpus);
	snprintf(kind, sizeof(kind), "--backing=%s", backing);
	test_start(&run, argv);
}

static void restore(bool lazy, char *pager)
{
	char *argv[16] = { TEST_KUF, "restore", SAVED, lazy ? "--policy=lazy" : "--policy=eager",
			 "--timeout=300", "--disk=" TEST_DISK, "--control=" SOCKET, pager };

	test_start(&run, argv);
}

/* When it is at work, which a line of its console shows; all of them are of one guest. */
static bool save(void)
{
	char *argv[8] = { TEST_KUF, "save", SOCKET, SAVED };
	bool ok = test_wait_for(&run, "generation ") && test_wait_for(&run, ".\r");
	const char *at;

	test_start(&saving, argv);
	test_finish(&saving);
	test_finish(&run);
	at = strstr(run.console, "nonce ");
	if (!nonce[0] && at)
		snprintf(nonce, sizeof(nonce), "%.22s", at);
	return ok && ended_well(&saving) && ended_well(&run) && clean(run.console) &&
	       strstr(run.console, nonce) && !strstr(run.console, "guest: ok");
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc == 4 ? atoi(argv[3]) : 0, i;
	bool ok;

	if (!rounds || rounds > MAX_ROUNDS) {
		printf("Bail out! usage: kuf_rounds_test BACKING CPUS ROUNDS\n");
		return 1;
	}
	test_make_initrd();
	ktap_plan(rounds + 2);
	/* So many that it does not come to its end before it was saved the last time. */
	boot(argv[1], argv[2], GENERATIONS * (rounds + 2));
	ok = save();
	result(ok, "boot", 0);
	for (i = 1; i <= rounds; i++) {
		if (ok) {
			restore(i % 2, i % 4 == 3 ? "--pager=thread" : NULL);
			ok = save() && !strstr(run.console, "guest: up");
		}
		result(ok, i % 2 ? "lazy" : "eager", i);
	}
	if (ok) {
		restore(true, NULL);
		test_finish(&run);
		ok = ended_well(&run) && strstr(run.console, "guest: ok") && clean(run.console) &&
		     strstr(run.console, nonce) && test_disk_written();
	}
	result(ok, "end", i);
	return ktap_end();
}
