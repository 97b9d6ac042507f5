// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM connects to a kuf pager, gives it all that it needs, and agrees with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi.h"
#include "control.h"
#include "net.h"
#include "remote_private.h"
#include "vm.h"

__attribute__((format(printf, 3, 4)))
static int failed(struct remote *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	return err;
}

/* Once for each pager, however often it takes to get it: what is waited for comes here. */
static int prepare(struct pager *p)
{
	u32 flags = KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK |
		    KVM_USERFAULT_FD_STALL | KVM_USERFAULT_FD_REPLACE;
	struct remote *r = p->remote;
	int err;

	if (r->uffd >= 0)
		return 0;
	/* Who waits for a page that is poisoned meanwhile is let go by whoever serves. */
	if (p->poison)
		flags |= KVM_USERFAULT_FD_MAY_POISON;
	err = kuf_fd_create(p->k, flags, &r->uffd);
	if (err) {
		r->uffd = -1;
		return failed(r, err, "KVM_USERFAULT_CREATE_FD");
	}
	err = kuf_export(p->k, r->uffd, &r->ex);
	if (err) {
		close(r->uffd);
		r->uffd = -1;
		return failed(r, err, "memory for the pager");
	}
	return 0;
}

static int open_socket(struct pager *p, int *fd, pid_t *pid)
{
	const char *path = remote_config_of(p)->path;
	struct remote *r = p->remote;
	struct sockaddr_un address;
	uid_t uid;
	int err;

	err = control_address(&address, path);
	if (err)
		return failed(r, err, "--pager=unix:%.60s...", path);
	*fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return failed(r, -errno, "a socket");
	err = connect(*fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	if (err == -ENOENT || err == -ECONNREFUSED)
		return failed(r, err, "no pager listens at %s: kuf pager --listen=SOCKET", path);
	/* It is there, and its backlog is full. */
	if (err == -EAGAIN)
		return failed(r, err, "the pager at %s does not answer", path);
	if (err)
		return failed(r, err, "--pager=unix:%s", path);
	err = packet_peer(*fd, pid, &uid);
	if (err)
		return failed(r, err, "SO_PEERCRED");
	/* It gets the guest's memory. */
	if (!packet_trusts(uid))
		return failed(r, -EPERM,
			      "the pager at %s is user %u's: start it as this one, or root", path,
			      uid);
	return 0;
}

static int say_hello(struct pager *p, int fd)
{
	const struct pager_policy *policy = &p->config.policy;
	int fds[HELLO_FILES + KUF_EXPORT_MAX_FDS];
	struct remote *r = p->remote;
	struct packet_hello hello = {
		.policy = policy->kind,
		.flags = (policy->then_eager ? HELLO_THEN_EAGER : 0) |
			 (policy->record ? HELLO_RECORD : 0) |
			 (r->replay >= 0 ? HELLO_REPLAY : 0),
		.mem_size = p->vm->mem.size,
		.nr_replay = r->replay >= 0 ? policy->nr_replay : 0,
		.export_size = r->ex.nr_bytes,
	};

	packet_head_init(&hello.head, PACKET_HELLO, sizeof(hello) + r->ex.nr_bytes);
	memcpy(hello.session, remote_config_of(p)->session, sizeof(hello.session));
	fds[hello.nr_fds++] = remote_config_of(p)->file;
	fds[hello.nr_fds++] = p->shared_fd;
	if (r->replay >= 0)
		fds[hello.nr_fds++] = r->replay;
	memcpy(fds + hello.nr_fds, r->ex.fds, r->ex.nr_fds * sizeof(int));
	hello.nr_fds += r->ex.nr_fds;
	return packet_send(fd, &hello, sizeof(hello), r->ex.bytes, r->ex.nr_bytes, fds,
			   hello.nr_fds);
}

int remote_hear(int fd, struct packet *packet, int timeout_ms, int stop)
{
	unsigned int nr_fds = 0;
	size_t len;
	int err;

	err = net_wait(fd, POLLIN, timeout_ms, stop);
	if (!err)
		err = packet_receive(fd, packet, sizeof(*packet), &len, NULL, &nr_fds);
	return err ?: packet_check(packet, len);
}

/* What it says to HELLO.  It may be stopped: that is told before it was waited for. */
static int hear_answer(struct pager *p, int fd, pid_t pid, struct packet *packet, int timeout_ms)
{
	bool patient = timeout_ms < 0 || timeout_ms > REMOTE_SILENT_MS;
	struct remote *r = p->remote;
	int err;

	err = remote_hear(fd, packet, patient ? REMOTE_SILENT_MS : timeout_ms, p->server.stop);
	if (err != -ETIMEDOUT || !patient)
		return err;
	kuf_say("the pager at %s (process %d) does not answer: is it stopped (SIGCONT)?",
		remote_config_of(p)->path, pid);
	pthread_mutex_lock(&r->lock);
	r->state = REMOTE_SILENT;
	r->pid = pid;
	pthread_mutex_unlock(&r->lock);
	if (timeout_ms > 0)
		timeout_ms -= REMOTE_SILENT_MS;
	return remote_hear(fd, packet, timeout_ms, p->server.stop);
}

/* With a pager that may serve: until it has said that it will. */
static int agree(struct pager *p, int fd, pid_t pid, int timeout_ms)
{
	struct remote *r = p->remote;
	struct packet packet;
	int err;

	err = say_hello(p, fd);
	if (!err)
		err = hear_answer(p, fd, pid, &packet, timeout_ms);
	if (err == -ECANCELED)
		return err;
	if (err == -ETIMEDOUT)
		return failed(r, err, "the pager at %s does not answer", remote_config_of(p)->path);
	if (err == -EPROTO)
		return failed(r, err, "what listens at %s is no kuf pager of this version",
			      remote_config_of(p)->path);
	if (err)
		return failed(r, err, "the pager at %s hung up", remote_config_of(p)->path);
	if (packet.head.type == PACKET_REFUSED)
		return failed(r, packet.err ?: -EACCES, "%s", packet.text);
	if (packet.head.type != PACKET_READY)
		return failed(r, -EPROTO, "the pager at %s says something else than READY",
			      remote_config_of(p)->path);
	err = packet_say(fd, PACKET_GO, 0, NULL);
	return err ? failed(r, err, "the pager at %s hung up", remote_config_of(p)->path) : 0;
}

int remote_connect(struct pager *p, int timeout_ms)
{
	struct remote *r = p->remote;
	int err, fd = -1;
	pid_t pid = 0;

	err = open_socket(p, &fd, &pid);
	if (!err)
		err = prepare(p);
	if (!err)
		err = agree(p, fd, pid, timeout_ms);
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	/* Its copy is the only one: KVM notices when it dies. */
	close(r->uffd);
	r->uffd = -1;
	r->peer = r->ex.peer;
	r->socket = fd;
	r->pinged_ns = 0;
	r->ping_ns = 0;
	pthread_mutex_lock(&r->lock);
	r->pid = pid;
	r->pagers++;
	r->state = REMOTE_SERVES;
	r->since_ns = pager_now();
	pthread_mutex_unlock(&r->lock);
	return 0;
}

int remote_check(const struct remote_config *config)
{
	struct remote r = {};
	struct pager p = { .config.remote = *config, .remote = &r };
	int err, fd = -1;
	pid_t pid;

	err = open_socket(&p, &fd, &pid);
	if (fd >= 0)
		close(fd);
	return err ? kuf_error(err, "%s", r.why) : 0;
}
