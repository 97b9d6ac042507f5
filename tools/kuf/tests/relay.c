// SPDX-License-Identifier: GPL-2.0
/*
 * Two connections, four directions, one thread: frames are taken apart by their headers.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crc32c.h"
#include "net.h"
#include "random.h"
#include "relay.h"
#include "stream.h"

#define PATIENCE_MS	40	/* after the act: who waits for something waits in vain */

static const char * const names[RELAY_ACTS] = {
	[RELAY_NOTHING] = "nothing", [RELAY_OPTIONAL] = "optional", [RELAY_PIECES] = "pieces",
	[RELAY_FLIP] = "flip", [RELAY_TRUNCATE] = "truncate", [RELAY_CUT] = "cut",
	[RELAY_REPEAT] = "repeat", [RELAY_SKIP] = "skip", [RELAY_SWAP] = "swap",
	[RELAY_GARBAGE] = "garbage", [RELAY_MAGIC] = "magic", [RELAY_VERSION] = "version",
	[RELAY_EPOCH] = "epoch", [RELAY_SEQUENCE] = "sequence", [RELAY_LENGTH] = "length",
	[RELAY_RESERVED] = "reserved", [RELAY_FLAGS] = "flags",
	[RELAY_UNKNOWN_TYPE] = "unknown-type", [RELAY_OTHER_TYPE] = "other-type",
	[RELAY_CONTENT] = "content", [RELAY_RANDOM] = "random",
};

const char *relay_act_name(enum relay_act act)
{
	return names[act];
}

struct way {
	int from, to;
	u8 in[256 << 10];
	u32 n, frames, shift;	/* @shift: frames that were added */
	u8 held[80 << 10];	/* RELAY_SWAP */
	u32 nr_held;
};

static struct way ways[4];
static int listen_fd, stop_fd;
static pthread_t thread;

static void cut_pair(int pair)
{
	int i;

	for (i = 2 * pair; i < 2 * pair + 2; i++) {
		if (ways[i].from >= 0)
			close(ways[i].from);
		ways[i].from = -1;
		ways[i].to = -1;
	}
}

static void cut(void)
{
	cut_pair(0);
	cut_pair(1);
}

/* All of it; the receiver takes it sooner or later, or is gone. */
static void put(struct way *w, const void *data, u32 size)
{
	ssize_t n;

	while (size && w->to >= 0) {
		n = send(w->to, data, size, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN && !net_wait(w->to, POLLOUT, 30000, -1))
			continue;
		if (n <= 0)
			return;
		data = (const u8 *)data + n;
		size -= n;
	}
}

static void seal(struct proto_header *h, const u8 *data, u32 length)
{
	h->crc = 0;
	h->crc = crc32c(crc32c(0, h, sizeof(*h)), data, length);
}

static void put_frame(struct way *w, u8 *frame, u32 size)
{
	struct proto_header h;

	if (w->shift) {
		memcpy(&h, frame, sizeof(h));
		h.sequence += w->shift;
		seal(&h, frame + sizeof(h), size - sizeof(h));
		memcpy(frame, &h, sizeof(h));
	}
	put(w, frame, size);
}

static void put_optional(struct way *w, const u8 *frame)
{
	u8 bytes[sizeof(struct proto_header) + 100] = {};
	struct proto_header h;

	memcpy(&h, frame, sizeof(h));
	h.type = PROTO_NR_TYPES + next_random() % 1000;
	h.flags = PROTO_OPTIONAL;
	h.length = next_random() % 100;
	seal(&h, bytes + sizeof(h), h.length);
	memcpy(bytes, &h, sizeof(h));
	put(w, bytes, sizeof(h) + h.length);
	w->shift++;
}

static void put_pieces(struct way *w, const u8 *frame, u32 size)
{
	u32 at, n, i;

	for (at = 0, i = 0; at < size; at += n, i++) {
		n = i < 4 ? 1 + next_random() % 45 : size - at;
		if (n > size - at)
			n = size - at;
		put(w, frame + at, n);
		usleep(500);
	}
}

/* One of a header's members, or what is behind it. */
static void change(struct relay *r, u8 *frame, u32 size)
{
	u32 length = size - sizeof(struct proto_header), i;
	u8 *data = frame + sizeof(struct proto_header);
	u64 x = next_random();
	struct proto_header h;

	memcpy(&h, frame, sizeof(h));
	switch (r->act) {
	case RELAY_MAGIC:
		h.magic ^= 1u << x % 32;
		break;
	case RELAY_VERSION:
		h.version += 1 + x % 100;
		break;
	case RELAY_EPOCH:
		h.epoch += x % 2 ? 1 : -1;
		break;
	case RELAY_SEQUENCE:
		h.sequence += x % 2 ? 1 : -1;
		break;
	case RELAY_LENGTH:
		h.length = x % 2 ? ~0u - x % 1000 : (128u << 10) + x % 1000;
		break;
	case RELAY_RESERVED:
		h.reserved = 1u << x % 32;
		break;
	case RELAY_FLAGS:
		h.flags |= 2u << x % 31;
		break;
	case RELAY_UNKNOWN_TYPE:
		h.type = x % 2 ? 0 : PROTO_NR_TYPES + x % 1000;
		break;
	case RELAY_OTHER_TYPE:
		h.type = 1 + x % (PROTO_NR_TYPES - 1);
		break;
	case RELAY_CONTENT:
		if (length)
			data[x % (length < 64 ? length : 64)] ^= 1 << (x >> 32) % 8;
		break;
	default:
		for (i = 0; i < length; i++)
			data[i] = next_random();
		break;
	}
	seal(&h, data, length);
	memcpy(frame, &h, sizeof(h));
}

