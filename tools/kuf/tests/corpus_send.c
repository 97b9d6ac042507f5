// SPDX-License-Identifier: GPL-2.0
/*
 * What nobody should say to a source.
 */
#include <stdio.h>
#include <string.h>

#include "corpus_file.h"

/* Connections @first and the next one, as main and urgent. */
static void take_both(u32 first, struct proto_hello *h)
{
	op(CORPUS_CONNECT, first, 0, 0);
	op(CORPUS_AWAIT, first, PROTO_HELLO, 0);
	frame(first, PROTO_HELLO, h, sizeof(*h));
	op(CORPUS_CONNECT, first + 1, 0, 0);
	op(CORPUS_AWAIT, first + 1, PROTO_HELLO, 0);
	h->role = PROTO_URGENT;
	frame(first + 1, PROTO_HELLO, h, sizeof(*h));
}

static void from_start(bool given_up)
{
	struct proto_epoch ready = { CORPUS_EPOCH + 1 };
	struct proto_hello h = hello_of(PROTO_MAIN);

	memset(h.token, CORPUS_TOKEN, sizeof(h.token));
	take_both(0, &h);
	corpus_epoch[0] = CORPUS_EPOCH;
	corpus_epoch[1] = CORPUS_EPOCH;
	op(CORPUS_AWAIT, 0, PROTO_END_OF_STATE, 0);
	if (!given_up)
		return;
	frame(0, PROTO_READY, &ready, sizeof(ready));
	op(CORPUS_AWAIT, 0, PROTO_GO, 0);
	corpus_epoch[0]++;
	corpus_epoch[1]++;
}

static void one_send(const char *name, bool given_up, const char *says, u8 connection, u16 type,
		     const void *data, u32 size, enum wrong how)
{
	begin("send-%s", name);
	expect("send", given_up ? "recoverable" : "stays", says);
	from_start(given_up);
	frame_wrong(connection, type, data, size, how);
	if (how == SKIPPED)
		frame(connection, type, data, size);
	/* It is hung up. */
	op(CORPUS_AWAIT, connection, PROTO_ABORT, 0);
	end();
}

static void make_send_frames(void)
{
	struct proto_epoch ready = { CORPUS_EPOCH + 1 };
	struct proto_range want = { 0, PAGE_SIZE };
	char name[60];
	int how;

	for (how = TRUNCATED; how < NR_WRONGS; how++) {
		snprintf(name, sizeof(name), "ready-%s", wrongs[how].name);
		if (how != REPEATED)
			one_send(name, false, wrongs[how].says, 0, PROTO_READY, &ready,
				 sizeof(ready),
				 how);
		snprintf(name, sizeof(name), "request-%s", wrongs[how].name);
		one_send(name, true,
			 how == TRUNCATED ? "the destination is gone" : wrongs[how].says, 1,
			 PROTO_REQUEST, &want, sizeof(want), how);
	}
	ready.epoch++;
	one_send("ready-for-other", false, "READY for another epoch", 0, PROTO_READY, &ready,
		 sizeof(ready), NOTHING);
	one_send("go-instead", false, "GO instead of READY", 0, PROTO_GO, &ready, sizeof(ready),
		 NOTHING);
	one_send("abort-early", false, "the other side gives up: no", 0, PROTO_ABORT, "no", 2,
		 NOTHING);
}

static void make_send_requests(void)
{
	static const struct {
		const char *name;
		struct proto_range range;
	} ranges[] = {
		{ "outside", { 1ull << 40, PAGE_SIZE } }, { "beyond", { MIN_MEM, PAGE_SIZE } },
		{ "wraps", { PAGE_SIZE, -PAGE_SIZE } }, { "empty", { 0, 0 } },
		{ "odd", { 5, PAGE_SIZE } }, { "odd-length", { 0, PAGE_SIZE + 1 } },
		{ "long", { 0, (PROTO_REQUEST_PAGES + 1) * PAGE_SIZE } },
	};
	struct proto_done done = { .kind = 9 };
	struct proto_range lost = { 0, PAGE_SIZE };
	char name[60];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		snprintf(name, sizeof(name), "request-%s", ranges[i].name);
		one_send(name, true, "a REQUEST for", 1, PROTO_REQUEST, &ranges[i].range,
			 sizeof(ranges[i].range), NOTHING);
	}
	one_send("request-half", true, "a REQUEST of 24 bytes", 0, PROTO_REQUEST, nothing, 24,
		 NOTHING);
	one_send("page", true, "does not belong here", 0, PROTO_PAGE, nothing, 5000, NOTHING);
	one_send("done-urgent", true, "does not belong here", 1, PROTO_DONE, &done, sizeof(done),
		 NOTHING);
	one_send("done-kind", true, "a DONE of kind 9", 0, PROTO_DONE, &done, sizeof(done),
		 NOTHING);
	done = (struct proto_done){ .kind = PROTO_DONE_ALL, .poisoned = 3 };
	one_send("done-poisoned", true, "a DONE with 3 poisoned pages, where 0", 0, PROTO_DONE,
		 &done,
		 sizeof(done), NOTHING);
	lost.gpa = MIN_MEM;
	one_send("poisoned-outside", true, "is not in memory", 0, PROTO_POISONED, &lost,
		 sizeof(lost),
		 NOTHING);
	lost.gpa = 0;
	begin("send-poisoned-twice");
	expect("send", "recoverable", "ranges are not in order at 0x0");
	from_start(true);
	frame(0, PROTO_POISONED, &lost, sizeof(lost));
	frame(0, PROTO_POISONED, &lost, sizeof(lost));
	op(CORPUS_AWAIT, 0, PROTO_ABORT, 0);
	end();
	one_send("abort-late", true, "the other side gives up: no", 0, PROTO_ABORT, "no", 2,
		 NOTHING);
}

