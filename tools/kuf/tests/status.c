// SPDX-License-Identifier: GPL-2.0
/*
 * The control socket, asked what a machine does and other things; needs no KVM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "guest.h"
#include "status.h"

#define SOCKET	"/tmp/kuf-status-test"

static int errors;

/* In place of main.c's. */
int kuf_error(int err, const char *fmt, ...)
{
	__atomic_fetch_add(&errors, 1, __ATOMIC_RELAXED);
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

static struct machine machine;
static struct control control;
static struct control_reply answer;
static char json[8192];
static char text[8192];

static const char *printed(const char *json, int *err)
{
	FILE *to = fmemopen(text, sizeof(text), "w");

	*err = status_print(json, to);
	fclose(to);
	return text;
}

static void test_texts(void)
{
	struct control_status s = { .state = CONTROL_POSTCOPY, .session = { 0xab, 1 }, .epoch = 3,
				    .nr_cpus = 2, .disk_requests = 77, .policy = KUF_EAGER,
				    .now_ns = 9000001, .mem_size = 64 << 20, .paused_ns = 5,
				    .left_pages = 333, .lost_pages = 4,
				    .report = { .armed_ns = 1, .resumed_ns = 5000001,
						.pages = 100, .present = 25, .demand = 20,
						.background = 5, .poisoned = 4,
						.latency_count = 20,
						.latency_sum_ns = 2000000,
						.latency = { [6] = 20 } } };
	char small[200];
	const char *p;
	bool ok;
	int err;

	ktap_result(!status_text(&s, json, sizeof(json)), "a text");
	p = printed(json, &err);
	ktap_result(!err && strstr(p, "state              postcopy-active\n") &&
		    strstr(p, "ab010000000000000000000000000000, epoch 3\n") &&
		    strstr(p, "poisoned           4 pages\n") &&
		    strstr(p, "29 of 100 pages (29 %), by kuf, background\n") &&
		    strstr(p, "20 pages, 100.0 us on average\n") &&
		    strstr(p, "guest resumed             5.0 ms\n") &&
		    strstr(p, "333 of 16384 pages absent there, 4 poisoned\n") &&
		    strstr(p, "[  64 us - 128 us ]: 20\n") && !strstr(p, "fully"), "for people");
	ktap_result(status_text(&s, small, sizeof(small)) == -E2BIG, "no room");

	s.remote = (struct remote_status){ .state = REMOTE_SILENT, .pid = 4711, .pagers = 3,
					   .since_ns = 1, .path = "/run/pager" };
	ok = !status_text(&s, json, sizeof(json)) &&
	     strstr(json, "\"state\": \"silent\"") && strstr(json, "\"pid\": 4711") &&
	     strstr(printed(json, &err), "pager              does not answer: process 4711 ") &&
	     strstr(text, " at /run/pager, last heard of 0.0 s ago; number 3\n");
	s.remote.state = REMOTE_GONE;
	s.now_ns = 2500000001;
	ok = ok && !status_text(&s, json, sizeof(json)) &&
	     strstr(printed(json, &err), "gone: process 4711 at /run/pager, lost 2.5 s ago");
	/* No text, and not ended. */
	memset(s.remote.path, 0xff, sizeof(s.remote.path));
	ok = ok && !status_text(&s, json, sizeof(json)) &&
	     strstr(printed(json, &err), "process 4711 at ?,");
	ktap_result(ok, "a pager");
}

/* What nobody should send; must be refused, or be printed without harm. */
static void test_bad_texts(void)
{
	static const char * const bad[] = {
		"", "{", "[]", "7", "\"running\"", "{}", "{\"status\": 7}", "null",
		"{\"status\": \"a\", \"status\": \"b\"}",
	};
	static const char * const odd[] = {
		"{\"status\": \"x\", \"sent\": {\"remaining-pages\": []}}",
		"{\"status\": \"x\", \"sent\": 1, \"ram\": 5, \"postcopy-latency-dist\": {}}",
		"{\"status\": \"x\", \"ram\": {\"total\": 1, \"page-size\": 0}}",
		"{\"status\": \"x\", \"ram\": {\"total\": -1e308, \"remaining\": 1e308, \"page-size\": 1e-300}}",
		"{\"status\": \"x\", \"postcopy-latency-dist\": [1,2,\"a\",null,[],5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1]}",
	};
	bool ok = true;
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		printed(bad[i], &err);
		ok &= err == -EBADMSG;
	}
	ktap_result(ok, "what is no status");
	for (i = 0, ok = true; i < ARRAY_SIZE(odd); i++)
		ok &= strstr(printed(odd[i], &err), "state              x\n") && !err;
	ktap_result(ok, "what is an odd one");
}

