/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that checks or writes those pages of a userfault_slot that the host
 * names, and what may happen to it meanwhile.
 *
 * Guest virtual addresses are the physical ones.  Unlike with userfault_fill(),
 * page n of the slot has the content of gfn n, wherever the slot is: it can be
 * moved.
 */
#ifndef SELFTEST_KVM_USERFAULT_GUEST_H
#define SELFTEST_KVM_USERFAULT_GUEST_H

#include "kvm_util.h"
#include "userfault_util.h"

/* One vCPU with this guest and a slot, filled but not created, at @gpa. */
struct userfault_slot *userfault_guest_create(struct kvm_vcpu **vcpu, u32 slot,
					      gpa_t gpa, u64 npages,
					      enum userfault_backing backing);
/* The slot and its VM. */
void userfault_guest_destroy(struct userfault_slot *s);
void userfault_guest_code(void);

void userfault_guest_fill(struct userfault_slot *s, u64 page, u64 generation);
void userfault_guest_resolve(struct userfault_slot *s, u64 page, u64 generation);

/* What the guest does next: pages [@first, @first + @nr) of what is at @base. */
void userfault_guest_set(struct kvm_vm *vm, gpa_t base, u64 first, u64 nr,
			 u64 generation, bool write);
/*
 * How often a page may look wrong before the guest complains.  More than once
 * where a slot is deleted and comes back while the guest runs: KVM then emulates
 * a read, which it believes to be MMIO, by reading the slot's memory itself, and
 * no bitmap stops that (yet).  It is one word, as opposed to a mapped page.
 */
void userfault_guest_set_tries(struct kvm_vm *vm, int tries);
/* It does what was set, and no userfault exit comes in between. */
void userfault_guest_run_on(struct kvm_vcpu *vcpu);

/* The guest checks or writes these pages, which are all present. */
void userfault_guest_read(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			  u64 first, u64 nr, u64 generation);
void userfault_guest_write(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			   u64 first, u64 nr, u64 generation);
/*
 * It reads a page that is absent, of which it must see nothing: it gets filled
 * after the exit (plain, the VM must not have KVM_USERFAULT_FEATURE_ACCESS).
 */
void userfault_guest_read_absent(struct kvm_vcpu *vcpu, struct userfault_slot *s,
				 u64 page, u64 generation);

/*
 * If the exit is a read of a slot at @base that is not there, pretend that it
 * is, so that the guest can go on.
 */
bool userfault_guest_mmio(struct kvm_vcpu *vcpu, gpa_t base, u64 generation);
/* The guest reads a page where there is no memslot. */
void userfault_guest_read_missing(struct kvm_vcpu *vcpu, gpa_t base, u64 page,
				  u64 generation);

#endif /* SELFTEST_KVM_USERFAULT_GUEST_H */
