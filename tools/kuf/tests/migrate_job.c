// SPDX-License-Identifier: GPL-2.0
/*
 * The main job: a Linux guest that works on 64 MiB of memory and on a disk is saved in
 * the middle of that, and goes on from the file, page by page; and once more by
 * userfaultfd, to compare.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "guest.h"
#include "kuf.h"
#include "party.h"

#define SOCKET		"/tmp/kuf-control"
#define SAVED		"/tmp/kuf-saved"
#define PATIENCE	150.0
#define GENERATIONS	5
#define SAVE_AFTER	"generation 3."
#define AFTERWARDS	"generation 4."
#define DISK_SAVED	"/tmp/kuf-disk-saved"
#define TRACE		"/tmp/kuf-trace"
#define TRACE_EACH	8	/* of so many lines one goes to the host */
#define ENOUGH_PAGES	1000
#define DISK_LATENCY	"--disk-latency=8000"

static struct party doctor, source, saver, asker, restored, compared;
static struct chain chain, restored_log;	/* when saved; and at the end */
static double restored_end;
static const char *wrong;	/* the first thing that is */

static bool expect(bool ok, const char *what)
{
	if (!ok)
		party_say("job", "NOT SO: %s", what);
	if (!ok && !wrong)
		wrong = what;
	return ok;
}

/* The number before @what, as it was said last; -1: it was not. */
static long long number_before(const struct party *p, const char *what)
{
	const char *at = NULL, *next = p->run.said;

	while ((next = strstr(next, what)))
		at = next++;
	while (at && at > p->run.said && at[-1] == ' ')
		at--;
	while (at && at > p->run.said && strchr("0123456789", at[-1]))
		at--;
	return at && strchr("0123456789", *at) ? atoll(at) : -1;
}

/* A command that ends by itself, with status 0. */
static bool command(struct party *p, char *name, ...)
{
	char *argv[12] = { TEST_KUF, name };
	char *arg;
	va_list ap;
	int n = 2;

	va_start(ap, name);
	while ((arg = va_arg(ap, char *)))
		argv[n++] = arg;
	va_end(ap);
	party_start(p, name, argv);
	return party_finish(p, PATIENCE) && party_exited(p, KUF_EXIT_OK);
}

static void start_source(void)
{
	static char append[400];
	char *argv[] = { TEST_KUF, "run", "--kernel=" TEST_KERNEL, "--initrd=" TEST_INITRD, append,
			 "--mem=160M", "--timeout=200", "--disk=" TEST_DISK, DISK_LATENCY,
			 "--control=" SOCKET, NULL };

	snprintf(append, sizeof(append), "--append=%s guest.keep=%u guest.dirty=64",
		 test_cmdline(1), GENERATIONS);
	party_start(&source, "source", argv);
	expect(party_wait_for(&source, true, SAVE_AFTER, PATIENCE), "the guest works");
	command(&asker, "status", SOCKET, "--json", NULL);
	expect(strstr(asker.run.console, "\"status\": \"running\""), "kuf status says so");
}

static void save(void)
{
	expect(command(&saver, "save", SOCKET, SAVED, NULL), "it can be saved");
	expect(party_finish(&source, PATIENCE) && party_exited(&source, KUF_EXIT_OK),
	       "the source ends then");
	expect(!strstr(source.run.console, "guest: ok"), "in the middle of its work");
	expect(chain_read(&chain, source.run.console), "the source's log");
	expect(test_copy(TEST_DISK, DISK_SAVED), "a copy of the disk");
	expect(number_before(&source, " disk requests in flight") > 0,
	       "disk requests in flight at the switch-over");
}

