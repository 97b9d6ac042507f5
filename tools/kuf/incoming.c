// SPDX-License-Identifier: GPL-2.0
/*
 * The destination, until the VM runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "crc32c.h"
#include "frame.h"
#include "incoming.h"
#include "mem.h"
#include "vm.h"

#define HELLO_MS	10000
/* The source may have to make its disk's content durable, and so on. */
#define PHASE_MS	30000
#define STARTED_MS	1000

void incoming_init(struct incoming *in, int listen_fd, int cancel)
{
	*in = (struct incoming){ .main.fd = -1, .urgent.fd = -1, .go_timeout_ms = -1 };
	lobby_open(&in->lobby, listen_fd, cancel);
}

static int greet(struct stream *s, const struct proto_hello *hello)
{
	return stream_send(s, PROTO_HELLO, hello, sizeof(*hello), HELLO_MS);
}

int incoming_accept(struct incoming *in, int timeout_ms)
{
	struct proto_hello answer = { .required = PROTO_REQUIRED, .role = PROTO_MAIN }, urgent;
	struct lobby_guest guest = { .role = PROTO_MAIN, .name = "main" };
	int err;

	err = lobby_wait(&in->lobby, &guest, &in->main, &in->hello, timeout_ms);
	if (err == -ETIMEDOUT)
		return kuf_error(err, "no VM came");
	if (err)
		return err;
	memcpy(answer.session, in->hello.session, sizeof(answer.session));
	answer.epoch = in->hello.epoch;
	if (getrandom(answer.token, sizeof(answer.token), 0) != sizeof(answer.token))
		return kuf_error(-errno, "getrandom");
	err = greet(&in->main, &answer);
	if (err)
		return err;
	in->comeback = (struct comeback){ .lobby = &in->lobby, .who = answer };
	in->comeback.who.epoch = in->hello.epoch + 1;

	guest = (struct lobby_guest){
		.role = PROTO_URGENT,
		.name = "urgent",
		.expect = &answer,
		.watch_fd = in->main.fd,
	};
	err = lobby_wait(&in->lobby, &guest, &in->urgent, &urgent, HELLO_MS);
	if (err)
		return kuf_error(err, "waiting for the urgent connection of the VM");
	lobby_close(&in->lobby);
	answer.role = PROTO_URGENT;
	err = greet(&in->urgent, &answer);
	if (err)
		return err;
	in->main.epoch = in->hello.epoch;
	in->urgent.epoch = in->hello.epoch;
	in->main.cancel = in->lobby.cancel;
	in->urgent.cancel = in->lobby.cancel;
	return 0;
}

static int check_config(const struct proto_config *c)
{
	if (c->page_size != PAGE_SIZE || c->reserved || !c->mem_size ||
	    c->mem_size > MAX_MEM || c->mem_size % PAGE_SIZE || !c->nr_cpus ||
	    c->nr_cpus > MAX_CPUS)
		return kuf_error(0, "the configuration of the VM that comes does not make sense");
	if (!c->state_size || c->state_size > PROTO_STATE_MAX ||
	    c->state_frames > c->state_size / sizeof(struct frame))
		return kuf_error(0, "the VM that comes claims a state of %llu bytes in %u frames",
				 (unsigned long long)c->state_size, c->state_frames);
	return 0;
}

int incoming_receive(struct incoming *in)
{
	struct stream_frame frame;
	struct proto_end end;
	u64 done = 0;
	int err;

	err = stream_receive(&in->main, PROTO_CONFIG, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&in->config, frame.data, sizeof(in->config));
	err = check_config(&in->config);
	if (err)
		return err;
	in->state = malloc(in->config.state_size);
	if (!in->state)
		return kuf_error(-ENOMEM, "the state of the VM that comes");
	while (done < in->config.state_size) {
		err = stream_receive(&in->main, PROTO_STATE, &frame, PHASE_MS);
		if (err)
			return err;
		if (frame.length > in->config.state_size - done)
			return kuf_error(0, "more state comes than was announced");
		memcpy(in->state + done, frame.data, frame.length);
		done += frame.length;
	}
	err = stream_receive(&in->main, PROTO_END_OF_STATE, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&end, frame.data, sizeof(end));
	if (end.state_size != done || end.state_crc != crc32c(0, in->state, done))
		return kuf_error(-EBADMSG, "the state that came is not what was sent (CRC32C)");
	in->state_ns = stream_now_ns();
	return 0;
}

static int wait_go(struct incoming *in)
{
	struct proto_epoch next = { .epoch = in->hello.epoch + 1 }, go;
	struct stream_frame frame;
	int err;

	err = stream_send(&in->main, PROTO_READY, &next, sizeof(next), PHASE_MS);
	if (!err)
		err = stream_receive(&in->main, PROTO_GO, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&go, frame.data, sizeof(go));
	if (go.epoch != next.epoch)
		return stream_bad(&in->main, "GO for another epoch");
	in->main.epoch = next.epoch;
	in->urgent.epoch = next.epoch;
	return 0;
}

static int wait_comeback(struct incoming *in)
{
	stream_close(&in->main);
	stream_close(&in->urgent);
	return comeback_wait(&in->comeback, &in->main, &in->urgent, in->go_timeout_ms);
}

int incoming_go(struct incoming *in)
{
	int err;

	in->ready_ns = stream_now_ns();
	err = wait_go(in);
	/* Whatever else went wrong: GO may have been sent. */
	if (err && err != -ECONNABORTED && err != -ECANCELED) {
		if (err == -EBADMSG)
			stream_abort(&in->main, in->main.why);
		kuf_say("the source may have given the VM up, or not: it stands still here,");
		kuf_say("until the source connects again (kuf recover there)");
		err = wait_comeback(in);
	}
	if (err)
		return err;
	in->went = true;
	in->comeback.went = true;
	in->go_ns = stream_now_ns();
	return 0;
}

int incoming_go_again(struct incoming *in)
{
	int err;

	stream_abort(&in->main, "the destination cannot start it yet, and says why there");
	kuf_say("the VM stands still, and nobody else has it: once that is mended it starts");
	kuf_say("when the source connects again (kuf recover there)");
	err = wait_comeback(in);
	if (!err)
		in->go_ns = stream_now_ns();
	return err;
}

void incoming_started(struct incoming *in, u64 now_ns)
{
	struct proto_started started = {
		.load_ns = in->ready_ns - in->state_ns,
		.start_ns = now_ns - in->go_ns,
	};

	/* If it does not work who asks for pages will find out. */
	stream_send(&in->main, PROTO_STARTED, &started, sizeof(started), STARTED_MS);
}

void incoming_abort(struct incoming *in, const char *why)
{
	if (!in->went)
		stream_abort(&in->main, why);
}

void incoming_free(struct incoming *in)
{
	lobby_close(&in->lobby);
	stream_close(&in->main);
	stream_close(&in->urgent);
	free(in->state);
	in->state = NULL;
}
