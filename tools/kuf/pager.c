// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory in libkuf's hands: its regions, and who needs a page of them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "engine_uffd.h"
#include "pager.h"
#include "recording.h"
#include "vm.h"

static const char * const names[NR_PAGER_MODES] = {
	[PAGER_NONE] = "none",
	[PAGER_PROCESS] = "process",
	[PAGER_THREAD] = "thread",
	[PAGER_EXIT] = "exit",
	[PAGER_UNIX] = "unix",
};

const char *pager_mode_name(enum pager_mode mode)
{
	return names[mode];
}

int pager_mode_by_name(const char *name)
{
	int i;

	/* The last one wants a path besides. */
	for (i = 0; i < PAGER_UNIX; i++) {
		if (!strcmp(names[i], name))
			return i;
	}
	return -EINVAL;
}

void pager_init(struct pager *p)
{
	*p = (struct pager){ .uffd_fd = -1, .proc_mem_fd = -1, .shared_fd = -1 };
	pthread_mutex_init(&p->lock, NULL);
	server_init(&p->server);
}

/* Room for a recording costs nothing until there is one. */
size_t pager_shared_size(bool record)
{
	return sizeof(struct pager_shared) +
	       (record ? MAX_MEM / PAGE_SIZE * sizeof(struct kuf_trace_entry) : 0);
}

/* For processes that are not forked from here; nobody can cut it off. */
static int create_shared_fd(struct pager *p)
{
	p->shared_fd = memfd_create("kuf-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (p->shared_fd < 0 || ftruncate(p->shared_fd, p->shared_size) ||
	    fcntl(p->shared_fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW))
		return kuf_error(-errno, "%zu bytes of memory to share with the pager",
				 p->shared_size);
	return 0;
}

static int create_shared(struct pager *p)
{
	int flags = MAP_SHARED | MAP_NORESERVE, err;
	void *map;

	p->shared_size = pager_shared_size(p->config.policy.record);
	if (p->config.mode == PAGER_UNIX) {
		err = create_shared_fd(p);
		if (err)
			return err;
	}
	if (p->shared_fd < 0)
		flags |= MAP_ANONYMOUS;
	map = mmap(NULL, p->shared_size, PROT_READ | PROT_WRITE, flags, p->shared_fd, 0);
	if (map == MAP_FAILED)
		return kuf_error(-errno, "%zu bytes of memory to share with the pager",
				 p->shared_size);
	p->shared = map;
	p->shared->stats.size = sizeof(p->shared->stats);
	return 0;
}

int pager_fork(struct pager *p, const struct pager_config *config)
{
	int err;

	p->config = *config;
	err = create_shared(p);
	return err ?: server_fork(&p->server, p);
}

int pager_set_policy(struct pager *p, struct kuf *k)
{
	const struct pager_policy *want = &p->config.policy;
	struct kuf_policy policy = {
		.size = sizeof(policy),
		.kind = want->kind,
		.flags = want->then_eager ? KUF_POLICY_THEN_EAGER : 0,
		.replay = want->replay,
		.nr_replay = want->nr_replay,
	};

	if (want->record) {
		policy.record = p->shared->record;
		policy.max_record = MAX_MEM / PAGE_SIZE;
		policy.nr_recorded = &p->shared->nr_recorded;
	}
	return kuf_set_policy(k, &policy);
}

static int create_context(struct pager *p)
{
	struct kuf_params params = { .size = sizeof(params), .vm_fd = p->vm->fd };
	struct kuf_probe probe = { .size = sizeof(probe), .vm_fd = p->vm->fd };
	char message[256];
	int err;

	params.features = KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS;
	if (p->config.mode != PAGER_EXIT)
		params.features |= KVM_USERFAULT_FEATURE_FD;
	if (p->config.own)
		params.features |= KVM_USERFAULT_FEATURE_OWN;
	probe.need = params.features;
	probe.message = message;
	probe.message_size = sizeof(message);
	err = kuf_probe(&probe);
	if (err)
		return kuf_error(err, "no KVM userfault here: %s", message);
	params.features |= pager_poison_features(probe.have);
	err = kuf_create(&params, &p->k);
	return err ? kuf_error(err, "enabling KVM userfault, features 0x%llx: see kuf doctor",
			       (unsigned long long)params.features) : 0;
}

/* A memslot, to be armed when all else is ready. */
static int add_region(struct pager *p, struct kuf *k, u32 flags, u32 slot, u64 offset, u64 len)
{
	const struct mem *mem = &p->vm->mem;
	struct kuf_region r = {
		.size = sizeof(r),
		.slot = slot,
		.gpa = mem_gpa(mem, offset),
		.len = len,
		.hva = mem->area + offset,
		.gmem_fd = -1,
		.fd = -1,
		.flags = flags,
	};
	int err;

	switch (mem->backing) {
	case MEM_GMEM:
		r.gmem_fd = mem->fd;
		r.gmem_offset = offset;
		break;
	case MEM_SHMEM:
		r.fd = mem->fd;
		r.fd_offset = offset;
		break;
	default:
		if (p->proc_mem_fd < 0)
			break;
		r.fd = p->proc_mem_fd;
		r.fd_offset = (uintptr_t)r.hva;
		r.flags |= KUF_REGION_PROC_MEM;
		break;
	}
	err = kuf_region_add(k, &r);
	if (err)
		return kuf_error(err,
				 "page states at 0x%llx for %llu bytes of --backing=%s: more memory, or a higher ulimit -n",
				 (unsigned long long)r.gpa, (unsigned long long)len,
				 mem_backing_name(mem->backing));
	return 0;
}