static void act(struct relay *r, struct way *w, u8 *frame, u32 size)
{
	u8 garbage[200];
	u32 i;

	if (r->pid && !r->acted)
		kill(r->pid, r->signal);
	r->acted = true;
	random_state = r->seed;
	switch (r->act) {
	case RELAY_NOTHING:
		break;
	case RELAY_OPTIONAL:
		put_optional(w, frame);
		break;
	case RELAY_PIECES:
		put_pieces(w, frame, size);
		return;
	case RELAY_FLIP:
		frame[next_random() % size] ^= 1 << next_random() % 8;
		break;
	case RELAY_TRUNCATE:
		put(w, frame, next_random() % size);
		cut();
		return;
	case RELAY_CUT:
		cut();
		return;
	case RELAY_REPEAT:
		put(w, frame, size);
		break;
	case RELAY_SKIP:
		return;
	case RELAY_SWAP:
		memcpy(w->held, frame, size);
		w->nr_held = size;
		return;
	case RELAY_GARBAGE:
		for (i = 0; i < sizeof(garbage); i++)
			garbage[i] = next_random();
		put(w, garbage, 1 + next_random() % sizeof(garbage));
		break;
	default:
		change(r, frame, size);
	}
	put_frame(w, frame, size);
}

/* Whole frames go on; false: whoever sends has closed. */
static bool pass(struct relay *r, struct way *w, bool chosen)
{
	u32 size, at = 0;
	struct proto_header h;
	ssize_t n = recv(w->from, w->in + w->n, sizeof(w->in) - w->n, 0);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	w->n += n;
	while (w->n - at >= sizeof(h)) {
		memcpy(&h, w->in + at, sizeof(h));
		size = sizeof(h) + h.length;
		if (w->n - at < size)
			break;
		if (chosen && w->frames == r->frame && !(r->cuts && r->done_cuts == r->cuts)) {
			act(r, w, w->in + at, size);
			r->done_cuts += !!r->cuts;
			if (w->from < 0) {
				r->frame = r->every;
				return true;
			}
		} else {
			put_frame(w, w->in + at, size);
			r->after += chosen && r->acted;
			put(w, w->held, w->nr_held);
			w->nr_held = 0;
		}
		w->frames++;
		at += size;
	}
	memmove(w->in, w->in + at, w->n - at);
	w->n -= at;
	return true;
}

/* With cuts: others may come in place of those that are closed. */
static bool go_on(struct relay *r, int i)
{
	bool open = pass(r, &ways[i], i / 2 == r->urgent && i % 2 == r->to_source);

	if (!open && r->cuts)
		cut_pair(i / 2);
	return open || r->cuts;
}

static void join_up(struct relay *r, int pair)
{
	struct net_address to;
	int a = net_accept(listen_fd), b, i;

	net_parse(&to, r->to);
	b = net_connect(&to, 1000, -1);
	if (r->cuts && (a < 0 || b < 0)) {
		close(a);
		close(b);
		return;
	}
	for (i = 2 * pair; i < 2 * pair + 2; i++) {
		ways[i].n = 0;
		ways[i].frames = 0;
		ways[i].shift = 0;
		ways[i].nr_held = 0;
	}
	ways[pair * 2].from = a;
	ways[pair * 2].to = b;
	ways[pair * 2 + 1].from = b;
	ways[pair * 2 + 1].to = a;
}

static void *relay(void *arg)
{
	struct relay *r = arg;
	struct pollfd fds[6];
	int i, pairs = 0, n;
	bool open = true;

	while (open) {
		/* Two connections may come anew. */
		if (r->cuts && ways[0].from < 0 && ways[2].from < 0)
			pairs = 0;
		for (i = 0; i < 4; i++)
			fds[i] = (struct pollfd){ ways[i].from, POLLIN };
		fds[4] = (struct pollfd){ pairs < 2 ? listen_fd : -1, POLLIN };
		fds[5] = (struct pollfd){ stop_fd, POLLIN };
		n = poll(fds, 6, r->acted && r->act > RELAY_LAST_HARMLESS && !r->cuts ?
				 PATIENCE_MS : -1);
		if (!n || fds[5].revents)
			break;
		if (fds[4].revents)
			join_up(r, pairs++);
		for (i = 0; i < 4; i++) {
			if (fds[i].revents && ways[i].from >= 0)
				open &= go_on(r, i);
		}
	}
	cut();
	close(listen_fd);
	return NULL;
}

void relay_start(struct relay *r)
{
	struct net_address at;
	int i;

	memset(ways, 0, sizeof(ways));
	for (i = 0; i < 4; i++) {
		ways[i].from = -1;
		ways[i].to = -1;
	}
	net_parse(&at, r->listen);
	unlink(r->listen + strlen("unix:"));
	listen_fd = net_listen(&at);
	stop_fd = eventfd(0, 0);
	if (listen_fd < 0 || pthread_create(&thread, NULL, relay, r)) {
		printf("Bail out! no relay\n");
		exit(1);
	}
}

void relay_join(struct relay *r)
{
	u64 one = 1;

	if (write(stop_fd, &one, sizeof(one)) != sizeof(one))
		printf("# eventfd\n");
	pthread_join(thread, NULL);
	close(stop_fd);
	unlink(r->listen + strlen("unix:"));
}
