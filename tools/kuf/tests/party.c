// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "party.h"

static struct party *parties[PARTY_MAX];

double party_now(void)
{
	static double begin;
	struct timespec ts;
	double t;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	t = ts.tv_sec + ts.tv_nsec / 1e9;
	begin = begin ?: t;
	return t - begin;
}

void party_say(const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("[%7.3f] %-9s ", party_now(), name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void note_line(struct party *p, bool console, size_t at)
{
	unsigned int *nr = &p->nr_marks[!console];

	if (*nr < PARTY_MARKS)
		p->marks[!console][(*nr)++] = (struct party_mark){ at, party_now() };
}

double party_time_of(const struct party *p, bool in_console, const char *text)
{
	const char *in = in_console ? p->run.console : p->run.said, *found = strstr(in, text);
	const struct party_mark *marks = p->marks[!in_console];
	unsigned int i = p->nr_marks[!in_console];

	while (found && i--) {
		if (marks[i].at <= (size_t)(found - in))
			return marks[i].time;
	}
	return -1;
}

/* Of the console only what the guest's init says. */
static void show_lines(struct party *p, const char *text, size_t *shown, bool console)
{
	const char *line, *end;

	while ((end = strchr(text + *shown, '\n'))) {
		line = text + *shown;
		note_line(p, console, *shown);
		*shown = end + 1 - text;
		if (p->quiet || end - line > 400)
			continue;
		if (console && strncmp(line, "guest: ", 7) && !strstr(line, "BUG") &&
		    !strstr(line, "WARNING"))
			continue;
		party_say(p->name, "%.*s", (int)(end - line), line);
	}
}

/* Keeps the beginning of what does not fit. */
static void feed(int *fd, char *text, size_t size)
{
	size_t len = strlen(text);
	char rest[4096];
	ssize_t n;

	if (len + 1 < size)
		n = read(*fd, text + len, size - 1 - len);
	else
		n = read(*fd, rest, sizeof(rest));
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close(*fd);
		*fd = -1;
	}
}

/* Waits for a tenth of a second at most. */
static void read_all(void)
{
	struct pollfd fds[2 * PARTY_MAX];
	unsigned int i;

	for (i = 0; i < PARTY_MAX; i++) {
		fds[2 * i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		fds[2 * i + 1] = fds[2 * i];
		if (parties[i]) {
			fds[2 * i].fd = parties[i]->run.out;
			fds[2 * i + 1].fd = parties[i]->run.err;
		}
	}
	if (poll(fds, 2 * PARTY_MAX, 100) <= 0)
		return;
	for (i = 0; i < PARTY_MAX; i++) {
		struct party *p = parties[i];

		if (fds[2 * i].revents)
			feed(&p->run.out, p->run.console, sizeof(p->run.console));
		if (fds[2 * i + 1].revents)
			feed(&p->run.err, p->run.said, sizeof(p->run.said));
		if (p) {
			show_lines(p, p->run.console, &p->shown_console, true);
			show_lines(p, p->run.said, &p->shown_said, false);
		}
	}
}

void party_start(struct party *p, const char *name, char *const argv[])
{
	unsigned int i;

	*p = (struct party){ .name = name, .started = true, .quiet = p->quiet };
	for (i = 0; i < PARTY_MAX - 1 && parties[i]; i++)
		;
	parties[i] = p;
	test_start(&p->run, argv);
}

bool party_wait_for(struct party *p, bool in_console, const char *text, double seconds)
{
	const char *in = in_console ? p->run.console : p->run.said;
	double until = party_now() + seconds;

	while (!strstr(in, text)) {
		if ((p->run.out < 0 && p->run.err < 0) || party_now() > until)
			return false;
		read_all();
	}
	return true;
}

bool party_finish(struct party *p, double seconds)
{
	double until = party_now() + seconds;
	unsigned int i;
	bool killed = false;

	if (!p->started || p->ended)
		return p->ended;
	while (p->run.out >= 0 || p->run.err >= 0) {
		if (!killed && party_now() > until) {
			party_say(p->name, "does not end after %.0f seconds", seconds);
			kill(p->run.pid, SIGKILL);
			killed = true;
		}
		/* A child of it may have the pipes still. */
		if (party_now() > until + 5)
			break;
		read_all();
	}
	p->ended = waitpid(p->run.pid, &p->run.status, 0) == p->run.pid && !killed;
	for (i = 0; i < PARTY_MAX; i++) {
		if (parties[i] == p)
			parties[i] = NULL;
	}
	return p->ended;
}

bool party_exited(const struct party *p, int status)
{
	return p->ended && WIFEXITED(p->run.status) && WEXITSTATUS(p->run.status) == status;
}
