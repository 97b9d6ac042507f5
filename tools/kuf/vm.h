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

	/* Who fills absent pages when vCPUs exit; NULL: they do not. */
	struct pager *pager;

	/* vCPUs that shall wait outside of the guest, and how many do. */
	bool pausing;
	unsigned int nr_parked;

	/* The first one to stop the VM says why. */
	pthread_mutex_t lock;
	pthread_cond_t stopped_cond;
	bool stopped;
	int exit_code;
};

/* The VM with interrupt controllers and timer, without memory and vCPUs. */
int vm_create(struct vm *vm);
void vm_destroy(struct vm *vm);

/*
 * Enables KVM userfault features; says which one this kernel does not have, and
 * fails with -EOPNOTSUPP.
 */
int vm_enable_userfault(struct vm *vm, u64 features);
/* A live userfault fd of this VM, for vCPU faults too. */
int vm_userfault_fd(struct vm *vm);

void vm_irq(struct vm *vm, u32 gsi, bool level);

/* Any thread.  The vCPUs are out of the guest when they are joined. */
void vm_stop(struct vm *vm, int exit_code);
static inline bool vm_is_stopped(struct vm *vm)
{
	return __atomic_load_n(&vm->stopped, __ATOMIC_ACQUIRE);
}

/* Waits until vm_stop(), or for @timeout_s seconds (0: for ever): -ETIMEDOUT. */
int vm_wait(struct vm *vm, unsigned int timeout_s);

#endif /* KUF_VM_H */
