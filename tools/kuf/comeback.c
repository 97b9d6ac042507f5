// SPDX-License-Identifier: GPL-2.0
/*
 * New connections for a VM that came, or is on its way, by others that were cut.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "bell.h"
#include "comeback.h"
#include "maps.h"
#include "stream_source.h"

#define HELLO_MS	5000
/* Its maps may be large, and the source looks at all of them. */
#define MAPS_MS		30000

static int greet(struct stream *s, struct proto_hello *answer, enum proto_role role)
{
	answer->role = role;
	return stream_send(s, PROTO_HELLO, answer, sizeof(*answer), HELLO_MS);
}

static void remove_pages(struct pageset *set, const struct pageset *what)
{
	u64 page = 0, nr;

	for (; pageset_next(what, &page, &nr); page++)
		pageset_remove(set, page);
}

/* Pages come while this looks: what it then takes for absent is asked for, or not. */
static int take_stock(struct comeback *c, struct pageset *absent, struct pageset *poisoned)
{
	u64 pages = c->mem->size / PAGE_SIZE;
	int err;

	err = pageset_make(absent, pages);
	if (!err)
		err = pageset_make(poisoned, pages);
	if (!err && c->k)
		err = maps_take(absent, c->k, KUF_MASK_ABSENT, c->mem);
	if (!err && c->k)
		err = maps_take(poisoned, c->k, KUF_MASK(KUF_POISONED), c->mem);
	if (err)
		return err;
	if (!c->k)
		pageset_add_all(absent);
	if (!c->k && c->source)
		remove_pages(absent, &c->source->came);
	remove_pages(absent, poisoned);
	return 0;
}

static int send_stock(struct comeback *c, struct stream *main, const struct pageset *absent,
		      const struct pageset *poisoned)
{
	struct proto_resume resume = {
		.epoch = c->who.epoch,
		.pages = c->mem->size / PAGE_SIZE,
		.absent = absent->count,
		.poisoned = poisoned->count,
		.started = c->started,
	};
	int err;

	memcpy(resume.session, c->who.session, sizeof(resume.session));
	err = stream_send(main, PROTO_RESUME, &resume, sizeof(resume), HELLO_MS);
	if (!err)
		err = maps_send(absent, c->mem, main, PROTO_ABSENT, MAPS_MS);
	if (!err)
		err = maps_send(poisoned, c->mem, main, PROTO_POISONED, MAPS_MS);
	return err;
}

/* Says what is here, and hears that this side may run the VM. */
static int resume(struct comeback *c, struct stream *main)
{
	struct pageset absent, poisoned = {};
	struct stream_frame frame;
	struct proto_epoch go;
	int err;

	err = take_stock(c, &absent, &poisoned);
	if (!err)
		err = send_stock(c, main, &absent, &poisoned);
	pageset_free(&absent);
	pageset_free(&poisoned);
	if (!err)
		err = stream_receive(main, PROTO_GO, &frame, MAPS_MS);
	if (err)
		return err;
	memcpy(&go, frame.data, sizeof(go));
	return go.epoch == c->who.epoch ? 0 : stream_bad(main, "GO for another epoch");
}

static int take_urgent(struct comeback *c, struct proto_hello *answer, struct stream *main,
		       struct stream *urgent)
{
	struct lobby_guest guest = {
		.role = PROTO_URGENT,
		.name = "urgent",
		.expect = answer,
		.watch_fd = main->fd,
	};
	struct proto_hello hello;
	int err;

	err = lobby_wait(c->lobby, &guest, urgent, &hello, HELLO_MS);
	if (err)
		return err == -ECANCELED ? err : kuf_error(err, "waiting for 'urgent'");
	return greet(urgent, answer, PROTO_URGENT);
}

/* -EAGAIN: it did not get that far, after a message. */
static int take_pair(struct comeback *c, const struct proto_hello *hello, struct stream *main,
		     struct stream *urgent)
{
	struct proto_hello answer = { .required = PROTO_REQUIRED, .epoch = c->who.epoch };
	int err;

	if (hello->role == PROTO_TAKEN_BACK)
		return kuf_error(-ECONNABORTED, "the source goes on with the VM");
	memcpy(answer.session, c->who.session, sizeof(answer.session));
	if (getrandom(answer.token, sizeof(answer.token), 0) != sizeof(answer.token))
		return kuf_error(-EAGAIN, "getrandom");
	err = greet(main, &answer, PROTO_MAIN_AGAIN);
	if (!err)
		err = take_urgent(c, &answer, main, urgent);
	if (!err) {
		main->epoch = c->who.epoch;
		urgent->epoch = c->who.epoch;
		main->cancel = c->lobby->cancel;
		urgent->cancel = c->lobby->cancel;
		err = resume(c, main);
	}
	if (err == -EBADMSG)
		stream_abort(main, main->why);
	/* Who comes back has given the VM up: whatever it does not like, it may come again. */
	return !err || err == -ECANCELED ? err : -EAGAIN;
}

int comeback_wait(struct comeback *c, struct stream *main, struct stream *urgent,
		  int timeout_ms)
{
	u64 until = stream_now_ns() + (timeout_ms > 0 ? timeout_ms : 0) * 1000000ull, now;
	struct lobby_guest guest = {
		.role = PROTO_MAIN_AGAIN,
		.name = "main",
		.expect = &c->who,
		.watch_fd = -1,
		.or_taken_back = !c->went,
	};
	struct proto_hello hello;
	int err;

	*main = (struct stream){ .fd = -1 };
	*urgent = (struct stream){ .fd = -1 };
	do {
		now = stream_now_ns();
		if (timeout_ms >= 0)
			timeout_ms = until > now ? (until - now) / 1000000 + 1 : 0;
		err = lobby_wait(c->lobby, &guest, main, &hello, timeout_ms);
		if (!err)
			err = take_pair(c, &hello, main, urgent);
		if (err) {
			stream_close(main);
			stream_close(urgent);
		}
	} while (err == -EAGAIN);
	return err;
}

static void *receive_guests(void *arg)
{
	struct comeback *c = arg;
	struct stream main, urgent;

	while (sem_wait(&c->begin))
		;
	while (c->started && !comeback_wait(c, &main, &urgent, -1)) {
		kuf_say("the source of the VM is there again");
		/* Connections end with whoever uses them. */
		main.cancel = -1;
		urgent.cancel = -1;
		stream_source_replace(c->source, &main, &urgent);
	}
	/* Otherwise they are somebody else's. */
	if (c->started)
		lobby_close(c->lobby);
	return NULL;
}

int comeback_prepare(struct comeback *c)
{
	int err;

	c->stop = eventfd(0, EFD_CLOEXEC);
	if (c->stop < 0)
		return kuf_error(-errno, "eventfd");
	sem_init(&c->begin, 0, 0);
	err = -pthread_create(&c->thread, NULL, receive_guests, c);
	c->has_thread = !err;
	if (err)
		close(c->stop);
	return err ? kuf_error(err, "a thread for connections") : 0;
}

void comeback_start(struct comeback *c, struct stream_source *source)
{
	c->source = source;
	c->started = true;
	c->lobby->cancel = c->stop;
	sem_post(&c->begin);
}

void comeback_stop(struct comeback *c)
{
	if (!c->has_thread)
		return;
	bell_ring(c->stop);
	sem_post(&c->begin);
	pthread_join(c->thread, NULL);
	c->has_thread = false;
	sem_destroy(&c->begin);
	close(c->stop);
}
