// SPDX-License-Identifier: GPL-2.0
/*
 * The way in: anybody may connect to where a destination listens, with anything to say,
 * or nothing, while it waits for those two connections that belong to its VM.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lobby.h"
#include "net.h"

void lobby_open(struct lobby *l, int listen_fd, int cancel)
{
	int i;

	*l = (struct lobby){ .listen_fd = listen_fd, .cancel = cancel };
	for (i = 0; i < LOBBY_SEATS; i++)
		l->seats[i].stream.fd = -1;
}

void lobby_close(struct lobby *l)
{
	int i;

	for (i = 0; i < LOBBY_SEATS; i++)
		stream_close(&l->seats[i].stream);
}

int lobby_check_features(const struct proto_hello *hello)
{
	if (hello->required & ~PROTO_REQUIRED)
		return kuf_error(0, "the other side requires features 0x%llx: not had here",
				 (unsigned long long)(hello->required & ~PROTO_REQUIRED));
	if ((hello->required & PROTO_REQUIRED) != PROTO_REQUIRED)
		return kuf_error(0, "the other side does not have features 0x%llx",
				 (unsigned long long)(PROTO_REQUIRED & ~hello->required));
	return 0;
}

static int seat(struct lobby *l, int fd)
{
	int i;

	for (i = 0; i < LOBBY_SEATS; i++) {
		if (l->seats[i].stream.fd >= 0)
			continue;
		l->seats[i].until_ns = stream_now_ns() + LOBBY_PATIENCE_MS * 1000000ull;
		return stream_open(&l->seats[i].stream, fd, "new", 0, -1);
	}
	close(fd);
	return kuf_error(0, "refused a connection: too many say nothing");
}

static void refuse(struct stream *s, const char *why)
{
	kuf_error(0, "refused a connection: %s", why);
	stream_abort(s, why);
	stream_close(s);
}

/* Compares all of it: how long that takes tells nothing about where it differs. */
static bool same_id(const u8 *a, const u8 *b)
{
	u8 differs = 0;
	int i;

	for (i = 0; i < PROTO_ID_SIZE; i++)
		differs |= a[i] ^ b[i];
	return !differs;
}

/* Is this who is waited for?  If not, why. */
static const char *judge(const struct lobby_guest *guest, const struct proto_hello *hello)
{
	if (hello->reserved)
		return "a HELLO that this kuf does not understand";
	if (hello->role != guest->role &&
	    !(guest->or_taken_back && hello->role == PROTO_TAKEN_BACK))
		return guest->role == PROTO_MAIN ?
		       "no VM is on its way here that this belongs to" :
		       "another VM is on its way here, or is here";
	if (guest->expect && (!same_id(hello->session, guest->expect->session) ||
			      !same_id(hello->token, guest->expect->token) ||
			      hello->epoch != guest->expect->epoch))
		return "it does not belong to the VM that is on its way here, or is here";
	if (lobby_check_features(hello))
		return "features that are not had here";
	return NULL;
}

/* Whoever sits there may have spoken: 1 if it is the one. */
static int listen_to(struct stream *s, const struct lobby_guest *guest,
		     struct proto_hello *hello)
{
	struct stream_frame frame;
	const char *why;
	int r = stream_fill(s);

	if (r && r != -EAGAIN) {
		/* Gone. */
		stream_close(s);
		return 0;
	}
	r = stream_next(s, &frame);
	if (!r)
		return 0;
	if (r < 0 || frame.type != PROTO_HELLO) {
		refuse(s, "no HELLO");
		return 0;
	}
	memcpy(hello, frame.data, sizeof(*hello));
	why = judge(guest, hello);
	if (why)
		refuse(s, why);
	return !why;
}

/* How long poll() may take; those whose time is over go. */
static int patience(struct lobby *l, u64 until, int timeout_ms)
{
	u64 now = stream_now_ns(), first = timeout_ms < 0 ? ~0ull : until;
	int i;

	for (i = 0; i < LOBBY_SEATS; i++) {
		if (l->seats[i].stream.fd < 0)
			continue;
		if (l->seats[i].until_ns <= now)
			refuse(&l->seats[i].stream, "it says nothing");
		else if (l->seats[i].until_ns < first)
			first = l->seats[i].until_ns;
	}
	if (first == ~0ull)
		return -1;
	return first > now ? (first - now) / 1000000 + 1 : 0;
}

int lobby_wait(struct lobby *l, const struct lobby_guest *guest, struct stream *stream,
	       struct proto_hello *hello, int timeout_ms)
{
	u64 until = stream_now_ns() + (timeout_ms > 0 ? timeout_ms : 0) * 1000000ull;
	struct pollfd fds[LOBBY_SEATS + 3];
	int i, fd, wait;

	for (;;) {
		wait = patience(l, until, timeout_ms);
		for (i = 0; i < LOBBY_SEATS; i++)
			fds[i] = (struct pollfd){ l->seats[i].stream.fd, POLLIN };
		fds[i++] = (struct pollfd){ l->listen_fd, POLLIN };
		fds[i++] = (struct pollfd){ l->cancel, POLLIN };
		fds[i] = (struct pollfd){ guest->expect ? guest->watch_fd : -1, POLLIN };
		if (poll(fds, ARRAY_SIZE(fds), wait) < 0 && errno != EINTR)
			return kuf_error(-errno, "poll");
		if (fds[i - 1].revents || fds[i].revents)
			return fds[i].revents ? -EPIPE : -ECANCELED;
		for (i = 0; i < LOBBY_SEATS; i++) {
			if (fds[i].fd < 0 || !fds[i].revents ||
			    !listen_to(&l->seats[i].stream, guest, hello))
				continue;
			*stream = l->seats[i].stream;
			stream->name = guest->name;
			l->seats[i].stream = (struct stream){ .fd = -1 };
			return 0;
		}
		if (fds[LOBBY_SEATS].revents) {
			fd = net_accept(l->listen_fd);
			if (fd >= 0)
				seat(l, fd);
		}
		if (timeout_ms >= 0 && stream_now_ns() >= until)
			return -ETIMEDOUT;
	}
}
