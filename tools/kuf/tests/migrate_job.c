// SPDX-License-Identifier: GPL-2.0
/*
 * The main job: a Linux guest that works on 64 MiB of memory and on a disk is moved to
 * another kuf in the middle of that, then saved, and goes on from the file, page by page;
 * and from the file once more by userfaultfd, to compare.  Pages of it are poisoned on the
 * way: who uses one is told, wherever it is.  With --break=KIND the move has a fault, which
 * has to be noticed.
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
#define SOCKET_2	"/tmp/kuf-control-2"
#define ADDRESS		"unix:/tmp/kuf-job"
#define SAVED		"/tmp/kuf-saved"
#define DISK_SAVED	"/tmp/kuf-disk-saved"
#define TRACE		"/tmp/kuf-trace"
#define TRACE_EACH	8	/* of so many lines one goes to the host */
#define PATIENCE	300.0
/* Enough for the guest to be at work whenever it is moved. */
#define GENERATIONS	16
#define PAUSE_MS	500
#define WORK		" guest.dirty=64 guest.poison=1"
#define MOVE_AFTER	"generation 2."	/* it is moved then */
#define GENERATION_MOVED "generation 3."
#define ENOUGH_PAGES	1000
/* So slow that requests are in flight at any time. */
#define DISK_LATENCY	"--disk-latency=40000"

/* What kuf says. */
#define DEMAND		" pages on demand"
#define IN_FLIGHT	" disk requests in flight"

static struct party doctor, source, sender, destination, saver, asker, poisoner, restored,
	compared;
static struct chain chain, log_at_end;	/* up to the save; all of it */
static double restored_end;
/* The generation that the save was in the middle of, and the first one after that. */
static char afterwards[32], once_more[32];
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

/* The guest's page of that name. */
static void poison(char *socket, const char *name)
{
	char gpa[40];

	if (expect(test_poison_page(source.run.console, name, gpa, sizeof(gpa)),
		   "the guest has a page to be poisoned"))
		expect(command(&poisoner, "poison", socket, gpa, NULL), "it can be poisoned");
}

/* Whoever used it says so. */
static void told(struct party *p, const char *name)
{
	char text[40];

	snprintf(text, sizeof(text), "%s told.", name);
	expect(party_wait_for(p, true, text, PATIENCE), text);
}

static void start_source(void)
{
	static char append[400];
	char *argv[16] = { TEST_KUF, "run", "--kernel=" TEST_KERNEL, "--initrd=" TEST_INITRD,
			 append, "--mem=160M", "--timeout=600", "--disk=" TEST_DISK, DISK_LATENCY,
			 "--control=" SOCKET, NULL };

	snprintf(append, sizeof(append), "--append=%s" WORK " guest.keep=%u guest.pause=%u",
		 test_cmdline(1), GENERATIONS, PAUSE_MS);
	party_start(&source, "source", argv);
	expect(party_wait_for(&source, true, MOVE_AFTER, PATIENCE), "the guest works");
	command(&asker, "status", SOCKET, "--json", NULL);
	expect(strstr(asker.run.console, "\"status\": \"running\""), "kuf status says so");
	poison(SOCKET, "used");
	told(&source, "used");
	/* This one the guest does not come to before it is somewhere else. */
	poison(SOCKET, "kept");
}

