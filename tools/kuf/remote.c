// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM's side of kuf pager: watches it, and replaces it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "remote_private.h"
#include "vm.h"

#define PING_MS		1000
#define END_MS		5000
#define RETRY_MIN_MS	50
#define RETRY_MAX_MS	2000

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
	snprintf(status->path, sizeof(status->path), "%s", remote_config_of(p)->path);
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
	/* These were filled, too. */
	present += own.lost;
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
	} else if (now - r->pinged_ns > REMOTE_SILENT_MS * MS && r->state == REMOTE_SERVES) {
		kuf_say("the pager (process %d) does not answer: is it stopped (SIGCONT)?",
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
		err = remote_hear(r->socket, &packet, PING_MS, p->server.stop);
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

	if (remote_config_of(p)->timeout_s)
		end = begin + remote_config_of(p)->timeout_s * 1000 * MS;
	kuf_say("the pager (process %d) is gone: pages wait for another one at %s", r->pid,
		remote_config_of(p)->path);
	for (;;) {
		err = remote_connect(p, ms_until(end));
		if (!err || err == -ECANCELED)
			break;
		set_state(r, REMOTE_GONE);
		if (strcmp(said, r->why))
			kuf_error(err, "%s", r->why);
		strcpy(said, r->why);
		left_ms = ms_until(end);
		if (!left_ms)
			return kuf_error(-ETIMEDOUT,
					 "no pager came to %s in %u s (--pager-timeout)",
					 remote_config_of(p)->path, remote_config_of(p)->timeout_s);
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
		err = remote_hear(r->socket, &packet, ms_until(until), -1);
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
	if (err != -ECANCELED) {
		p->server.err = err;
		vm_stop(p->vm, KUF_EXIT_PAGER);
	}
	end(p);
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
	const struct remote_config *c = remote_config_of(p);
	struct remote *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return kuf_error(-ENOMEM, "%zu bytes for --pager=unix:PATH", sizeof(*r));
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
	err = remote_connect(p, c->timeout_s ? (int)c->timeout_s * 1000 : -1);
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
