/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_GUEST_GUEST_H
#define KUF_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>

/* Then the guest does not say that it is ok.  Any thread. */
extern int failures;

__attribute__((format(printf, 1, 2)))
void failed(const char *fmt, ...);

/* Of CLOCK_MONOTONIC. */
uint64_t now_ns(void);

/*
 * keep.c: work that goes on for so many generations of @dirty_mib of memory, with
 * @nr_cpus threads.
 */
void keep_going(unsigned int generations, unsigned int dirty_mib, unsigned int pause_ms,
		unsigned int nr_cpus);

/* log.c: the main thread only.  What it returns is the hash of all that was logged. */
uint64_t log_append(uint64_t nonce, uint64_t time_ns, uint64_t content);
/* Is all of it what was appended? */
bool log_verify(uint64_t nonce);

/* ticks.c: how long this guest did not run, as far as its own clock tells. */
int ticks_start(void);
/* The largest gap since the last call, in microseconds. */
uint64_t ticks_take_gap(void);
/* Prints and ends it. */
void ticks_stop(void);

/* disk.c: several requests in flight, until the end. */
int disk_start(void);
/* Lets the disk be what the tests of kuf expect at the end; prints. */
void disk_stop(void);

/*
 * poison.c: processes that find pages of theirs broken, which the host says by breaking
 * them; until that was so.
 */
void poison_start(void);
void poison_wait(void);

#endif /* KUF_GUEST_GUEST_H */