/* To another kuf, whose requests are replied to late. */
static void migrate(char *fault)
{
	char *argv[16] = { TEST_KUF, "recv", "--listen=" ADDRESS, "--policy=background",
			 "--disk=" TEST_DISK, DISK_LATENCY, "--control=" SOCKET_2,
			 "--timeout=600", "--trace=" TRACE, fault, NULL };
	char *send[16] = { TEST_KUF, "send", SOCKET, ADDRESS, "--latency=1000",
			 "--bandwidth=1536K", NULL };

	party_start(&destination, "dest", argv);
	expect(party_wait_for(&destination, false, "listening at", PATIENCE), "it listens");
	party_start(&sender, "send", send);
	if (fault) {
		expect(party_finish(&destination, PATIENCE) &&
		       party_exited(&destination, KUF_EXIT_PAGER), "the fault is noticed");
		return;
	}
	expect(party_wait_for(&destination, true, GENERATION_MOVED, PATIENCE),
	       "it works at its destination");
	command(&asker, "status", SOCKET_2, "--json", NULL);
	expect(strstr(asker.run.console, "\"epoch\": 1"), "kuf status says so");
	expect(party_finish(&sender, PATIENCE) && party_exited(&sender, KUF_EXIT_OK),
	       "all of it went");
	expect(party_finish(&source, PATIENCE) && party_exited(&source, KUF_EXIT_OK),
	       "the source ends then");
	expect(!strstr(source.run.console, "guest: ok"), "in the middle of its work");
	expect(chain_read(&chain, source.run.console), "the source's log");
	expect(number_before(&source, IN_FLIGHT) > 0,
	       "disk requests in flight at the switch-over");
}

static void save(void)
{
	poison(SOCKET_2, "copied");
	told(&destination, "copied");
	poison(SOCKET_2, "dma");
	told(&destination, "dma");

	expect(command(&saver, "save", SOCKET_2, SAVED, NULL), "it can be saved");
	expect(party_finish(&destination, PATIENCE) && party_exited(&destination, KUF_EXIT_OK),
	       "the destination ends then");
	expect(chain_read(&chain, destination.run.console), "one log, on both consoles");
	expect(chain.generation < GENERATIONS - 3, "it is saved in the middle of its work");
	snprintf(afterwards, sizeof(afterwards), "generation %u.", chain.generation + 1);
	snprintf(once_more, sizeof(once_more), "generation %u.", chain.generation + 2);
	expect(number_before(&destination, DEMAND) >= ENOUGH_PAGES,
	       "enough pages on demand");
	expect(number_before(&destination, " wrong") == 0, "no page is wrong");
	expect(test_copy(TEST_DISK, DISK_SAVED), "a copy of the disk");
}

/* From the file, by one engine; the same work for both. */
static void restore(struct party *p, char *name, char *engine)
{
	char *argv[16] = { TEST_KUF, "restore", SAVED, "--policy=lazy", engine, "--disk=" TEST_DISK,
			 DISK_LATENCY, "--control=" SOCKET, "--timeout=600", NULL };
	struct chain log = chain;

	expect(test_copy(DISK_SAVED, TEST_DISK), "a copy of the disk");
	party_start(p, name, argv);
	party_wait_for(p, true, afterwards, PATIENCE);
	command(&asker, "status", SOCKET, "--json", NULL);
	expect(strstr(asker.run.console, "\"postcopy-latency-dist\""), "kuf status says so");
	expect(strstr(asker.run.console, "\"poisoned\": 4"), "what was poisoned is so");
	poison(SOCKET, "late");
	poison(SOCKET, "signal");
	told(p, "kept");
	expect(party_finish(p, PATIENCE) && party_exited(p, KUF_EXIT_OK),
	       "the restored guest ends by itself");
	expect(chain_read(&log, p->run.console) && log.generation == GENERATIONS,
	       "one log, on both consoles");
	expect(strstr(p->run.console, "guest: ok"), "the guest is content");
	expect(!strstr(p->run.console, "guest: up"), "it was not booted again");
	expect(test_disk_written(), "the disk is as the guest left it");
	expect(number_before(p, DEMAND) >= ENOUGH_PAGES, "enough pages on demand");
	expect(number_before(p, " wrong") == 0, "no page is wrong");
	if (p == &restored)
		log_at_end = log;
}

