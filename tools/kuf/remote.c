// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM's side of kuf pager: connects, watches it, and replaces it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi.h"
#include "control.h"
#include "packet.h"
#include "pager.h"
#include "vm.h"

#define PING_MS		1000
#define SILENT_MS	3000
#define END_MS		5000
#define RETRY_MIN_MS	50
#define RETRY_MAX_MS	2000
#define MS		1000000ull

struct remote {
	/* For the thread alone, once it is there. */
	int socket;		/* -1: there is no pager */
	u32 peer;		/* its number, of kuf_export() */
	int uffd;		/* for the next one, or -1 */
	struct kuf_export ex;	/* the same */
	int replay;		/* entries of a recording, or -1 */
	u64 pinged_ns;		/* 0: all pings were answered */
	u64 ping_ns;		/* when the next one is due */
	char why[PACKET_TEXT];	/* an attempt failed */

	pthread_mutex_t lock;	/* all below */
	enum remote_state state;
	pid_t pid;
	unsigned int pagers;
	u64 since_ns;
	struct kuf_stats past;	/* of those who are gone */
	u64 uncounted;
};

static const struct remote_config *config_of(const struct pager *p)
{
	return &p->config.remote;
}

static void set_state(struct remote *r, enum remote_state state)
{
	pthread_mutex_lock(&r->lock);
	r->state = state;
	r->since_ns = pager_now();
	pthread_mutex_unlock(&r->lock);
}

void remote_get_status(struct pager *p, struct remote_status *status)
{
	struct remote *r = p->remote;

	*status = (struct remote_status){};
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	status->state = r->state;
	status->pid = r->pid;
	status->pagers = r->pagers;
	status->since_ns = r->since_ns;
	pthread_mutex_unlock(&r->lock);
	snprintf(status->path, sizeof(status->path), "%s", config_of(p)->path);
}

void remote_add_stats(struct pager *p, struct kuf_stats *stats, u64 *uncounted)
{
	struct remote *r = p->remote;

	pthread_mutex_lock(&r->lock);
	pager_add_stats(stats, &r->past);
	pager_add_stats(stats, &p->shared->stats);
	*uncounted = r->uncounted;
	pthread_mutex_unlock(&r->lock);
}

/* The pager is gone: nobody changes what it counted, and nobody fills pages. */
static void account(struct pager *p)
{
	struct kuf_stats own = { .size = sizeof(own) };
	struct remote *r = p->remote;
	u64 present = pager_count_present(p), counted;

	kuf_get_stats(p->k, &own);
	pthread_mutex_lock(&r->lock);
	pager_add_stats(&r->past, &p->shared->stats);
	p->shared->stats = (struct kuf_stats){ .size = sizeof(p->shared->stats) };
	counted = r->past.installed + r->past.zeroed + own.installed + own.zeroed + r->uncounted;
	if (present > counted)
		r->uncounted += present - counted;
	p->shared->filled_before = present;
	p->shared->demanded_before = r->past.demanded;
	pthread_mutex_unlock(&r->lock);
}

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
	struct remote *r = p->remote;
	int err;

	if (r->uffd >= 0)
		return 0;
	err = kuf_fd_create(p->k, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK |
			    KVM_USERFAULT_FD_STALL | KVM_USERFAULT_FD_REPLACE, &r->uffd);
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
	const char *path = config_of(p)->path;
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
		return failed(r, -EPERM, "the pager at %s is user %u's: start it as this one, or root",
			      path, uid);
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
	memcpy(hello.session, config_of(p)->session, sizeof(hello.session));
	fds[hello.nr_fds++] = config_of(p)->file;
	fds[hello.nr_fds++] = p->shared_fd;
	if (r->replay >= 0)
		fds[hello.nr_fds++] = r->replay;
	memcpy(fds + hello.nr_fds, r->ex.fds, r->ex.nr_fds * sizeof(int));
	hello.nr_fds += r->ex.nr_fds;
	return packet_send(fd, &hello, sizeof(hello), r->ex.bytes, r->ex.nr_bytes, fds,
			   hello.nr_fds);
}

