/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_POISON_H
#define KUF_POISON_H

#include "kuf.h"

/*
 * Pages of the guest whose content is lost.  Who touches one is told: the guest by a
 * machine check, devices by an error.  The account is kept by libkuf and KVM (pager.h).
 */
struct machine;
struct vm;
struct vcpu;

/* As many ranges as KVM has room for. */
#define POISON_RANGES_MAX	4096

struct poison_range {
	u64 gpa, len;
};

struct poison_list {
	u32 nr;
	u32 reserved;
	struct poison_range ranges[];
};

/*
 * Any thread, until the VM ends: an operator's wish, or a page that was lost.  Whole pages
 * of memory, present or absent.  -errno after a message.
 */
int vm_poison(struct vm *vm, u64 gpa, u64 len);
int vm_unpoison(struct vm *vm, u64 gpa, u64 len);
/* Whether that is a range of pages, and KVM has poison: the first thing that both look at. */
int vm_may_poison(const struct vm *vm, u64 gpa, u64 len);
/* The host's memory at @hva, which is guest memory, is broken. */
int vm_lost(struct vm *vm, const void *hva);
/* How many pages. */
u64 vm_poisoned(struct vm *vm);

/* vcpu_poison.c: machine checks can be delivered. */
int vcpu_setup_mce(struct vcpu *vcpu);
/* KVM_RUN ended because of poison, which KVM did not tell the guest of: this does. */
void vcpu_hit_poison(struct vcpu *vcpu);
/* Another vCPU has an error that all are to be told of: if so, this one is. */
bool vcpu_told(struct vcpu *vcpu);

#endif /* KUF_POISON_H */
