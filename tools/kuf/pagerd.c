// SPDX-License-Identifier: GPL-2.0
/*
 * The loop of kuf pager: who comes, who is served, and in which order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "guard.h"
#include "pagerd.h"

#define VM_FDS		4	/* the socket, and what libkuf has */
#define OWN_FDS		2
/* Five seconds. */
#define LOCK_TRIES	50
#define LOCK_PAUSE_US	100000

static void vm_init(struct pagerd_vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	vm->socket = -1;
	vm->uffd = -1;
	vm->snapshot.fd = -1;
}

/* The socket last: its end says that there is nothing left of the VM here. */
static void drop(struct pagerd_vm *vm)
{
	pagerd_vm_release(vm);
	if (vm->socket >= 0)
		close(vm->socket);
	vm_init(vm);
}

/*
 * Of all who may serve in this directory only one at a time is at it, for a moment.  Whoever
 * can read it can lock it, for longer: that is an error.
 */
static int lock_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash == path ? 1 : slash - path) : strdup(".");
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int tries = 0, err = fd < 0 ? -errno : 0;

	while (!err && flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK || ++tries == LOCK_TRIES)
			err = -errno;
		else
			usleep(LOCK_PAUSE_US);
	}
	if (err == -EWOULDBLOCK)
		kuf_error(-EBUSY, "--listen=%s: somebody has locked %s, with flock()", path, dir);
	else if (err)
		kuf_error(err, "--listen=%s: its directory", path);
	if (err && fd >= 0)
		close(fd);
	free(dir);
	return err ?: fd;
}

/* What a pager that was killed left there is nobody's. */
static int clear_path(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat st;
	int fd, err;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : kuf_error(-errno, "--listen=%s", path);
	if (!S_ISSOCK(st.st_mode))
		return kuf_error(-EEXIST, "--listen=%s: there is something that is no socket",
				 path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return kuf_error(-errno, "a socket");
	err = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	close(fd);
	if (err != -ECONNREFUSED)
		return kuf_error(-EADDRINUSE, "--listen=%s: somebody else listens there", path);
	return unlink(path) && errno != ENOENT ? kuf_error(-errno, "--listen=%s", path) : 0;
}

static int bind_socket(struct pagerd *d, const struct sockaddr_un *address)
{
	mode_t mask;
	struct stat st;
	int err;

	d->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->listen_fd < 0)
		return kuf_error(-errno, "a socket");
	mask = umask(0177);
	err = bind(d->listen_fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	umask(mask);
	if (!err && (listen(d->listen_fd, PAGERD_LOBBY) || stat(address->sun_path, &st)))
		err = -errno;
	if (err)
		return kuf_error(err, "--listen=%s", address->sun_path);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	return 0;
}

static int listen_at(struct pagerd *d)
{
	struct sockaddr_un address;
	int err, lock;

	err = control_address(&address, d->options.path);
	if (err)
		return err;
	lock = lock_directory(d->options.path);
	if (lock < 0)
		return lock;
	err = clear_path(&address);
	if (!err)
		err = bind_socket(d, &address);
	close(lock);
	return err;
}

int pagerd_open(struct pagerd *d, const struct pagerd_options *options)
{
	unsigned int i;

	*d = (struct pagerd){ .options = *options, .listen_fd = -1, .signals = -1 };
	d->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	d->nr_slots = options->max_vms + PAGERD_LOBBY;
	d->max_fds = OWN_FDS + d->nr_slots * VM_FDS;
	d->vms = calloc(d->nr_slots, sizeof(*d->vms));
	d->fds = calloc(d->max_fds, sizeof(*d->fds));
	if (!d->vms || !d->fds || d->spare < 0)
		return kuf_error(-ENOMEM, "--max-vms=%u", options->max_vms);
	for (i = 0; i < d->nr_slots; i++)
		vm_init(&d->vms[i]);
	bucket_init(&d->bucket, options->bandwidth, pager_now());
	guard_init();
	return listen_at(d);
}

int pagerd_catch_signals(struct pagerd *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return kuf_error(-errno, "sigprocmask");
	d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->signals < 0 ? kuf_error(-errno, "signalfd") : 0;
}

static struct pagerd_vm *free_slot(struct pagerd *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_slots; i++) {
		if (d->vms[i].state == PAGERD_FREE)
			return &d->vms[i];
	}
	return NULL;
}

/* There is room for one more file: to take whoever came, and to send him away. */
static void turn_away(struct pagerd *d)
{
	int fd;

	close(d->spare);
	fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	d->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	kuf_error(-EMFILE, "somebody was turned away: raise ulimit -n, or lower --max-vms");
}

static void take_in(struct pagerd *d)
{
	struct pagerd_vm *vm = free_slot(d);
	uid_t uid;
	int fd;

	fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			turn_away(d);
		return;
	}
	if (!vm) {
		close(fd);
		kuf_error(-EBUSY, "somebody was turned away: too many come at a time");
		return;
	}
	vm->state = PAGERD_CAME;
	vm->socket = fd;
	vm->came_ns = pager_now();
	if (packet_peer(fd, &vm->pid, &uid))
		vm->pid = 0;
}