static void one_hello(const char *name, const char *says, struct proto_hello h)
{
	begin("send-hello-%s", name);
	expect("send", "runs", says);
	op(CORPUS_CONNECT, 0, 0, 0);
	op(CORPUS_AWAIT, 0, PROTO_HELLO, 0);
	frame(0, PROTO_HELLO, &h, sizeof(h));
	op(CORPUS_AWAIT, 0, PROTO_ABORT, 0);
	end();
}

/* It comes back once: connections 2 and 3. */
static void one_resume(const char *name, const char *says, struct proto_resume r,
		       const struct proto_range *absent)
{
	struct proto_hello h = hello_of(PROTO_MAIN_AGAIN);

	begin("send-resume-%s", name);
	expect("send", "comes-back", says);
	from_start(true);
	op(CORPUS_CLOSE, 0, 0, 0);
	op(CORPUS_CLOSE, 1, 0, 0);
	take_both(2, &h);
	corpus_epoch[2] = CORPUS_EPOCH + 1;
	memset(r.session, CORPUS_SESSION, sizeof(r.session));
	frame(2, PROTO_RESUME, &r, sizeof(r));
	if (absent)
		frame(2, PROTO_ABSENT, absent, 2 * sizeof(*absent));
	op(CORPUS_AWAIT, 2, PROTO_ABORT, 0);
	end();
}

static void make_send_others(void)
{
	static const struct proto_range unsorted[2] = { { PAGE_SIZE, PAGE_SIZE }, { 0,
										    PAGE_SIZE } };
	static const struct proto_range outside[2] = { { 0, PAGE_SIZE }, { MIN_MEM, PAGE_SIZE } };
	static const struct proto_range many[2] = { { 0, PAGE_SIZE }, { PAGE_SIZE,
									99 * PAGE_SIZE } };
	struct proto_resume r = {
		.epoch = CORPUS_EPOCH + 1, .pages = MIN_MEM / PAGE_SIZE, .absent = 2, .started = 1,
	};
	struct proto_hello h = hello_of(PROTO_MAIN);

	h.session[3]++;
	one_hello("session", "expects another VM", h);
	h = hello_of(PROTO_MAIN);
	h.epoch++;
	one_hello("epoch", "expects another VM", h);
	h = hello_of(PROTO_URGENT);
	one_hello("role", "expects another VM", h);
	h = hello_of(PROTO_MAIN);
	h.required |= BIT_ULL(63);
	one_hello("feature", "requires features 0x8000000000000000", h);
	one_resume("unsorted", "not in order", r, unsorted);
	one_resume("outside", "is not in memory", r, outside);
	one_resume("many", "more pages than were announced", r, many);
	r.absent = r.pages + 1;
	one_resume("absent", "RESUME: 16385 absent", r, NULL);
	r.absent = 2;
	r.poisoned = ~0ull;
	one_resume("poisoned", "poisoned pages of", r, NULL);
	r.poisoned = 0;
	r.started = 0;
	one_resume("not-started", "RESUME: 2 absent", r, NULL);
	r.started = 1;
	r.pages++;
	one_resume("pages", "RESUME of another VM", r, NULL);
	r.pages--;
	r.epoch++;
	one_resume("epoch", "RESUME of another VM", r, NULL);
}

void corpus_make_send(void)
{
	make_send_frames();
	make_send_requests();
	make_send_others();
}
