// SPDX-License-Identifier: GPL-2.0
/*
 * Packets between kuf restore and kuf pager.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kuf/kuf.h>

#include "packet.h"

#define MAX_FDS		(HELLO_FILES + KUF_EXPORT_MAX_FDS)

static_assert(sizeof(struct packet_head) == 24, "what goes by the socket");
static_assert(sizeof(struct packet) == 192, "what goes by the socket");
static_assert(sizeof(struct packet_hello) == 80, "what goes by the socket");

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
};

void packet_head_init(struct packet_head *head, enum packet_type type, u32 size)
{
	*head = (struct packet_head){ .version = PACKET_VERSION, .type = type, .size = size };
	memcpy(head->magic, PACKET_MAGIC, sizeof(head->magic));
}

int packet_head_check(const struct packet_head *head, size_t len)
{
	if (len < sizeof(*head) || memcmp(head->magic, PACKET_MAGIC, sizeof(head->magic)) ||
	    head->version != PACKET_VERSION || head->size != len || head->reserved)
		return -EPROTO;
	return 0;
}

int packet_check(const struct packet *packet, size_t len)
{
	if (packet_head_check(&packet->head, len) || len != sizeof(*packet) ||
	    packet->reserved || packet->err > 0 ||
	    !memchr(packet->text, 0, sizeof(packet->text)))
		return -EPROTO;
	return 0;
}

int packet_say(int fd, enum packet_type type, int err, const char *text)
{
	struct packet packet = { .err = err };

	packet_head_init(&packet.head, type, sizeof(packet));
	snprintf(packet.text, sizeof(packet.text), "%s", text ?: "");
	return packet_send(fd, &packet, sizeof(packet), NULL, 0, NULL, 0);
}

int packet_send(int fd, const void *head, size_t size, const void *more, size_t more_size,
		const int *fds, unsigned int nr_fds)
{
	struct iovec iov[] = {
		{ .iov_base = (void *)head, .iov_len = size },
		{ .iov_base = (void *)more, .iov_len = more_size },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = more_size ? 2 : 1 };
	union control control;
	struct cmsghdr *c;
	ssize_t n;

	if (nr_fds > MAX_FDS)
		return -EINVAL;
	if (nr_fds) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr_fds * sizeof(int));
	}
	do {
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return n == (ssize_t)(size + more_size) ? 0 : -EIO;
}

/* All that came, so that nothing leaks, whatever came. */
static int take_fds(struct msghdr *msg, int *fds, unsigned int *nr_fds)
{
	unsigned int max = *nr_fds, i, nr;
	struct cmsghdr *c;
	int err = 0, fd;

	*nr_fds = 0;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < nr; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (*nr_fds < max) {
				fds[(*nr_fds)++] = fd;
			} else {
				close(fd);
				err = -EMSGSIZE;
			}
		}
	}
	return err;
}

int packet_receive(int fd, void *to, size_t size, size_t *len, int *fds, unsigned int *nr_fds)
{
	struct iovec iov = { .iov_base = to, .iov_len = size };
	union control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int err;

	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		*nr_fds = 0;
		return errno == ECONNRESET ? -EPIPE : -errno;
	}
	err = take_fds(&msg, fds, nr_fds);
	*len = n;
	if (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		return -EMSGSIZE;
	/* There are no empty packets. */
	return err ?: n ? 0 : -EPIPE;
}

int packet_peer(int fd, pid_t *pid, uid_t *uid)
{
	struct ucred ucred;
	socklen_t len = sizeof(ucred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &len))
		return -errno;
	*pid = ucred.pid;
	*uid = ucred.uid;
	return 0;
}

bool packet_trusts(uid_t uid)
{
	return !uid || uid == geteuid();
}