static int begin(struct pagerd *d, struct pagerd_vm *vm)
{
	int err = 0;

	/* Somebody had this fd before, and is dead: what he had read is repeated. */
	if (vm->dead)
		err = kuf_recover(vm->k, vm->dead);
	if (err) {
		packet_say(vm->socket, PACKET_FAILED, err, "the dead pager's events");
		return kuf_error(err, "taking the VM of process %d over from peer %u", vm->pid,
				 vm->dead);
	}
	vm->state = PAGERD_SERVED;
	vm->work = true;
	/* It gets as much as the others from here on, and not first what they had. */
	vm->background_bytes = d->background_bytes;
	kuf_say("pager: the VM of process %d, %llu pages", vm->pid,
		(unsigned long long)vm->snapshot.state.config.mem_size / PAGE_SIZE);
	return 0;
}

static int finish(struct pagerd_vm *vm)
{
	struct pager_shared *shared = vm->pager.shared;

	if (vm->state == PAGERD_SERVED) {
		pager_note_progress(&vm->pager, vm->k);
		kuf_say("pager: the VM of process %d has ended, %llu pages", vm->pid,
			(unsigned long long)(READ_ONCE(shared->stats.installed) +
					     READ_ONCE(shared->stats.zeroed)));
	}
	packet_say(vm->socket, PACKET_ENDED, 0, NULL);
	vm->ended = true;
	return 0;
}

static int listen_to(struct pagerd *d, struct pagerd_vm *vm)
{
	unsigned int nr_fds = 0;
	struct packet packet;
	size_t len;
	int err;

	if (vm->state == PAGERD_CAME)
		return pagerd_admit(d, vm);
	err = packet_receive(vm->socket, &packet, sizeof(packet), &len, NULL, &nr_fds);
	if (err == -EAGAIN)
		return 0;
	if (err == -EPIPE) {
		if (vm->state == PAGERD_SERVED)
			kuf_say("pager: the VM of process %d is gone", vm->pid);
		vm->ended = true;
		return 0;
	}
	if (!err)
		err = packet_check(&packet, len);
	if (!err && packet.head.type == PACKET_GO && vm->state == PAGERD_READY)
		return begin(d, vm);
	if (!err && packet.head.type == PACKET_END)
		return finish(vm);
	if (!err && packet.head.type == PACKET_PING) {
		/* If there is no room it has pings enough. */
		packet_say(vm->socket, PACKET_PONG, 0, NULL);
		return 0;
	}
	packet_say(vm->socket, PACKET_FAILED, -EPROTO, "a packet that makes no sense");
	return kuf_error(-EPROTO, "process %d sent a packet that makes no sense", vm->pid);
}

static void serve(struct pagerd_vm *vm, bool background)
{
	int err = pagerd_serve(vm, background);

	if (!err)
		return;
	packet_say(vm->socket, PACKET_FAILED, err,
		   err == -EFAULT ? "memory was taken away" :
		   "a page cannot be had, or is damaged: kuf pager says which one");
	vm->ended = true;
}

static u64 deadline_of(const struct pagerd_vm *vm)
{
	return vm->came_ns + PAGERD_HELLO_MS * 1000000ull;
}

static int min_ms(int a, int b)
{
	return a < 0 || b < a ? b : a;
}

/* What poll() has to look at for one VM; 0 if there is work already, or how long to wait. */
static int watch(struct pagerd *d, struct pagerd_vm *vm, unsigned int *nr, u64 now)
{
	struct kuf_poll p = {
		.size = sizeof(p), .fds = d->fds + *nr + 1, .nr = VM_FDS - 1, .timeout_ms = -1,
	};

	vm->first_fd = *nr;
	d->fds[(*nr)++] = (struct pollfd){ .fd = vm->socket, .events = POLLIN };
	if (vm->state != PAGERD_SERVED)
		return now < deadline_of(vm) ? (deadline_of(vm) - now) / 1000000 + 1 : 0;
	if (kuf_pollfds(vm->k, &p)) {
		vm->ended = true;
		return 0;
	}
	*nr += p.used;
	vm->nr_fds = p.used;
	vm->work |= !p.timeout_ms;
	return vm->work ? 0 : -1;
}

/* Who has had the least of what nobody waits for, and has asked for more of it. */
static struct pagerd_vm *next_in_turn(struct pagerd *d)
{
	struct pagerd_vm *vm, *best = NULL;

	for (vm = d->vms; vm < d->vms + d->nr_slots; vm++) {
		if (vm->state == PAGERD_SERVED && vm->image.background.nr &&
		    (!best || vm->background_bytes < best->background_bytes))
			best = vm;
	}
	return best;
}