/* From the file, by one engine; the same work for both. */
static void restore(struct party *p, char *name, char *engine, char *trace)
{
	char *argv[] = { TEST_KUF, "restore", SAVED, "--policy=lazy", engine, "--disk=" TEST_DISK,
			 DISK_LATENCY, "--control=" SOCKET, "--timeout=150", trace, NULL };
	struct chain log = chain;

	expect(test_copy(DISK_SAVED, TEST_DISK), "a copy of the disk");
	party_start(p, name, argv);
	party_wait_for(p, true, AFTERWARDS, PATIENCE);
	command(&asker, "status", SOCKET, "--json", NULL);
	expect(strstr(asker.run.console, "\"postcopy-latency-dist\""), "kuf status says so");
	expect(party_finish(p, PATIENCE) && party_exited(p, KUF_EXIT_OK),
	       "the restored guest ends by itself");
	expect(chain_read(&log, p->run.console) && log.generation == GENERATIONS,
	       "one log, on both consoles");
	expect(strstr(p->run.console, "guest: ok"), "the guest is content");
	expect(!strstr(p->run.console, "guest: up"), "it was not booted again");
	expect(test_disk_written(), "the disk is as the guest left it");
	expect(number_before(p, " pages on demand") >= ENOUGH_PAGES, "enough pages on demand");
	expect(number_before(p, " wrong") == 0, "no page is wrong");
	if (p == &restored)
		restored_log = log;
}

/* How long it took until all of the guest's memory was written once more. */
static double working_time(const struct party *p)
{
	return party_time_of(p, true, AFTERWARDS) - party_time_of(p, false, "the guest runs");
}

/* For the host, which draws it. */
static void show_trace(void)
{
	FILE *in = fopen(TRACE, "r");
	unsigned int n = 0;
	char line[128];

	while (in && fgets(line, sizeof(line), in)) {
		if (line[0] != '#' && !(n++ % TRACE_EACH))
			printf("DATA trace %s", line);
	}
	if (in)
		fclose(in);
	expect(n >= ENOUGH_PAGES, "a trace");
}

/* What it came to, for people. */
static void conclude(void)
{
	double stopped = party_time_of(&source, false, "the guest stands still");
	double runs = party_time_of(&restored, false, "the guest runs");
	const char *disk = strstr(restored.run.console, "guest: disk: ");

	printf("\n  owner of the guest  from [s]   to [s]\n");
	printf("  source              %8.3f %8.3f\n", 0.0, stopped);
	printf("  the file            %8.3f %8.3f\n", stopped, runs);
	printf("  restored            %8.3f %8.3f\n", runs, restored_end);
	printf("  downtime            %8.3f s, with writing the file\n", runs - stopped);
	printf("  the guest's own largest gap  %llu us\n",
	       (unsigned long long)restored_log.max_gap_us);
	printf("  same guest: nonce %016llx, log of %u generations, head %016llx\n",
	       (unsigned long long)restored_log.nonce, restored_log.generation,
	       (unsigned long long)restored_log.hash);
	if (disk)
		printf("  %.*s\n", (int)strcspn(disk, "\n"), disk);
	printf("  %lld disk requests in flight at the switch-over\n",
	       number_before(&source, " disk requests in flight"));
	printf("  KVM userfault: %lld pages on demand, %lld wrong; 64 MiB once more in %.1f s\n",
	       number_before(&restored, " pages on demand"), number_before(&restored, " wrong"),
	       working_time(&restored));
	printf("  userfaultfd:   %lld pages on demand, %lld wrong; 64 MiB once more in %.1f s, ratio %.2f\n\n",
	       number_before(&compared, " pages on demand"), number_before(&compared, " wrong"),
	       working_time(&compared), working_time(&compared) / working_time(&restored));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	party_now();
	test_make_initrd();
	test_make_disk();
	ktap_plan(1);
	if (!command(&doctor, "doctor", NULL))
		printf("%s", doctor.run.console);
	expect(party_exited(&doctor, KUF_EXIT_OK), "kuf doctor says that it will work");
	start_source();
	if (!wrong)
		save();
	if (!wrong) {
		restore(&restored, "restored", "--engine=kuf", "--trace=" TRACE);
		restored_end = party_now();
	}
	if (!wrong)
		restore(&compared, "uffd", "--engine=uffd", NULL);
	if (!wrong) {
		show_trace();
		conclude();
	}
	ktap_result(!wrong, "main-job");
	return ktap_end();
}