int pager_add_regions(struct pager *p, struct kuf *k, u32 flags)
{
	u64 size = p->vm->mem.size, low = size < MEM_LOW_MAX ? size : MEM_LOW_MAX;
	int err;

	if (p->vm->mem.backing == MEM_ANON &&
	    (p->config.mode == PAGER_PROCESS || p->config.mode == PAGER_UNIX)) {
		p->proc_mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		if (p->proc_mem_fd < 0)
			return kuf_error(-errno,
					 "/proc/self/mem, for the pager: mount /proc, or use --backing=shmem");
	}
	err = add_region(p, k, flags, 0, 0, low);
	if (!err && size > low)
		err = add_region(p, k, flags, 1, low, size - low);
	return err;
}

static int arm(struct pager *p)
{
	u32 i, nr = p->vm->mem.size > MEM_LOW_MAX ? 2 : 1;
	int err;

	for (i = 0; i < nr; i++) {
		err = kuf_arm(p->k, i);
		if (err)
			return kuf_error(err, "arming memslot %u, --backing=%s: see kuf doctor", i,
					 mem_backing_name(p->vm->mem.backing));
	}
	p->armed_ns = pager_now();
	return 0;
}

static int start_here(struct pager *p)
{
	int err;

	err = kuf_set_source(p->k, p->config.ops, p->config.source);
	if (!err)
		err = pager_set_policy(p, p->k);
	return err ? kuf_error(err, "the pager's source, or --policy") : 0;
}

/* The process takes the userfault fd with it, so that vCPUs notice when it dies. */
static int start_process(struct pager *p, int uffd)
{
	struct kuf_export ex = { .size = sizeof(ex) };
	int err;

	err = kuf_export(p->k, uffd, &ex);
	if (err)
		kuf_error(err,
			  "giving the pager's process the memory: --backing=shmem, or --pager=thread");
	else
		err = server_start_process(&p->server, p, &ex);
	close(uffd);
	return err;
}

static int start_serving(struct pager *p)
{
	u32 flags = KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK;
	int err, uffd;

	if (p->config.mode == PAGER_UNIX)
		return remote_start(p);
	if (p->config.mode != PAGER_PROCESS) {
		err = start_here(p);
		if (err || p->config.mode == PAGER_EXIT)
			return err;
	}
	/* What is lost on its way here others can tell KVM, too. */
	if (p->poison)
		flags |= KVM_USERFAULT_FD_MAY_POISON;
	err = kuf_fd_create(p->k, flags, &uffd);
	if (err)
		return kuf_error(err, "KVM_USERFAULT_CREATE_FD: see kuf doctor and ulimit -n");
	if (p->config.mode == PAGER_PROCESS)
		return start_process(p, uffd);
	p->uffd_fd = uffd;
	err = kuf_set_fd(p->k, uffd);
	if (err)
		return kuf_error(err, "the userfault fd");
	return server_start_thread(&p->server, p);
}

int pager_start(struct pager *p, struct vm *vm, const struct pager_config *config)
{
	int err = 0;

	p->config = *config;
	p->vm = vm;
	p->nr_pages = vm->mem.size / PAGE_SIZE;
	if (!p->shared)
		err = create_shared(p);
	if (err)
		return err;
	p->shared->nr_pages = p->nr_pages;
	vm->pager = p;
	if (config->engine == PAGER_UFFD || config->mode == PAGER_NONE) {
		err = pager_poison_start(p, NULL);
		return err || config->mode == PAGER_NONE ? err : engine_uffd_start(p);
	}
	err = create_context(p);
	if (!err)
		err = pager_add_regions(p, p->k, 0);
	if (!err)
		err = pager_poison_start(p, p->k);
	if (!err)
		err = start_serving(p);
	return err ?: arm(p);
}

/* A thread that waits, on its stack. */
struct pager_waiter {
	struct kuf_waiter waiter;
	struct pager_waiter *next;
};