/* One packet; -ECANCELED: the VM ends; -ETIMEDOUT. */
static int hear(int fd, struct packet *packet, int timeout_ms, int stop)
{
	struct pollfd fds[] = {
		{ .fd = stop, .events = POLLIN },
		{ .fd = fd, .events = POLLIN },
	};
	unsigned int nr_fds = 0;
	size_t len;
	int err, n;

	do {
		n = poll(fds, 2, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!n)
		return -ETIMEDOUT;
	if (fds[0].revents)
		return -ECANCELED;
	err = packet_receive(fd, packet, sizeof(*packet), &len, NULL, &nr_fds);
	return err ?: packet_check(packet, len);
}

/* What it says to HELLO.  It may be stopped: that is told before it was waited for. */
static int hear_answer(struct pager *p, int fd, pid_t pid, struct packet *packet, int timeout_ms)
{
	bool patient = timeout_ms < 0 || timeout_ms > SILENT_MS;
	struct remote *r = p->remote;
	int err;

	err = hear(fd, packet, patient ? SILENT_MS : timeout_ms, p->server.stop);
	if (err != -ETIMEDOUT || !patient)
		return err;
	kuf_say("the pager at %s (process %d) does not answer: is it stopped (SIGCONT)?",
		config_of(p)->path, pid);
	pthread_mutex_lock(&r->lock);
	r->state = REMOTE_SILENT;
	r->pid = pid;
	pthread_mutex_unlock(&r->lock);
	return hear(fd, packet, timeout_ms < 0 ? -1 : timeout_ms - SILENT_MS, p->server.stop);
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
		return failed(r, err, "the pager at %s does not answer", config_of(p)->path);
	if (err == -EPROTO)
		return failed(r, err, "what listens at %s is no kuf pager of this version",
			      config_of(p)->path);
	if (err)
		return failed(r, err, "the pager at %s hung up", config_of(p)->path);
	if (packet.head.type == PACKET_REFUSED)
		return failed(r, packet.err ?: -EACCES, "%s", packet.text);
	if (packet.head.type != PACKET_READY)
		return failed(r, -EPROTO, "the pager at %s says something else than READY",
			      config_of(p)->path);
	err = packet_say(fd, PACKET_GO, 0, NULL);
	return err ? failed(r, err, "the pager at %s hung up", config_of(p)->path) : 0;
}

/* One attempt to get a pager, or another one.  -errno, and r->why. */
static int attempt(struct pager *p, int timeout_ms)
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

/* 0: nothing that matters. */
static int heard(struct pager *p, const struct packet *packet)
{
	struct remote *r = p->remote;

	switch (packet->head.type) {
	case PACKET_PONG:
		r->pinged_ns = 0;
		if (r->state == REMOTE_SILENT)
			kuf_say("the pager (process %d) answers again", r->pid);
		set_state(r, REMOTE_SERVES);
		return 0;
	case PACKET_BYE:
		kuf_say("the pager (process %d) ends: %s", r->pid, packet->text);
		return 0;
	case PACKET_FAILED:
		return kuf_error(packet->err ?: -EIO, "the pager (process %d): %s", r->pid,
				 packet->text);
	default:
		return kuf_error(-EPROTO, "the pager (process %d) sent a packet of type %u", r->pid,
				 packet->head.type);
	}
}

static void ping(struct remote *r)
{
	u64 now = pager_now();

	if (!r->pinged_ns) {
		if (now < r->ping_ns)
			return;
		/* What does not get through need not be noticed here. */
		packet_say(r->socket, PACKET_PING, 0, NULL);
		r->pinged_ns = now;
		r->ping_ns = now + PING_MS * MS;
	} else if (now - r->pinged_ns > SILENT_MS * MS && r->state == REMOTE_SERVES) {
		kuf_say("the pager (process %d) does not answer: is it stopped (SIGCONT), or does it wait for a file?",
			r->pid);
		/* Since it was heard of. */
		pthread_mutex_lock(&r->lock);
		r->state = REMOTE_SILENT;
		pthread_mutex_unlock(&r->lock);
	}
}

/* -EPIPE: it is gone; -ECANCELED: the VM ends; others: nobody can serve it. */
static int watch(struct pager *p)
{
	struct remote *r = p->remote;
	struct packet packet;
	int err;

	for (;;) {
		err = hear(r->socket, &packet, PING_MS, p->server.stop);
		if (!err)
			err = heard(p, &packet);
		else if (err == -ETIMEDOUT || err == -EAGAIN)
			err = 0;
		else if (err == -EPROTO)
			kuf_error(err, "the pager (process %d) sent what makes no sense", r->pid);
		if (err)
			return err;
		ping(r);
	}
}

static void let_go(struct pager *p)
{
	struct remote *r = p->remote;

	close(r->socket);
	r->socket = -1;
	set_state(r, REMOTE_GONE);
	/* Its end of the socket is closed: all that it held is nobody's. */
	kuf_recover(p->k, r->peer);
	account(p);
}

/* For poll(): -1 is for ever. */
static int ms_until(u64 end)
{
	u64 now = pager_now();

	if (end == ~0ull)
		return -1;
	return now < end ? (end - now) / MS + 1 : 0;
}

/* Another one: -ETIMEDOUT after a message, -ECANCELED. */
static int replace(struct pager *p)
{
	u64 begin = pager_now(), end = ~0ull;
	struct pollfd stop = { .fd = p->server.stop, .events = POLLIN };
	struct remote *r = p->remote;
	int wait_ms = RETRY_MIN_MS, left_ms, err;
	char said[PACKET_TEXT] = "";

	if (config_of(p)->timeout_s)
		end = begin + config_of(p)->timeout_s * 1000 * MS;
	kuf_say("the pager (process %d) is gone: pages wait for another one at %s", r->pid,
		config_of(p)->path);
	for (;;) {
		err = attempt(p, ms_until(end));
		if (!err || err == -ECANCELED)
			break;
		set_state(r, REMOTE_GONE);
		if (strcmp(said, r->why))
			kuf_error(err, "%s", r->why);
		strcpy(said, r->why);
		left_ms = ms_until(end);
		if (!left_ms)
			return kuf_error(-ETIMEDOUT, "no pager came to %s in %u s (--pager-timeout): the VM ends",
					 config_of(p)->path, config_of(p)->timeout_s);
		if (left_ms >= 0 && left_ms < wait_ms)
			wait_ms = left_ms;
		if (poll(&stop, 1, wait_ms) > 0)
			return -ECANCELED;
		wait_ms = wait_ms < RETRY_MAX_MS / 2 ? wait_ms * 2 : RETRY_MAX_MS;
	}
	if (!err)
		kuf_say("the pager (process %d) serves, after %llu ms without", r->pid,
			(unsigned long long)(pager_now() - begin) / 1000000);
	return err;
}

/* It tells what it counted, if it can. */
static void end(struct pager *p)
{
	u64 until = pager_now() + END_MS * MS;
	struct remote *r = p->remote;
	struct packet packet;
	int err;

	if (r->socket < 0)
		return;
	err = packet_say(r->socket, PACKET_END, 0, NULL);
	while (!err) {
		/* Its end is closed when it has let go of the memory. */
		err = hear(r->socket, &packet, ms_until(until), -1);
	}
	if (err == -ETIMEDOUT)
		kuf_say("the pager (process %d) does not answer: what it did last is not counted",
			r->pid);
	close(r->socket);
	r->socket = -1;
	set_state(r, REMOTE_GONE);
	account(p);
}

static void *serve(void *arg)
{
	struct pager *p = arg;
	int err;

	do {
		err = watch(p);
		if (err == -EPIPE) {
			let_go(p);
			err = replace(p);
		}
	} while (!err);
	end(p);
	if (err != -ECANCELED) {
		p->server.err = err;
		vm_stop(p->vm, KUF_EXIT_PAGER);
	}
	return NULL;
}

static int share_replay(struct pager *p)
{
	const struct pager_policy *policy = &p->config.policy;
	size_t size = policy->nr_replay * sizeof(*policy->replay), done = 0;
	struct remote *r = p->remote;
	ssize_t n;

	if (!size)
		return 0;
	r->replay = memfd_create("kuf-replay", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->replay < 0)
		return kuf_error(-errno, "the recording, for the pager");
	for (; done < size; done += n) {
		n = write(r->replay, (const char *)policy->replay + done, size - done);
		if (n <= 0)
			return kuf_error(n ? -errno : -EIO, "the recording, for the pager");
	}
	if (fcntl(r->replay, F_ADD_SEALS,
		  F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		return kuf_error(-errno, "the recording, for the pager");
	return 0;
}

int remote_start(struct pager *p)
{
	const struct remote_config *c = config_of(p);
	struct remote *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return kuf_error(-ENOMEM, "no memory");
	pthread_mutex_init(&r->lock, NULL);
	r->socket = -1;
	r->uffd = -1;
	r->replay = -1;
	r->ex.size = sizeof(r->ex);
	r->past.size = sizeof(r->past);
	p->remote = r;
	err = share_replay(p);
	if (err)
		return err;
	err = attempt(p, c->timeout_s ? (int)c->timeout_s * 1000 : -1);
	if (err)
		return kuf_error(err, "%s", r->why);
	kuf_say("pages come from the pager at %s (process %d)", c->path, r->pid);
	return server_start(&p->server, p, serve);
}

void remote_release(struct pager *p)
{
	struct remote *r = p->remote;

	if (!r)
		return;
	if (r->socket >= 0)
		close(r->socket);
	if (r->uffd >= 0)
		close(r->uffd);
	if (r->replay >= 0)
		close(r->replay);
	pthread_mutex_destroy(&r->lock);
	free(r);
	p->remote = NULL;
}
