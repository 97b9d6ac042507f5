// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net.h"

/* A peer that vanished is noticed after so long, whether or not we have sent something. */
#define DEAD_AFTER_S	20
/* How often it is tried to take somebody in for whom there is no room. */
#define NO_ROOM_US	100000
/* What the kernel may hold of what was not sent yet: later frames wait behind it. */
#define NOT_SENT_MAX	(128 << 10)

static int parse_unix(struct net_address *a, const char *path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&a->addr;

	if (!*path || strlen(path) >= sizeof(un->sun_path))
		return kuf_error(0, "%s: a path of 1 to %zu bytes is needed", a->text,
				 sizeof(un->sun_path) - 1);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	a->len = sizeof(*un);
	return 0;
}

static bool parse_host(struct net_address *a, const char *host, u16 port)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->addr;
	struct sockaddr_in *in = (struct sockaddr_in *)&a->addr;

	if (!strcmp(host, "localhost"))
		host = "127.0.0.1";
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		a->len = sizeof(*in);
		return true;
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		a->len = sizeof(*in6);
		return true;
	}
	return false;
}

static int parse_tcp(struct net_address *a, const char *text)
{
	const char *colon = strrchr(text, ':');
	char host[64], *end;
	size_t len = colon ? colon - text : 0;
	unsigned long port;

	if (len > 2 && text[0] == '[' && colon[-1] == ']') {
		text++;
		len -= 2;
	}
	if (!len || len >= sizeof(host))
		goto bad;
	memcpy(host, text, len);
	host[len] = '\0';
	port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port > 65535 ||
	    !parse_host(a, host, port))
		goto bad;
	return 0;
bad:
	return kuf_error(0, "%s: a numeric host and a port are needed, as tcp:[::1]:4444",
			 a->text);
}

int net_parse(struct net_address *a, const char *text)
{
	*a = (struct net_address){ .text = text };
	if (!strncmp(text, "unix:", 5))
		return parse_unix(a, text + 5);
	if (!strncmp(text, "tcp:", 4))
		return parse_tcp(a, text + 4);
	return kuf_error(0, "%s: tcp:HOST:PORT or unix:PATH is needed", text);
}

static int new_socket(const struct net_address *a)
{
	int fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 ? fd : kuf_error(-errno, "a socket for %s", a->text);
}

/* For UNIX sockets these fail, and are not needed. */
static void tune(int fd)
{
	const struct { int level, name, value; } options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOT_SENT_MAX },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, DEAD_AFTER_S / 2 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, DEAD_AFTER_S / 8 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 4 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			   sizeof(options[i].value));
}

int net_listen(const struct net_address *a)
{
	int fd = new_socket(a), one = 1, err;
	mode_t mask;

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	mask = umask(0177);
	err = bind(fd, (const struct sockaddr *)&a->addr, a->len) ? -errno : 0;
	umask(mask);
	if (!err && listen(fd, 8)) {
		err = -errno;
		net_unlisten(a, fd);
	} else if (err) {
		close(fd);
	}
	return err ? kuf_error(err, "listening at %s", a->text) : fd;
}

void net_unlisten(const struct net_address *a, int fd)
{
	if (fd < 0)
		return;
	if (a->addr.ss_family == AF_UNIX)
		unlink(((const struct sockaddr_un *)&a->addr)->sun_path);
	close(fd);
}

void net_say_address(int fd, const struct net_address *a, char text[NET_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN];
	struct sockaddr_in6 in6;
	struct sockaddr_in *in = (struct sockaddr_in *)&in6;
	socklen_t len = sizeof(in6);

	if (a->addr.ss_family == AF_UNIX || getsockname(fd, (struct sockaddr *)&in6, &len))
		snprintf(text, NET_TEXT_MAX, "%s", a->text);
	else if (a->addr.ss_family == AF_INET)
		snprintf(text, NET_TEXT_MAX, "tcp:%s:%u",
			 inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host)),
			 ntohs(in->sin_port));
	else
		snprintf(text, NET_TEXT_MAX, "tcp:[%s]:%u",
			 inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host)),
			 ntohs(in6.sin6_port));
}

int net_accept(int fd)
{
	int new = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (new >= 0)
		tune(new);
	else
		net_back_off(errno);
	/* Whoever came may have gone already, or there is no room: nothing to end for. */
	return new >= 0 ? new : -EAGAIN;
}

void net_back_off(int why)
{
	static bool told;

	if (why != EMFILE && why != ENFILE && why != ENOBUFS && why != ENOMEM)
		return;
	/* It is tried ten times a second, perhaps for long. */
	if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
		kuf_error(-why,
			  "who connects waits for room: raise ulimit -n (prlimit --nofile while it runs)");
	usleep(NO_ROOM_US);
}

int net_wait(int fd, short events, int timeout_ms, int cancel)
{
	struct pollfd fds[] = {
		{ .fd = fd, .events = events },
		{ .fd = cancel, .events = POLLIN },
	};
	int n;

	do {
		n = poll(fds, 2, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!n)
		return -ETIMEDOUT;
	return fds[1].revents ? -ECANCELED : 0;
}

int net_connect(const struct net_address *a, int timeout_ms, int cancel)
{
	int fd = new_socket(a), err = 0;
	socklen_t len = sizeof(err);

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&a->addr, a->len)) {
		err = -errno;
		if (err == -EINPROGRESS) {
			err = net_wait(fd, POLLOUT, timeout_ms, cancel);
			if (!err && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
				err = -err;
		}
	}
	if (err) {
		close(fd);
		return kuf_error(err, "connecting to %s", a->text);
	}
	tune(fd);
	return fd;
}
