// SPDX-License-Identifier: GPL-2.0
/*
 * Work that is to go on as if nothing had happened when the VM is saved, restored or
 * migrated in the middle of it: memory that is written over and over and checked
 * whenever the work comes back to it, a log, a disk, and a clock.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define MAX_STEP_NS	600000000000ull
#define MAX_THREADS	16

/* A thread's part of the memory. */
struct part {
	pthread_t thread;
	unsigned int cpu;
	uint64_t *words;		/* of the whole memory */
	uint64_t begin, end;
	uint64_t nonce;
	uint64_t generation;
	uint64_t content;		/* out: a sum of what was found */
	bool ok;
};

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* Which no other boot has. */
static uint64_t make_nonce(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (ts.tv_sec * 1000000000ull + ts.tv_nsec) ^ __builtin_ia32_rdtsc() << 20;
}

/* Each word is what was written the last time, 0 at first. */
static void *write_part(void *arg)
{
	struct part *part = arg;
	uint64_t i, want, content = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(part->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (i = part->begin; i < part->end; i++) {
		want = part->generation > 1 ?
		       guest_pattern(i + part->nonce, part->generation - 1) : 0;
		if (part->words[i] != want) {
			failed("word %llu is wrong in generation %llu: %016llx, not %016llx",
			       (unsigned long long)i, (unsigned long long)part->generation,
			       (unsigned long long)part->words[i], (unsigned long long)want);
			return NULL;
		}
		content += want;
		part->words[i] = guest_pattern(i + part->nonce, part->generation);
	}
	part->content = content;
	part->ok = true;
	return NULL;
}

static bool write_memory(struct part *parts, unsigned int nr, uint64_t generation,
			 uint64_t *content)
{
	unsigned int i;
	bool ok = true;

	for (i = 0; i < nr; i++) {
		parts[i].generation = generation;
		parts[i].ok = false;
		if (pthread_create(&parts[i].thread, NULL, write_part, &parts[i])) {
			failed("no thread for CPU %u", i);
			while (i--)
				pthread_join(parts[i].thread, NULL);
			return false;
		}
	}
	*content = 0;
	for (i = 0; i < nr; i++) {
		pthread_join(parts[i].thread, NULL);
		ok &= parts[i].ok;
		*content += parts[i].content;
	}
	return ok;
}

/* One generation; what the host can check is in the line that it prints. */
static bool step(struct part *parts, unsigned int nr, unsigned int generation,
		 unsigned int pause_ms, uint64_t *last)
{
	uint64_t content, t, hash, nonce = parts[0].nonce;
	char entry[128];

	if (!write_memory(parts, nr, generation, &content))
		return false;
	usleep(pause_ms * 1000);
	t = now_ns();
	if (t < *last + pause_ms * 1000000ull || t > *last + MAX_STEP_NS)
		failed("the clock: %llu ns after %llu ns", (unsigned long long)t,
		       (unsigned long long)*last);
	*last = t;
	hash = log_append(nonce, t, content);
	if (!log_verify(nonce))
		return false;
	/* Tests wait for the generation's number and full stop: they come last. */
	snprintf(entry, sizeof(entry), "nonce %016llx time %llu content %016llx log %016llx",
		 (unsigned long long)nonce, (unsigned long long)t, (unsigned long long)content,
		 (unsigned long long)hash);
	printf("guest: %s gap %llu us generation %u.\n", entry,
	       (unsigned long long)ticks_take_gap(), generation);
	return true;
}

void keep_going(unsigned int generations, unsigned int dirty_mib, unsigned int pause_ms,
		unsigned int nr_cpus)
{
	uint64_t size = (uint64_t)dirty_mib << 20, words = size / sizeof(uint64_t);
	struct part parts[MAX_THREADS] = {};
	unsigned int i, nr = nr_cpus < MAX_THREADS ? nr_cpus : MAX_THREADS;
	uint64_t nonce = make_nonce(), last;
	uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (p == MAP_FAILED) {
		failed("no %u MiB of memory", dirty_mib);
		return;
	}
	for (i = 0; i < nr; i++)
		parts[i] = (struct part){ .cpu = i, .words = p, .begin = words * i / nr,
					  .end = words * (i + 1) / nr, .nonce = nonce };
	last = now_ns();
	/* New memory comes slowly while the others are at work. */
	if (!step(parts, nr, 1, pause_ms, &last))
		return;
	err = disk_start();
	if (!err)
		err = ticks_start();
	if (err) {
		failed("the disk, or ticks: %s", strerror(err));
		return;
	}
	for (i = 2; i <= generations && step(parts, nr, i, pause_ms, &last); i++)
		;
	ticks_stop();
	disk_stop();
}