/* Sends @size bytes; what comes is left in answer. */
static ssize_t send_bytes(const void *bytes, size_t size)
{
	struct sockaddr_un address;
	ssize_t n = -1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	control_address(&address, SOCKET);
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)) &&
	    send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size)
		n = recv(fd, &answer, sizeof(answer), 0);
	close(fd);
	return n;
}

static bool refused(const struct control_request *r, size_t size)
{
	return send_bytes(r, size) == sizeof(answer) && answer.err == -EPROTO;
}

static void test_socket(void)
{
	struct control_request r = { .op = CONTROL_STATUS };
	bool ok;

	machine.epoch = 7;
	ktap_result(!control_ask(SOCKET, &r, &answer) && !answer.err &&
		    answer.status.state == CONTROL_RUNNING && answer.status.epoch == 7 &&
		    !status_text(&answer.status, json, sizeof(json)) &&
		    strstr(json, "\"running\"") && !strstr(json, "\"ram\""), "asked");

	ok = refused(&r, sizeof(r) - 1) && refused(&r, 1);
	r.reserved = 1;
	ok = ok && refused(&r, sizeof(r));
	r = (struct control_request){ .op = 99 };
	ok = ok && refused(&r, sizeof(r));
	r = (struct control_request){ .op = CONTROL_SAVE };
	ok = ok && refused(&r, sizeof(r));
	memset(r.text, '/', sizeof(r.text));
	ok = ok && refused(&r, sizeof(r));
	ktap_result(ok, "malformed requests are refused");
	ktap_result(control_ask("/none", &(struct control_request){ .op = CONTROL_STATUS },
				&answer) == -ENOENT, "nobody there");
}

/* A VM that comes, from nothing on. */
static void test_coming(void)
{
	static const struct {
		enum machine_coming how;
		const char *state;
		u64 epoch;
	} steps[] = {
		{ MACHINE_LISTENS, "\"listening\"", 0 }, { MACHINE_RECEIVES, "\"receiving\"", 7 },
		{ MACHINE_WAITS_FOR_GO, "\"waiting-for-go\"", 7 },
		{ MACHINE_HERE, "\"running\"", 7 },
	};
	struct control_request r = { .op = CONTROL_STATUS };
	struct control_request save = { .op = CONTROL_SAVE, .text = "/tmp/kuf-no-such-dir/x" };
	bool ok = true, busy = true;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		__atomic_store_n(&machine.coming, steps[i].how, __ATOMIC_RELEASE);
		ok = ok && !control_ask(SOCKET, &r, &answer) && !answer.err &&
		     answer.status.epoch == steps[i].epoch &&
		     !status_text(&answer.status, json, sizeof(json)) &&
		     strstr(json, steps[i].state);
		if (steps[i].how != MACHINE_HERE)
			busy = busy && !control_ask(SOCKET, &save, &answer) &&
			       answer.err == -EBUSY;
	}
	ktap_result(ok, "coming");
	ktap_result(busy, "not to be saved before it is here");
}

int main(void)
{
	ktap_plan(11);
	test_texts();
	test_bad_texts();
	machine_init(&machine);
	unlink(SOCKET);
	if (control_start(&control, &machine, SOCKET)) {
		printf("Bail out! no control socket\n");
		return 1;
	}
	test_socket();
	test_coming();
	control_stop(&control);
	return ktap_end();
}
