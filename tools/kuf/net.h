/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_NET_H
#define KUF_NET_H

#include <sys/socket.h>

#include "kuf.h"

/*
 * Addresses: tcp:HOST:PORT, with a numeric IPv4 address, an IPv6 one in brackets, or
 * localhost; unix:PATH.  Names are for the resolver, which a static program lacks.
 */
struct net_address {
	const char *text;
	struct sockaddr_storage addr;
	socklen_t len;
};

#define NET_TEXT_MAX	128

/* Refers to @text from then on.  -EINVAL after a message. */
int net_parse(struct net_address *a, const char *text);

/*
 * All sockets do not block.  A file descriptor, or -errno after a message.
 */
int net_listen(const struct net_address *a);
/* Closes @fd, and removes what net_listen() made in the file system. */
void net_unlisten(const struct net_address *a, int fd);
/* Where @fd listens, as net_parse() takes it: a port of 0 became another one. */
void net_say_address(int fd, const struct net_address *a, char text[NET_TEXT_MAX]);
/* -EAGAIN: nobody is there, or net_back_off(). */
int net_accept(int fd);
/*
 * After an accept() that failed, and @why: where there is no room the socket can be read
 * still, and it is not to be tried again all the time.  Tells of that once.
 */
void net_back_off(int why);
/* -ETIMEDOUT after @timeout_ms; -ECANCELED when @cancel (or -1) can be read. */
int net_connect(const struct net_address *a, int timeout_ms, int cancel);

/* -ETIMEDOUT, -ECANCELED, or 0: one of @events, or an error, is there. */
int net_wait(int fd, short events, int timeout_ms, int cancel);

#endif /* KUF_NET_H */
