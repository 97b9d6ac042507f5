// SPDX-License-Identifier: GPL-2.0
/*
 * A VM comes to kuf pager: what it sends is checked, and then mapped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pagerd.h"

#define SEALED		(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

/* What came, and what of its files nobody has taken. */
struct arrival {
	struct packet_hello hello;
	u8 bytes[KUF_EXPORT_MAX_BYTES];
	int fds[HELLO_FILES + KUF_EXPORT_MAX_FDS];
	unsigned int nr_fds;
};

__attribute__((format(printf, 3, 4)))
static int refuse(struct pagerd_vm *vm, int err, const char *fmt, ...)
{
	char text[PACKET_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err = kuf_error(err, "process %d is refused: %s", vm->pid, text);
	/* It may be gone. */
	packet_say(vm->socket, PACKET_REFUSED, err, text);
	return err;
}

static int take(struct arrival *a, unsigned int i)
{
	int fd = a->fds[i];

	a->fds[i] = -1;
	return fd;
}

/* A file that nobody can cut off or let grow: its size, or -1. */
static int64_t sealed_size(int fd, int seals)
{
	struct stat st;
	int have = fcntl(fd, F_GET_SEALS);

	return have < 0 || (have & seals) != seals || fstat(fd, &st) ? -1 : st.st_size;
}

static int check_hello(struct pagerd_vm *vm, const struct arrival *a, size_t len)
{
	const struct packet_hello *h = &a->hello;
	uid_t uid;
	pid_t pid;

	if (packet_peer(vm->socket, &pid, &uid) || !packet_trusts(uid))
		return refuse(vm, -EPERM, "user %d is neither root nor this pager's (%d)", uid,
			      geteuid());
	if (len >= sizeof(h->head) && !memcmp(h->head.magic, PACKET_MAGIC, sizeof(h->head.magic)) &&
	    h->head.version != PACKET_VERSION)
		return refuse(vm, -EPROTO,
			      "it speaks version %u, this pager version %u: use the same kuf",
			      h->head.version, PACKET_VERSION);
	if (len < sizeof(*h) || packet_head_check(&h->head, len) ||
	    h->head.type != PACKET_HELLO)
		return refuse(vm, -EPROTO, "what it says is no HELLO of kuf restore's");
	if (h->export_size > KUF_EXPORT_MAX_BYTES || h->export_size != len - sizeof(*h))
		return refuse(vm, -EPROTO, "%zu bytes of HELLO instead of %zu", len,
			      sizeof(*h) + h->export_size);
	if (h->nr_fds != a->nr_fds ||
	    a->nr_fds < HELLO_FILES + !!(h->flags & HELLO_REPLAY))
		return refuse(vm, -EPROTO, "%u files came of %u", a->nr_fds, h->nr_fds);
	if (h->policy > KUF_RECORDED || h->flags & ~HELLO_FLAGS || h->reserved)
		return refuse(vm, -EPROTO, "policy %u with flags 0x%x", h->policy, h->flags);
	return 0;
}

/* The saved VM; the file is the snapshot's then. */
static int open_file(struct pagerd_vm *vm, struct arrival *a)
{
	int fd = take(a, 0), flags = fcntl(fd, F_GETFL);
	char name[40];

	vm->snapshot.fd = fd;
	if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY || flags & O_PATH)
		return refuse(vm, -EBADF, "the saved VM's file cannot be read");
	snprintf(name, sizeof(name), "the file of process %d", vm->pid);
	if (snapshot_open_fd(&vm->snapshot, fd, name))
		return refuse(vm, -EBADMSG,
			      "its file is no saved VM, or damaged (kuf pager says more)");
	if (vm->snapshot.state.config.mem_size != a->hello.mem_size ||
	    memcmp(vm->snapshot.file.session, a->hello.session, sizeof(a->hello.session)))
		return refuse(vm, -EBADMSG, "its file is another VM's");
	snapshot_image(&vm->snapshot, &vm->image);
	return 0;
}

