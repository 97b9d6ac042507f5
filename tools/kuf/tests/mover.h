/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_MOVER_H
#define KUF_TESTS_MOVER_H

#include "guest.h"

/* A Linux guest that is moved, in the test VM. */
#define CONTROL_A	"/tmp/kuf-control-a"
#define CONTROL_B	"/tmp/kuf-control-b"
#define UNIX_B		"unix:/tmp/kuf-stream-b"
#define UNIX_C		"unix:/tmp/kuf-stream-c"
#define UNIX_R		"unix:/tmp/kuf-stream-relay"
#define TCP_B		"tcp:127.0.0.1:4441"
#define TCP_C		"tcp:127.0.0.1:4442"
#define LINUX		"--kernel=" TEST_KERNEL
#define DISK		"--disk=" TEST_DISK
/* Enough for the guest to be at work whenever it is moved; and more than anybody waits for. */
#define GENERATIONS	32
#define ENDLESS		10000

/* Where the guest runs first, second, third; who asks for the first move, and others. */
extern struct test_run a, b, c, asks_first, asks;
extern char nonce[40];

/*
 * At a, until it has got on, which it does for so many generations; @more and @other: options,
 * or NULL.  False: it does not, and has ended.
 */
bool boot(unsigned int generations, const char *cpus, const char *backing, const char *more,
	  const char *other);
/* With options up to a NULL. */
void receive(struct test_run *r, const char *address, const char *const *more);
void begin_to_send(struct test_run *r, const char *control, const char *address,
		   const char *more);
/* Exit statuses. */
int send_to(const char *control, const char *address, const char *more);
int recover(const char *what, const char *more, const char *other);

bool status_says(const char *control, const char *state);
bool ended(const struct test_run *r, int status);
bool clean(const struct test_run *r);
/* What it says of pages, in lines of "kuf: lazy: " and so on. */
void lines(const char *who, const struct test_run *r, const char *prefix);
void result(bool ok, const char *name, const char *kind);
/* Of a guest that could not be booted: nothing else is tried with it. */
void result_no_guest(const char *name, const char *kind);
bool has_tcp(void);

/* migrate_recover.c: how many results that has, 0: no such case; and that case itself. */
unsigned int recover_cases(const char *name);
void recover_run(const char *name);

#endif /* KUF_TESTS_MOVER_H */
