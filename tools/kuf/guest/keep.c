// SPDX-License-Identifier: GPL-2.0
/*
 * Work that is to go on as if nothing had happened when the VM is saved in the middle of
 * it and restored: memory that is written over and over, a disk with several requests at
 * a time, and a clock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define AREA		(8ul << 20)
#define WORDS		(AREA / sizeof(uint64_t))
#define WRITERS		4
#define CHUNK		(64ul << 10)
#define CHUNK_WORDS	(CHUNK / sizeof(uint64_t))
#define MAX_STEP_S	60

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Which no other boot has. */
static uint64_t make_nonce(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (ts.tv_sec * 1000000000ull + ts.tv_nsec) ^ __builtin_ia32_rdtsc() << 20;
}

static int rewrite(int fd, uint64_t *buf, uint64_t first, uint64_t generation)
{
	size_t i;

	for (i = 0; i < CHUNK_WORDS; i++)
		buf[i] = guest_pattern(first + i, generation);
	if (pwrite(fd, buf, CHUNK, first * sizeof(*buf)) != (ssize_t)CHUNK)
		return 1;
	memset(buf, 0, CHUNK);
	if (pread(fd, buf, CHUNK, first * sizeof(*buf)) != (ssize_t)CHUNK)
		return 2;
	for (i = 0; i < CHUNK_WORDS; i++) {
		if (buf[i] != guest_pattern(first + i, generation))
			return 3;
	}
	return 0;
}

/* Writes its part of the second half of the disk until it is told to end, then at last. */
static int write_disk(unsigned int writer, int *end)
{
	uint64_t part = GUEST_DISK_SIZE / 2 / WRITERS, at;
	uint64_t begin = GUEST_DISK_SIZE / 2 + writer * part;
	uint64_t generation = 100000 + writer;
	int fd = open(GUEST_DISK, O_RDWR | O_DIRECT), last, err = 0;
	uint64_t *buf = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* The memory's turn comes first: what waits for pages gets few turns otherwise. */
	if (fd < 0 || buf == MAP_FAILED || (nice(19) < 0 && errno))
		return 4;
	do {
		last = __atomic_load_n(end, __ATOMIC_ACQUIRE);
		generation = last ? GUEST_DISK_GENERATION + 1 : generation + WRITERS;
		for (at = begin; !err && at < begin + part; at += CHUNK)
			err = rewrite(fd, buf, at / sizeof(*buf), generation);
	} while (!last && !err);
	return err ?: fsync(fd) ? 5 : 0;
}

/* Each word is what was written the last time; 0 at first. */
static bool write_memory(uint64_t *p, uint64_t nonce, unsigned int generation)
{
	uint64_t i, want;

	for (i = 0; i < WORDS; i++) {
		want = generation > 1 ? guest_pattern(i + nonce, generation - 1) : 0;
		if (p[i] != want) {
			failed("word %llu is wrong in generation %u", (unsigned long long)i,
			       generation);
			return false;
		}
		p[i] = guest_pattern(i + nonce, generation);
	}
	return true;
}

void keep_going(unsigned int generations)
{
	uint64_t *p = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int *end = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t nonce = make_nonce();
	double last = now(), t;
	unsigned int i;
	int status;

	if (p == MAP_FAILED || end == MAP_FAILED) {
		failed("mmap: %s", strerror(errno));
		return;
	}
	for (i = 0; i < WRITERS; i++) {
		if (!fork())
			_exit(write_disk(i, end));
	}
	for (i = 1; i <= generations && write_memory(p, nonce, i); i++) {
		usleep(50000);
		t = now();
		if (t < last + 0.05 || t > last + MAX_STEP_S)
			failed("the clock: %f after %f", t, last);
		last = t;
		printf("guest: nonce %016llx generation %u.\n", (unsigned long long)nonce, i);
	}
	__atomic_store_n(end, 1, __ATOMIC_RELEASE);
	while (wait(&status) > 0) {
		if (status)
			failed("disk: status 0x%x", status);
	}
}
