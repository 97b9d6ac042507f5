// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to the disk, several in flight all the time: each writer has one, with a
 * number of its own in what it writes.  A block is read back when it was written and
 * once more before it is written again, so that a write that got lost, or was carried
 * out a second time later on, is noticed.
 *
 * That a request is answered twice is noticed by the guest's driver, which breaks the
 * device then; that it is not answered at all keeps its writer from ending.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define WRITERS		8
#define BLOCK		4096ul
#define WORDS		(BLOCK / sizeof(uint64_t))
#define PART		(GUEST_DISK_SIZE / 2 / WRITERS)
#define BLOCKS		(PART / BLOCK)
#define PAUSE_US	50000	/* leaves the CPU to the others, if it is an emulated one */

struct writer {
	pthread_t thread;
	uint64_t begin;			/* bytes */
	uint64_t *buf;
	uint64_t sequence[BLOCKS];	/* of what was written last; 0: what was there */
};

static struct writer writers[WRITERS];
static int fd = -1;
static bool stop;
static uint64_t last_sequence, asked, answered, in_flight, most_in_flight;

static void note_flight(uint64_t now)
{
	uint64_t most = __atomic_load_n(&most_in_flight, __ATOMIC_RELAXED);

	while (now > most && !__atomic_compare_exchange_n(&most_in_flight, &most, now, true,
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static bool request(struct writer *w, uint64_t at, bool write)
{
	ssize_t n;

	__atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED);
	note_flight(__atomic_add_fetch(&in_flight, 1, __ATOMIC_RELAXED));
	n = write ? pwrite(fd, w->buf, BLOCK, at) : pread(fd, w->buf, BLOCK, at);
	__atomic_fetch_sub(&in_flight, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&answered, 1, __ATOMIC_RELAXED);
	if (n == (ssize_t)BLOCK)
		return true;
	failed("disk: %s at %llu: %s", write ? "write" : "read", (unsigned long long)at,
	       n < 0 ? strerror(errno) : "short");
	return false;
}

static bool read_back(struct writer *w, uint64_t at, uint64_t generation)
{
	size_t i;

	memset(w->buf, 0, BLOCK);
	if (!request(w, at, false))
		return false;
	for (i = 0; i < WORDS; i++) {
		if (w->buf[i] == guest_pattern(at / sizeof(uint64_t) + i, generation))
			continue;
		failed("disk: word %llu is not of write %llu",
		       (unsigned long long)(at / sizeof(uint64_t) + i),
		       (unsigned long long)generation);
		return false;
	}
	return true;
}

static bool rewrite(struct writer *w, unsigned int block, uint64_t generation)
{
	uint64_t at = w->begin + block * BLOCK;
	size_t i;

	if (!read_back(w, at, w->sequence[block] ?: GUEST_DISK_GENERATION))
		return false;
	for (i = 0; i < WORDS; i++)
		w->buf[i] = guest_pattern(at / sizeof(uint64_t) + i, generation);
	w->sequence[block] = generation;
	return request(w, at, true);
}

static void *work(void *arg)
{
	struct writer *w = arg;
	unsigned int block = 0;
	uint64_t sequence;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		/* Far from what the host has written there. */
		sequence = (1ull << 32) + __atomic_add_fetch(&last_sequence, 1, __ATOMIC_RELAXED);
		if (!rewrite(w, block, sequence) ||
		    !read_back(w, w->begin + block * BLOCK, sequence))
			return NULL;
		block = (block + 1) % BLOCKS;
		usleep(PAUSE_US);
	}
	/* The host reads this. */
	for (block = 0; block < BLOCKS; block++) {
		if (!rewrite(w, block, GUEST_DISK_GENERATION + 1))
			break;
	}
	return NULL;
}

int disk_start(void)
{
	unsigned int i;
	int err = 0;

	fd = open(GUEST_DISK, O_RDWR | O_DIRECT);
	if (fd < 0)
		return errno;
	for (i = 0; !err && i < WRITERS; i++) {
		writers[i].begin = GUEST_DISK_SIZE / 2 + i * PART;
		writers[i].buf = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (writers[i].buf == MAP_FAILED)
			return errno;
		err = pthread_create(&writers[i].thread, NULL, work, &writers[i]);
	}
	return err;
}

void disk_stop(void)
{
	unsigned int i;

	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	if (fsync(fd))
		failed("disk: fsync: %s", strerror(errno));
	close(fd);
	if (asked != answered)
		failed("disk: %llu of %llu requests answered", (unsigned long long)answered,
		       (unsigned long long)asked);
	printf("guest: disk: %llu requests, %llu answered, up to %llu in flight\n",
	       (unsigned long long)asked, (unsigned long long)answered,
	       (unsigned long long)most_in_flight);
}
