// SPDX-License-Identifier: GPL-2.0
/*
 * The source that writes a trace; needs no KVM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "trace.h"

#define TRACE	"/tmp/kuf-trace-test"

/* In place of main.c's. */
int kuf_error(int err, const char *fmt, ...)
{
	return err ?: -EINVAL;
}

static struct kuf_reply next;
static int result, verified;
static char text[1 << 20];

static int request(void *source, const struct kuf_request *r)
{
	return result;
}

static int receive(void *source, struct kuf_reply *reply)
{
	*reply = next;
	return result;
}

static int fetch(void *source, const struct kuf_request *r, void *to)
{
	memset(to, 7, r->len);
	return result;
}

static int verify(void *source, const struct kuf_request *page, const void *content)
{
	verified++;
	return result;
}

static const struct kuf_source_ops ops = {
	.size = sizeof(ops), .request = request, .receive = receive, .fetch = fetch,
	.verify = verify,
};

static const char *written(void)
{
	FILE *in = fopen(TRACE, "r");
	size_t n = in ? fread(text, 1, sizeof(text) - 1, in) : 0;

	text[n] = 0;
	if (in)
		fclose(in);
	return text;
}

static struct trace_source *t;
static const struct kuf_source_ops *o;

static void ask(u64 gpa, u64 pages, bool urgent)
{
	struct kuf_request r = { .gpa = gpa, .len = pages * PAGE_SIZE,
				 .flags = urgent ? KUF_REQUEST_URGENT : 0 };

	o->request(t, &r);
}

static void answer(u64 gpa, u64 pages, int type)
{
	struct kuf_reply reply;

	next = (struct kuf_reply){ .gpa = gpa, .len = pages * PAGE_SIZE, .type = type };
	o->receive(t, &reply);
}

/* Of the line for @gpa: its kind and latency, or "". */
static const char *line_of(u64 gpa)
{
	static char rest[64];
	char start[40];
	const char *at;

	snprintf(start, sizeof(start), " 0x%llx ", (unsigned long long)gpa);
	at = strstr(written(), start);
	snprintf(rest, sizeof(rest), "%s", at ? at + strlen(start) : "");
	rest[strcspn(rest, "\n")] = 0;
	return rest;
}

static void test_kinds(void)
{
	ask(0x1000, 2, true);
	ask(0x8000, 2, false);
	ask(0x9000, 1, true);
	usleep(3000);
	answer(0x1000, 1, KUF_REPLY_DATA);
	answer(0x2000, 1, KUF_REPLY_ZERO);
	answer(0x8000, 1, KUF_REPLY_DATA);
	answer(0x9000, 1, KUF_REPLY_DATA);
	answer(0xa000, 1, KUF_REPLY_ZERO);
	answer(0xb000, 1, KUF_REPLY_FAILED);
	ktap_result(!strncmp(line_of(0x1000), "demand ", 7) && atoi(line_of(0x1000) + 7) >= 3000,
		    "demand, and how long it took");
	ktap_result(!strncmp(line_of(0x2000), "demand-zero ", 12), "zero");
	ktap_result(!strncmp(line_of(0x8000), "background ", 11), "background");
	ktap_result(!strncmp(line_of(0x9000), "demand ", 7), "background that became urgent");
	ktap_result(!strcmp(line_of(0xa000), "background-zero -"), "not asked for");
	ktap_result(!strcmp(line_of(0xb000), "failed -"), "failed");
	answer(0x1000, 1, KUF_REPLY_POISON);
	ktap_result(strstr(written(), "0x1000 poison -"), "once answered it is not outstanding");
}

static unsigned int nr_demand(void)
{
	unsigned int nr = 0;
	const char *at;

	for (at = written(); (at = strstr(at, " demand ")); at++)
		nr++;
	return nr;
}

/* More than there is room for; what had room is found again, whatever the order. */
static void test_many(void)
{
	u64 base = 1ull << 30, i;
	unsigned int before = nr_demand();

	for (i = 0; i < 5000; i++)
		ask(base + i * PAGE_SIZE, 1, true);
	for (i = 0; i < 5000; i++)
		answer(base + (i * 1777 % 5000) * PAGE_SIZE, 1, KUF_REPLY_DATA);
	ktap_result(nr_demand() - before == 3072, "many at a time");
	before = nr_demand();
	ask(base, 3072, true);
	answer(base, 3072, KUF_REPLY_DATA);
	ktap_result(nr_demand() - before == 3072, "answered ones were forgotten");
}

static void test_errors(void)
{
	struct kuf_request r = { .gpa = 0x77000, .len = PAGE_SIZE };
	struct kuf_reply reply;
	char page[PAGE_SIZE] = {};

	result = -EAGAIN;
	ktap_result(o->request(t, &r) == -EAGAIN && o->receive(t, &reply) == -EAGAIN &&
		    !strcmp(line_of(0x77000), ""), "nothing is written of what did not happen");
	ktap_result(o->verify(t, &r, page) == -EAGAIN && verified == 1, "verify is passed on");
	result = 0;
	ktap_result(!o->fetch(t, &r, page) && page[5] == 7 &&
		    !strncmp(line_of(0x77000), "demand ", 7), "fetch");
	ktap_result(!o->pollfds, "what the source has not there is not");
	ktap_result(trace_source_create(&t, "/none/trace", &ops, NULL) == -ENOENT,
		    "a file that cannot be made");
}

int main(void)
{
	struct trace_source *first;

	ktap_plan(14);
	if (trace_source_create(&t, TRACE, &ops, NULL))
		return 1;
	first = t;
	o = trace_source_ops(t);
	test_kinds();
	test_many();
	test_errors();
	trace_source_destroy(first);
	unlink(TRACE);
	return ktap_end();
}
