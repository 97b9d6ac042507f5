/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_VM_H
#define KUF_VM_H

#include <pthread.h>

#include "bus.h"
#include "kuf.h"
#include "mem.h"

#define MAX_CPUS	16

struct pager;
struct vcpu;

struct vm {
	int kvm_fd;
	int fd;
	int vcpu_mmap_size;
	struct mem mem;
	struct bus ports, mmio;

	struct vcpu *vcpus;
	unsigned int nr_vcpus;

	struct pager *pager;	/* NULL: no page is absent */
	u64 resumed_ns;		/* when vCPUs were started; 0: they were not */

	bool held;		/* vCPUs that were not in the guest yet do not go there */
	/* vCPUs that shall wait outside of the guest, and how many do. */
	bool pausing;
	unsigned int nr_parked;

	/* The first one to stop the VM says why. */
	pthread_mutex_t lock;
	pthread_cond_t stopped_cond;
	bool stopped;
	bool given_up;		/* it runs elsewhere, and is needed there: no time is too long */
	int exit_code;
};

/* The VM with interrupt controllers and timer, without memory and vCPUs. */
int vm_create(struct vm *vm);
void vm_destroy(struct vm *vm);

void vm_irq(struct vm *vm, u32 gsi, bool level);

/* Any thread.  The vCPUs are out of the guest when they are joined. */
void vm_stop(struct vm *vm, int exit_code);
static inline bool vm_is_stopped(struct vm *vm)
{
	return __atomic_load_n(&vm->stopped, __ATOMIC_ACQUIRE);
}

/*
 * Waits until vm_stop(), or stops it itself after @timeout_s seconds (0: never), with
 * KUF_EXIT_TIMEOUT: -ETIMEDOUT; but not while it is given up.
 */
int vm_wait(struct vm *vm, unsigned int timeout_s);
/* -ECANCELED: it was stopped before. */
int vm_give_up(struct vm *vm);
void vm_take_back(struct vm *vm);

#endif /* KUF_VM_H */