/* How long it took until all of the guest's memory was written once more. */
static double working_time(const struct party *p)
{
	return party_time_of(p, true, once_more) - party_time_of(p, false, "the guest runs");
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

static void show_owner(const char *name, double from, double to)
{
	printf("  %-12s %8.3f %8.3f\n", name, from, to);
}

/* What the guest itself said of a poisoned page. */
static void show_poison(const char *when, const struct party *p, const char *name)
{
	const char *at = p->run.console;
	char text[40];
	size_t len;

	snprintf(text, sizeof(text), ", %s told.", name);
	while ((at = strstr(at, "guest: poison: SIGBUS"))) {
		len = strcspn(at, "\r\n");
		if (len > strlen(text) && !strncmp(at + len - strlen(text), text, strlen(text)))
			printf("  poisoned %s: %.*s\n", when, (int)(len - strlen(text) - 15),
			       at + 15);
		at++;
	}
}

static void show_pages(const char *what, const struct party *p)
{
	printf("  %-26s %6lld pages on demand, %lld wrong\n", what, number_before(p, DEMAND),
	       number_before(p, " wrong"));
}

/* What it came to, for people. */
static void conclude(void)
{
	double paused = party_time_of(&source, false, "the guest stands still");
	double moved = party_time_of(&destination, false, "the guest runs");
	double saved = party_time_of(&destination, false, "the guest stands still");
	double back = party_time_of(&restored, false, "the guest runs");
	const char *disk = strstr(restored.run.console, "guest: disk: ");

	printf("\n  who had the guest, from and to [s]\n");
	show_owner("source", 0, paused);
	show_owner("nobody", paused, moved);
	show_owner("destination", moved, saved);
	show_owner("the file", saved, back);
	show_owner("restored", back, restored_end);
	printf("  downtime of the migration: %.3f s; the guest's own largest gap: %llu us\n",
	       moved - paused, (unsigned long long)log_at_end.max_gap_us);
	printf("  same guest: nonce %016llx, log of %u generations, head %016llx\n",
	       (unsigned long long)log_at_end.nonce, log_at_end.generation,
	       (unsigned long long)log_at_end.hash);
	printf("  %lld disk requests in flight at the switch-over",
	       number_before(&source, IN_FLIGHT));
	if (disk)
		printf("; %.*s", (int)strcspn(disk, "\n"), disk + strlen("guest: "));
	printf("\n");
	show_poison("at the source", &source, "used");
	show_poison("there, seen when restored", &restored, "kept");
	show_pages("migrated, 1 ms of latency", &destination);
	show_pages("restored, KVM userfault", &restored);
	show_pages("restored, userfaultfd", &compared);
	printf("  64 MiB once more after that: %.1f s, by userfaultfd %.1f s, ratio %.2f\n\n",
	       working_time(&restored), working_time(&compared),
	       working_time(&compared) / working_time(&restored));
	fflush(stdout);
}

static void do_all(void)
{
	if (!wrong)
		migrate(NULL);
	if (!wrong)
		save();
	if (!wrong)
		show_trace();
	if (!wrong) {
		restore(&restored, "restored", "--engine=kuf");
		restored_end = party_now();
	}
	if (!wrong)
		restore(&compared, "uffd", "--engine=uffd");
	if (!wrong)
		conclude();
}

int main(int argc, char **argv)
{
	party_now();
	if (argc > 2 || (argc == 2 && strncmp(argv[1], "--break=", 8))) {
		printf("Bail out! there is --break=early-clear|flip|drop\n");
		return 1;
	}
	test_make_initrd();
	test_make_disk();
	ktap_plan(1);
	if (!command(&doctor, "doctor", NULL))
		printf("%s", doctor.run.console);
	expect(party_exited(&doctor, KUF_EXIT_OK), "kuf doctor says that it will work");
	start_source();
	if (argc == 1)
		do_all();
	else if (!wrong)
		migrate(argv[1]);
	ktap_result(!wrong, "main-job%s", argc > 1 ? argv[1] + 1 : "");
	return ktap_end();
}
