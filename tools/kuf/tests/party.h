/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_PARTY_H
#define KUF_TESTS_PARTY_H

#include "guest.h"

/* When a line began to be there. */
struct party_mark {
	size_t at;
	double time;
};

#define PARTY_MARKS	400
/*
 * Several runs of kuf at a time.  What they and their guests say is printed as it
 * comes, with the time and a name.
 */
struct party {
	const char *name;
	struct test_run run;
	size_t shown_console, shown_said;	/* bytes, whole lines */
	bool started, ended;
	bool quiet;				/* print nothing */
	struct party_mark marks[2][PARTY_MARKS];	/* of the console, of what it said */
	unsigned int nr_marks[2];
};

#define PARTY_MAX	4

/* Seconds since the first call. */
double party_now(void);
__attribute__((format(printf, 2, 3)))
void party_say(const char *name, const char *fmt, ...);

void party_start(struct party *p, const char *name, char *const argv[]);
/*
 * Until @text is in the console (@in_console) or in what kuf says; false: @p ended before, or
 * @seconds passed.  All others that were started are read meanwhile.
 */
bool party_wait_for(struct party *p, bool in_console, const char *text, double seconds);
/* Until its end, or kills it then. */
bool party_finish(struct party *p, double seconds);
/* When a line with @text came; -1: it did not. */
double party_time_of(const struct party *p, bool in_console, const char *text);
bool party_exited(const struct party *p, int status);

#endif /* KUF_TESTS_PARTY_H */
