// SPDX-License-Identifier: GPL-2.0
/*
 * What is printed of a report and of progress; needs no KVM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "progress.h"
#include "report_print.h"

/* In place of main.c's. */
int kuf_error(int err, const char *fmt, ...)
{
	return err ?: -EINVAL;
}

static const struct report_about about = {
	.status = "postcopy-active",
	.engine = "kuf",
	.policy = "lazy",
	.paused_ns = 1002000000,
	.now_ns = 3000000000,
};

static const struct kuf_report some = {
	.armed_ns = 1000000000,
	.resumed_ns = 1012500000,
	.working_set_ns = 1500000000,
	.pages = 1000,
	.present = 400,
	.demand = 300,
	.background = 100,
	.zero = 50,
	.latency_count = 100,
	.latency_sum_ns = 10000000,
	.latency = { [6] = 60, [7] = 30, [8] = 9, [10] = 1 },
};

static char text[4096];

static const char *printed(const struct kuf_report *r)
{
	FILE *to = fmemopen(text, sizeof(text), "w");

	report_print(r, &about, to);
	fclose(to);
	return text;
}

static void test_print(void)
{
	struct kuf_report none = {};
	const char *t = printed(&some);

	ktap_result(strstr(t, "kuf: guest resumed            12.5 ms\n") &&
		    strstr(t, "kuf: working set ready       500.0 ms\n") &&
		    strstr(t, "kuf: fully populated    not reached\n"), "three times");
	ktap_result(strstr(t, "300 pages on demand, 100 in the background, 50 of them zero, ") &&
		    strstr(t, " 0 failed, 0 wrong\n"),
		    "counts");
	ktap_result(strstr(t, "[  64 us - 128 us ]: 60\n") &&
		    strstr(t, "[ 512 us -   1 ms ]: 0\n") &&
		    strstr(t, "[   1 ms -   2 ms ]: 1\n") && !strstr(t, "[  32 us") &&
		    !strstr(t, "[   2 ms"), "buckets");
	ktap_result(strstr(t, "100.0 us on average, half below 128 us, 99% below 512 us"),
		    "percentiles");
	t = printed(&none);
	ktap_result(!strstr(t, "nan") && !strstr(t, "[") && strstr(t, "0 of 0 pages"),
		    "nothing happened");
}

static json_int_t number(json_t *json, const char *name)
{
	json_t *value = json_object_get(json, name);

	return json_is_integer(value) ? json_integer_value(value) : -1;
}

static void test_json(void)
{
	json_t *json = report_json(&some, &about), *ram, *dist;

	ram = json_object_get(json, "ram");
	dist = json_object_get(json, "postcopy-latency-dist");
	ktap_result(!strcmp(json_string_value(json_object_get(json, "status")),
			    "postcopy-active") &&
		    number(ram, "total") == 1000 * 4096 && number(ram, "remaining") == 600 * 4096 &&
		    number(ram, "transferred") == 350 * 4096 && number(ram, "duplicate") == 50 &&
		    number(ram, "normal") == 350 && number(ram, "postcopy-requests") == 300 &&
		    number(json, "postcopy-latency") == 100000, "JSON counts");
	ktap_result(json_array_size(dist) == KUF_LATENCY_BUCKETS &&
		    json_integer_value(json_array_get(dist, 6)) == 60, "JSON buckets");
	ktap_result(json_real_value(json_object_get(json, "downtime")) == 10.5 &&
		    json_real_value(json_object_get(json, "total-time")) == 2000 &&
		    json_is_null(json_object_get(json, "fully-populated")), "JSON times");
	json_decref(json);
}

static void test_line(void)
{
	struct progress_counts c = { .total = 16384, .present = 8520, .demand = 1203 };
	unsigned int columns;
	bool fits = true;

	progress_line(text, sizeof(text), 79, &c, 5.14);
	ktap_result(strstr(text, " 52 %  8520 of 16384 pages, 1203 on demand, 5.1 s") &&
		    strstr(text, "=>") && text[0] == '[' && strchr(text, ']'), "a line");
	for (columns = 1; columns < 200; columns++) {
		progress_line(text, sizeof(text), columns, &c, 12345.6);
		fits &= strlen(text) <= columns;
	}
	ktap_result(fits, "a line fits on any terminal");
	c = (struct progress_counts){ .total = 10, .present = 11 };
	progress_line(text, sizeof(text), 79, &c, 0);
	ktap_result(strstr(text, "100 %  10 of 10"), "never more than all");
	c = (struct progress_counts){};
	progress_line(text, sizeof(text), 79, &c, 0);
	ktap_result(strstr(text, "100 %  0 of 0"), "no memory");
}

/* Comes in eight steps. */
static void get(void *opaque, struct progress_counts *c)
{
	unsigned int *calls = opaque;

	unsigned int n = __atomic_add_fetch(calls, 1, __ATOMIC_ACQ_REL);

	*c = (struct progress_counts){ .total = 800, .present = 100 * n, .end = n == 8 };
}

static unsigned int count(const char *of)
{
	const char *at = text;
	unsigned int n = 0;

	while ((at = strstr(at, of))) {
		at += strlen(of);
		n++;
	}
	return n;
}

/* Is stopped when it was asked for so many times at least: how many times it was. */
static unsigned int watch(FILE *to, unsigned int least)
{
	unsigned int calls = 0, ms = 60000;
	struct progress p;

	progress_start(&p, to, get, &calls);
	while (__atomic_load_n(&calls, __ATOMIC_ACQUIRE) < least && ms--)
		usleep(1000);
	progress_stop(&p);
	fflush(to);
	return calls;
}

static void test_progress(void)
{
	FILE *to = fmemopen(text, sizeof(text), "w");
	unsigned int nr;
	int terminal, fd;
	ssize_t n;

	fclose(to);
	to = tmpfile();
	nr = watch(to, 8);
	n = pread(fileno(to), text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	ktap_result(nr == 8 && count("\n") == 8 && count("kuf: [") == 8 && count("\r") == 0 &&
		    count("100 %") == 1, "lines where no terminal is");
	fclose(to);

	terminal = posix_openpt(O_RDWR | O_NOCTTY);
	if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) {
		ktap_skip("no terminal", "a line that is drawn anew");
		return;
	}
	fd = open(ptsname(terminal), O_RDWR | O_NOCTTY);
	to = fdopen(fd, "w");
	nr = watch(to, 2);
	fcntl(terminal, F_SETFL, O_NONBLOCK);
	/* It comes in pieces. */
	memset(text, 0, sizeof(text));
	do {
		n = read(terminal, text + strlen(text), sizeof(text) - 1 - strlen(text));
	} while (n > 0);
	/* The last line is one more. */
	ktap_result(nr >= 3 && count("\r[") == nr && count("\r\n") == 1 &&
		    count("\033[K") == nr,
		    "a line that is drawn anew");
	fclose(to);
	close(terminal);
}

int main(void)
{
	ktap_plan(14);
	test_print();
	test_json();
	test_line();
	test_progress();
	return ktap_end();
}
