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
	bool ended;		/* the thread, or is about to; vm->lock */
	struct kvm_cpuid2 *cpuid;	/* what it was given */
	/* Exits for poison at hit_gpa, one after the other. */
	u64 hit_gpa;
	unsigned int hits;
	bool told;		/* of another vCPU's error, by an exchange */
};

/* @nr vCPUs, as after a reset. */
int vcpus_create(struct vm *vm, unsigned int nr);
/* A thread each, which waits for vcpus_go(), what cannot fail. */
int vcpus_prepare(struct vm *vm);
void vcpus_go(struct vm *vm);
/*
 * Takes all of them out of the guest, with what they asked a device for answered and
 * taken.  -ECANCELED when the VM is stopped instead.
 */
int vcpus_pause(struct vm *vm);
void vcpus_resume(struct vm *vm);
/* After vm_stop(): tells them to leave the guest; also before there are any. */
void vcpus_kick(struct vm *vm);
/*
 * After that: waits until they have ended.  -ETIMEDOUT after a message: one has not, as KVM
 * waits for a page for it that nobody fills any more.  Others may kick them meanwhile.
 */
int vcpus_wait(struct vm *vm);
/* After that, with nobody else there to kick them. */
void vcpus_join(struct vm *vm);
void vcpus_destroy(struct vm *vm);

/* Out of the guest; also one that looked just before at what it is to do. */
void vcpu_kick(struct vcpu *vcpu);
/*
 * An exchange: a vCPU that sets it back either does so before a kick, which stays then,
 * or has seen the kick, and so what it was kicked for.
 */
void vcpu_set_immediate_exit(struct vcpu *vcpu, u8 value);

/* cpuid.c */
#define CPUID_MAX_ENTRIES	256
int vcpu_set_cpuid(struct vcpu *vcpu);
/* AMD's or Hygon's, as it was told. */
bool vcpu_is_amd(const struct vcpu *vcpu);

/* regs.c */
int vcpu_set_entry(struct vcpu *vcpu, const struct boot_entry *entry);
/* For whoever looks for the reason why a guest crashed, or does not end. */
void vcpu_say_where(struct vcpu *vcpu);

#endif /* KUF_VCPU_H */