static int wait_for_work(struct pagerd *d, int timeout_ms)
{
	u64 now = pager_now();
	unsigned int i, nr = 0;
	int ms;

	d->fds[nr++] = (struct pollfd){ .fd = d->listen_fd, .events = POLLIN };
	d->fds[nr++] = (struct pollfd){ .fd = d->signals, .events = POLLIN };
	for (i = 0; i < d->nr_slots; i++) {
		if (d->vms[i].state == PAGERD_FREE)
			continue;
		ms = watch(d, &d->vms[i], &nr, now);
		if (ms >= 0)
			timeout_ms = min_ms(timeout_ms, ms);
	}
	if (next_in_turn(d))
		timeout_ms = min_ms(timeout_ms, bucket_wait_ms(&d->bucket, now));
	if (poll(d->fds, nr, timeout_ms) < 0) {
		if (errno != EINTR)
			return kuf_error(-errno, "poll");
		for (i = 0; i < nr; i++)
			d->fds[i].revents = 0;
	}
	return 0;
}

static bool has_work(const struct pagerd *d, const struct pagerd_vm *vm)
{
	unsigned int i;

	for (i = 1; i <= vm->nr_fds; i++) {
		if (d->fds[vm->first_fd + i].revents)
			return true;
	}
	return vm->work;
}

/* All who are there; VMs that came in this round were not looked at yet. */
static void listen_to_all(struct pagerd *d)
{
	struct pagerd_vm *vm;

	for (vm = d->vms; vm < d->vms + d->nr_slots; vm++) {
		if (vm->state == PAGERD_FREE)
			continue;
		if (d->fds[vm->first_fd].revents && listen_to(d, vm))
			vm->ended = true;
		if ((vm->state == PAGERD_CAME || vm->state == PAGERD_READY) && !vm->ended &&
		    pager_now() >= deadline_of(vm)) {
			kuf_error(-ETIMEDOUT, "process %d came and said nothing", vm->pid);
			vm->ended = true;
		}
		if (vm->ended)
			drop(vm);
	}
}

static void serve_urgent(struct pagerd *d)
{
	struct pagerd_vm *vm;
	unsigned int i;
	bool asked;

	for (i = 0; i < d->nr_slots; i++) {
		vm = &d->vms[(d->first + i) % d->nr_slots];
		if (vm->state != PAGERD_SERVED || !has_work(d, vm))
			continue;
		asked = vm->image.background.nr;
		serve(vm, false);
		/* What it did not want it does not get later, instead of others. */
		if (!asked && vm->background_bytes < d->background_bytes)
			vm->background_bytes = d->background_bytes;
		if (vm->ended)
			drop(vm);
	}
	d->first = (d->first + 1) % d->nr_slots;
}

static void serve_background(struct pagerd *d)
{
	struct pagerd_vm *vm = next_in_turn(d);

	if (!vm || !bucket_ready(&d->bucket, pager_now()))
		return;
#ifdef KUF_BREAK_FAIRNESS
	/* What tests/pagerd.c has to notice: several turns before others have a look. */
	for (int i = 0; i < 8 && !pagerd_serve(vm, true) && !pagerd_serve(vm, false); i++)
		;
#endif
	d->background_bytes = vm->background_bytes;
	serve(vm, true);
	/* It had its turn, also if it waits for something now, and has none of this. */
	vm->background_bytes += vm->turn_bytes ?: PAGE_SIZE;
	bucket_take(&d->bucket, vm->turn_bytes);
	if (vm->ended)
		drop(vm);
}

int pagerd_round(struct pagerd *d, int timeout_ms)
{
	int err = wait_for_work(d, timeout_ms);

	if (err)
		return err;
	if (d->fds[1].revents)
		return 1;
	listen_to_all(d);
	serve_urgent(d);
	serve_background(d);
	/* At last: whoever comes now has no place in d->fds yet. */
	if (d->fds[0].revents)
		take_in(d);
	return 0;
}

void pagerd_close(struct pagerd *d)
{
	struct pagerd_vm *vm;
	struct stat st;

	/* First this: a successor may come as soon as the VMs are let go. */
	if (d->listen_fd >= 0) {
		if (d->ino && !stat(d->options.path, &st) && st.st_dev == d->dev &&
		    st.st_ino == d->ino)
			unlink(d->options.path);
		close(d->listen_fd);
	}
	for (vm = d->vms; d->vms && vm < d->vms + d->nr_slots; vm++) {
		if (vm->state == PAGERD_FREE)
			continue;
		if (vm->state == PAGERD_SERVED)
			pager_note_progress(&vm->pager, vm->k);
		packet_say(vm->socket, PACKET_BYE, 0, "it was told to end");
		drop(vm);
	}
	if (d->signals >= 0)
		close(d->signals);
	if (d->spare >= 0)
		close(d->spare);
	free(d->vms);
	free(d->fds);
	*d = (struct pagerd){ .listen_fd = -1, .signals = -1, .spare = -1 };
}
