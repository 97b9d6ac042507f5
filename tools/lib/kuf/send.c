// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A context on its way through a socket: sizes, file descriptors, bytes.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

#define SEND_MAGIC	0x5346554bu	/* "KUFS" */

/* Goes with the file descriptors. */
struct send_header {
	uint32_t magic;
	uint32_t nr_bytes;
	uint32_t nr_fds;
	uint32_t peer;
};

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(KUF_EXPORT_MAX_FDS * sizeof(int))];
};

int kuf_send(const struct kuf_export *ex, int sock)
{
	struct send_header header = {
		.magic = SEND_MAGIC,
		.nr_bytes = ex->nr_bytes,
		.nr_fds = ex->nr_fds,
		.peer = ex->peer,
	};
	struct iovec iov = { .iov_base = &header, .iov_len = sizeof(header) };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	size_t done = 0;
	ssize_t n;

	if (ex->size != sizeof(*ex) || !ex->nr_fds || ex->nr_fds > KUF_EXPORT_MAX_FDS ||
	    ex->nr_bytes > sizeof(ex->bytes))
		return -EINVAL;
	memset(&control, 0, sizeof(control));
	msg.msg_control = &control;
	msg.msg_controllen = CMSG_SPACE(ex->nr_fds * sizeof(int));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(ex->nr_fds * sizeof(int));
	memcpy(CMSG_DATA(c), ex->fds, ex->nr_fds * sizeof(int));
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n != sizeof(header))
		return -EPIPE;
	while (done < ex->nr_bytes) {
		n = send(sock, ex->bytes + done, ex->nr_bytes - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += n;
	}
	return 0;
}

static int receive_all(int sock, void *to, size_t size)
{
	char *p = to;
	ssize_t n;

	while (size) {
		n = recv(sock, p, size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EPIPE;
		p += n;
		size -= n;
	}
	return 0;
}

/* All that came, so that nothing leaks, whatever came. */
static void take_fds(struct kuf_export *ex, struct msghdr *msg)
{
	struct cmsghdr *c;
	size_t n;

	ex->nr_fds = 0;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		/* There is no room for more in the control buffer either. */
		if (n > KUF_EXPORT_MAX_FDS - ex->nr_fds)
			n = KUF_EXPORT_MAX_FDS - ex->nr_fds;
		memcpy(ex->fds + ex->nr_fds, CMSG_DATA(c), n * sizeof(int));
		ex->nr_fds += n;
	}
}

int kuf_recv(struct kuf_export *ex, int sock)
{
	struct send_header header = {};
	struct iovec iov = { .iov_base = &header, .iov_len = sizeof(header) };
	union control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int ret;

	if (ex->size != sizeof(*ex))
		return -EINVAL;
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(ex, &msg);
	ret = n ? 0 : -EPIPE;
	if (n && n < (ssize_t)sizeof(header))
		ret = receive_all(sock, (char *)&header + n, sizeof(header) - n);
	if (!ret && (header.magic != SEND_MAGIC || header.nr_bytes > sizeof(ex->bytes) ||
		     header.nr_fds != ex->nr_fds || msg.msg_flags & MSG_CTRUNC))
		ret = -EBADMSG;
	if (!ret)
		ret = receive_all(sock, ex->bytes, header.nr_bytes);
	if (ret) {
		while (ex->nr_fds)
			close(ex->fds[--ex->nr_fds]);
		return ret;
	}
	ex->nr_bytes = header.nr_bytes;
	ex->peer = header.peer;
	return 0;
}
