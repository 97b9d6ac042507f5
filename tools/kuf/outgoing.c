// SPDX-License-Identifier: GPL-2.0
/*
 * The source: until GO was sent it can go on with its VM, from then on it cannot.
 */
#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "outgoing.h"

#define CONNECT_MS	10000
#define PHASE_MS	30000

static const char * const phase_names[] = {
	[OUTGOING_NONE] = "none",
	[OUTGOING_CONNECTING] = "connecting",
	[OUTGOING_STATE] = "sending-state",
	[OUTGOING_READY] = "waiting-for-ready",
	[OUTGOING_GIVEN_UP] = "given-up",
	[OUTGOING_DONE] = "completed",
	[OUTGOING_FAILED] = "failed",
};

const char *outgoing_phase_name(enum outgoing_phase phase)
{
	return phase_names[phase];
}

static void set_phase(struct outgoing *o, enum outgoing_phase phase)
{
	__atomic_store_n(&o->phase, phase, __ATOMIC_RELAXED);
}

/* Says who this is, and hears who the other one is. */
static int greet(struct outgoing *o, const struct net_address *to, struct stream *s,
		 struct proto_hello *hello, const char *name)
{
	struct stream_frame frame;
	struct proto_hello answer;
	int fd, err;

	fd = net_connect(to, CONNECT_MS, o->cancel);
	if (fd < 0)
		return fd;
	err = stream_open(s, fd, name, 0, o->cancel);
	if (!err)
		err = stream_send(s, PROTO_HELLO, hello, sizeof(*hello), PHASE_MS);
	if (!err)
		err = stream_receive(s, PROTO_HELLO, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&answer, frame.data, sizeof(answer));
	err = lobby_check_features(&answer);
	if (err)
		return err;
	if (memcmp(answer.session, hello->session, sizeof(answer.session)) ||
	    answer.epoch != hello->epoch || answer.role != hello->role || answer.reserved)
		return kuf_error(-EBADMSG, "%s expects another VM", to->text);
	memcpy(hello->token, answer.token, sizeof(hello->token));
	s->epoch = o->epoch;
	return 0;
}

static int connect_both(struct outgoing *o, const struct net_address *to)
{
	struct proto_hello hello = {
		.required = PROTO_REQUIRED,
		.epoch = o->epoch,
		.role = PROTO_MAIN,
	};
	int err;

	memcpy(hello.session, o->session, sizeof(hello.session));
	err = greet(o, to, &o->main, &hello, "main");
	if (err)
		return err;
	hello.role = PROTO_URGENT;
	return greet(o, to, &o->urgent, &hello, "urgent");
}

static int send_state(struct outgoing *o, const struct frame_writer *w)
{
	struct proto_end end = { .state_size = w->size, .state_crc = crc32c(0, w->data, w->size) };
	u64 at, n;
	int err;

	if (w->size > PROTO_STATE_MAX)
		return kuf_error(-E2BIG, "a state of %llu bytes", (unsigned long long)w->size);
	o->config.state_size = w->size;
	o->config.state_frames = w->nr;
	o->config.page_size = PAGE_SIZE;
	err = stream_send(&o->main, PROTO_CONFIG, &o->config, sizeof(o->config), PHASE_MS);
	for (at = 0; !err && at < w->size; at += n) {
		n = w->size - at < PROTO_STATE_CHUNK ? w->size - at : PROTO_STATE_CHUNK;
		err = stream_send(&o->main, PROTO_STATE, w->data + at, n, PHASE_MS);
	}
	return err ?: stream_send(&o->main, PROTO_END_OF_STATE, &end, sizeof(end), PHASE_MS);
}

static int wait_ready(struct outgoing *o)
{
	struct stream_frame frame;
	struct proto_epoch ready;
	int err;

	err = stream_receive(&o->main, PROTO_READY, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&ready, frame.data, sizeof(ready));
	if (ready.epoch != o->epoch + 1)
		return kuf_error(-EBADMSG, "READY for another epoch");
	return 0;
}

/* The VM stands still; it is only given up when the destination can run it. */
static int hand_over(struct outgoing *o)
{
	struct proto_epoch next = { .epoch = o->epoch + 1 };
	struct frame_writer w = {};
	int err;

	err = o->ops->save(o->vm, &w);
	if (!err)
		err = send_state(o, &w);
	frame_writer_free(&w);
	if (err)
		return err;
	set_phase(o, OUTGOING_READY);
	err = wait_ready(o);
	if (!err)
		err = o->ops->give_up(o->vm);
	if (err)
		return err;
	/* GO may be received from the moment on at which it is tried to be sent. */
	__atomic_store_n(&o->given_up, true, __ATOMIC_RELAXED);
	set_phase(o, OUTGOING_GIVEN_UP);
	o->go_ns = stream_now_ns();
	err = stream_send(&o->main, PROTO_GO, &next, sizeof(next), PHASE_MS);
	o->main.epoch = next.epoch;
	o->urgent.epoch = next.epoch;
	return err;
}

int outgoing_run(struct outgoing *o, const struct net_address *to)
{
	int err;

	o->main.fd = -1;
	o->urgent.fd = -1;
	set_phase(o, OUTGOING_CONNECTING);
	err = connect_both(o, to);
	if (err)
		goto out;
	set_phase(o, OUTGOING_STATE);
	o->paused_ns = stream_now_ns();
	err = o->ops->pause(o->vm);
	if (!err)
		err = hand_over(o);
	if (!err)
		err = origin_serve(&o->origin, &o->main, &o->urgent, o->cancel);
	if (err && !o->given_up)
		o->ops->resume(o->vm);
out:
	if (err && !o->given_up)
		stream_abort(&o->main, "the source goes on with the VM");
	set_phase(o, err ? OUTGOING_FAILED : OUTGOING_DONE);
	stream_close(&o->main);
	stream_close(&o->urgent);
	return err;
}