static int begin_wait(struct pager *p, struct pager_waiter *w)
{
	int err = 0;

	*w = (struct pager_waiter){ .waiter.size = sizeof(w->waiter) };
	pthread_mutex_lock(&p->lock);
	if (p->cancelled) {
		err = -ECANCELED;
	} else {
		w->next = p->waiters;
		p->waiters = w;
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

static void end_wait(struct pager *p, struct pager_waiter *w)
{
	struct pager_waiter **at;

	pthread_mutex_lock(&p->lock);
	for (at = &p->waiters; *at != w; at = &(*at)->next)
		;
	*at = w->next;
	pthread_mutex_unlock(&p->lock);
}

void pager_cancel(struct pager *p)
{
	struct pager_waiter *w;

	pthread_mutex_lock(&p->lock);
	__atomic_store_n(&p->cancelled, true, __ATOMIC_SEQ_CST);
	for (w = p->waiters; w; w = w->next)
		kuf_wait_cancel(&w->waiter);
	pthread_mutex_unlock(&p->lock);
	engine_uffd_cancel(p);
}

void pager_let_go(struct pager *p)
{
	engine_uffd_let_go(p);
}

/* As libkuf sees it. */
static int access_pages(struct pager *p, u64 gpa, u64 len, u32 flags, int64_t timeout_ns)
{
	struct pager_waiter w;
	int err;

	if (!p->k) {
		/* There nothing but poison is in the way. */
		do {
			err = p->poison ? kuf_access(p->poison, gpa, len, flags, -1, NULL) : 0;
		} while (err == -EINTR);
		return err;
	}
	err = begin_wait(p, &w);
	if (err)
		return err;
	if (p->config.mode == PAGER_EXIT)
		flags |= KUF_ACCESS_SERVE;
	do {
		err = kuf_access(p->k, gpa, len, flags, timeout_ns, &w.waiter);
	} while (err == -EINTR);
	end_wait(p, &w);
	if (p->config.mode == PAGER_EXIT)
		pager_note_progress(p, p->k);
	return err;
}

int pager_access(struct pager *p, u64 gpa, u64 len, bool write)
{
	int err = access_pages(p, gpa, len, write ? KUF_ACCESS_WRITE : 0, -1);

	return err || !p->uffd ? err : engine_uffd_access(p, gpa, len);
}

int pager_try_access(struct pager *p, u64 gpa, u64 len)
{
	int err = access_pages(p, gpa, len, 0, 0);

	if (err == -ETIMEDOUT)
		return -EAGAIN;
	return err || !p->uffd ? err : engine_uffd_try_access(p, gpa, len);
}

bool pager_is_present(struct pager *p, u64 gpa)
{
	struct kuf *k = p->k ?: p->poison;
	enum kuf_state state;

	return !k || (!kuf_page_state(k, 0, gpa, &state) && state == KUF_PRESENT);
}

/* Another vCPU is filling it. */
static int wait_for(struct pager *p, u64 gpa)
{
	struct pager_waiter w;
	int err;

	err = begin_wait(p, &w);
	if (err)
		return 0;
	err = kuf_wait(p->k, 0, gpa, -1, &w.waiter);
	end_wait(p, &w);
	/* Whoever wants something else of the vCPU sent a signal. */
	return err == -EINTR || err == -ECANCELED ? 0 : err;
}

int pager_vcpu_exit(struct pager *p, const struct kvm_run *run, int error)
{
	struct kuf_exit ex = { .size = sizeof(ex) };
	struct kuf *k = p->k ?: p->poison;
	int err;

	if (!k)
		return -ENOENT;
	if (p->config.mode == PAGER_EXIT)
		ex.flags = KUF_EXIT_SERVE;
	err = kuf_vcpu_exit(k, run, error, &ex);
	if (err)
		return kuf_error(err, "the page at 0x%llx cannot be had",
				 (unsigned long long)ex.gpa);
	switch (ex.action) {
	case KUF_NOT_MINE:
		return -ENOENT;
	case KUF_RUN_AGAIN:
		pager_note_progress(p, p->k);
		return 0;
	case KUF_WAIT:
		/* Those who are served by the userfault fd wait in KVM, as long as it is there. */
		if (p->config.mode != PAGER_EXIT && p->config.mode != PAGER_UNIX)
			return kuf_error(-EPIPE, "no pager any more for the page at 0x%llx",
					 (unsigned long long)ex.gpa);
		return wait_for(p, ex.gpa);
	default:
		return -EHWPOISON;
	}
}

int pager_stop(struct pager *p)
{
	int err;

	pager_cancel(p);
	err = server_stop(&p->server);
	p->stopped = true;
	if (err || !p->armed_ns)
		return err;
	return pager_final_report(p);
}

int pager_write_recording(struct pager *p)
{
	if (!p->armed_ns || !p->config.policy.record)
		return 0;
	return recording_write(p->config.policy.record, p->shared->record,
			       p->shared->nr_recorded);
}

void pager_release(struct pager *p)
{
	engine_uffd_release(p);
	if (p->poison != p->k)
		kuf_destroy(p->poison);
	kuf_destroy(p->k);
	if (p->uffd_fd >= 0)
		close(p->uffd_fd);
	if (p->proc_mem_fd >= 0)
		close(p->proc_mem_fd);
	remote_release(p);
	if (p->shared_fd >= 0)
		close(p->shared_fd);
	if (p->shared)
		munmap(p->shared, p->shared_size);
	pthread_mutex_destroy(&p->lock);
}
