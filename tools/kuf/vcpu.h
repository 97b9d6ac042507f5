/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_VCPU_H
#define KUF_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>

#include "boot.h"
#include "vm.h"

struct vcpu {
	struct vm *vm;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
};

/* @nr vCPUs; the first one begins at @entry, the others wait to be started. */
int vcpus_create(struct vm *vm, unsigned int nr, const struct boot_entry *entry);
/* A thread each. */
int vcpus_start(struct vm *vm);
/* After vm_stop(): makes them leave the guest and end. */
void vcpus_join(struct vm *vm);
/* After vcpus_join(). */
void vcpus_say_where(struct vm *vm);
void vcpus_destroy(struct vm *vm);

/* cpuid.c */
int vcpu_set_cpuid(struct vcpu *vcpu);

/* regs.c */
int vcpu_set_entry(struct vcpu *vcpu, const struct boot_entry *entry);
/* For whoever looks for the reason why a guest crashed, or does not end. */
void vcpu_say_where(struct vcpu *vcpu);

#endif /* KUF_VCPU_H */