static int map_shared(struct pagerd_vm *vm, struct arrival *a)
{
	struct pager *p = &vm->pager;
	int fd = take(a, 1);
	void *map;

	p->shared_size = pager_shared_size(a->hello.flags & HELLO_RECORD);
	if (sealed_size(fd, SEALED) != (int64_t)p->shared_size) {
		close(fd);
		return refuse(vm, -EBADMSG, "what is to be shared is no sealed file of %zu bytes",
			      p->shared_size);
	}
	map = mmap(NULL, p->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return refuse(vm, -errno, "mapping what is shared");
	p->shared = map;
	return 0;
}

static int map_replay(struct pagerd_vm *vm, struct arrival *a)
{
	struct pager_policy *policy = &vm->pager.config.policy;
	u64 nr = a->hello.nr_replay;
	void *map;
	int fd;

	if (!(a->hello.flags & HELLO_REPLAY))
		return 0;
	fd = take(a, 2);
	vm->replay_size = nr * sizeof(*policy->replay);
	if (!nr || nr > MAX_MEM / PAGE_SIZE ||
	    sealed_size(fd, SEALED | F_SEAL_WRITE) != (int64_t)vm->replay_size) {
		close(fd);
		return refuse(vm, -EBADMSG, "the recording is no sealed file of %llu pages",
			      (unsigned long long)nr);
	}
	map = mmap(NULL, vm->replay_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return refuse(vm, -errno, "mapping the recording");
	vm->replay = map;
	policy->replay = map;
	policy->nr_replay = nr;
	return 0;
}

/* Not what can be read at any time and means nothing. */
static bool may_be_uffd(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) &&
	       !S_ISBLK(st.st_mode);
}

static int import(struct pagerd_vm *vm, struct arrival *a)
{
	unsigned int skip = 2 + !!(a->hello.flags & HELLO_REPLAY), i;
	struct kuf_export ex = { .size = sizeof(ex) };
	int err, uffd;

	ex.nr_fds = a->nr_fds - skip;
	ex.nr_bytes = a->hello.export_size;
	memcpy(ex.fds, a->fds + skip, ex.nr_fds * sizeof(int));
	memcpy(ex.bytes, a->bytes, ex.nr_bytes);
	err = kuf_import(&ex, &vm->k, &uffd);
	if (err)
		return refuse(vm, err, "its memory and page states cannot be had");
	for (i = skip; i < a->nr_fds; i++) {
		if (a->fds[i] == uffd)
			vm->uffd = take(a, i);
	}
	if (!may_be_uffd(vm->uffd) || kuf_set_fd(vm->k, vm->uffd))
		return refuse(vm, -EBADMSG, "there is no userfault fd, or one that blocks");
	return 0;
}

static int prepare(struct pagerd_vm *vm, void *arg)
{
	struct arrival *a = arg;
	struct pager_config *config = &vm->pager.config;
	int err;

	err = open_file(vm, a);
	if (!err)
		err = map_shared(vm, a);
	if (err)
		return err;
	config->mode = PAGER_PROCESS;
	config->policy = (struct pager_policy){
		.kind = a->hello.policy,
		.then_eager = a->hello.flags & HELLO_THEN_EAGER,
		.record = a->hello.flags & HELLO_RECORD ? "" : NULL,
	};
	err = map_replay(vm, a);
	if (!err)
		err = import(vm, a);
	if (err)
		return err;
	err = kuf_set_source(vm->k, &pagerd_ops, vm);
	if (!err)
		err = pager_set_policy(&vm->pager, vm->k);
	return err ? refuse(vm, err, "its policy makes no sense") : 0;
}

int pagerd_admit(struct pagerd *d, struct pagerd_vm *vm)
{
	/* One thread, and it is large. */
	static struct arrival a;
	unsigned int i, nr = 0;
	size_t len;
	int err;

	a.nr_fds = ARRAY_SIZE(a.fds);
	err = packet_receive(vm->socket, &a, offsetof(struct arrival, fds), &len, a.fds, &a.nr_fds);
	if (err == -EAGAIN)
		return 0;
	for (i = 0; i < d->nr_slots; i++)
		nr += d->vms[i].state > PAGERD_CAME;
	if (err == -EMSGSIZE)
		refuse(vm, err, "HELLO is too long, or there are too many files (ulimit -n)");
	else if (!err)
		err = check_hello(vm, &a, len);
	if (!err && nr >= d->options.max_vms)
		err = refuse(vm, -EBUSY, "there are %u VMs already (kuf pager --max-vms)", nr);
	if (!err)
		err = pagerd_guard(prepare, vm, &a);
	if (err == -EFAULT)
		refuse(vm, err, "it has taken its memory away");
	for (i = 0; i < a.nr_fds; i++) {
		if (a.fds[i] >= 0)
			close(a.fds[i]);
	}
	if (err)
		return err;
	vm->dead = a.hello.flags & HELLO_SAME_FD ? a.hello.dead : 0;
	vm->state = PAGERD_READY;
	return packet_say(vm->socket, PACKET_READY, 0, NULL);
}

void pagerd_vm_release(struct pagerd_vm *vm)
{
	/* Its claims went before, or stay on record for whoever counts the dead. */
	kuf_destroy(vm->k);
	vm->k = NULL;
	if (vm->uffd >= 0)
		close(vm->uffd);
	vm->uffd = -1;
	snapshot_close(&vm->snapshot);
	if (vm->pager.shared)
		munmap(vm->pager.shared, vm->pager.shared_size);
	vm->pager.shared = NULL;
	if (vm->replay)
		munmap(vm->replay, vm->replay_size);
	vm->replay = NULL;
}
