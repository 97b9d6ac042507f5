/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that does as it is told: read, write, execute or check some pages of
 * a userfault_slot, tell the host, then the next.  It can be an L2 as well.
 *
 * The host gives an order and runs the vCPU.
 */
#ifndef SELFTEST_KVM_USERFAULT_ORDER_H
#define SELFTEST_KVM_USERFAULT_ORDER_H

#include "userfault_util.h"

enum userfault_op {
	USERFAULT_READ,		/* the first word of each page */
	USERFAULT_WRITE,	/* @arg to the first word of each page */
	USERFAULT_EXEC,		/* call each page; see userfault_fill_code() */
	USERFAULT_CHECK,	/* every word, with @arg as the generation */
};

/* What one access looks like with KVM_USERFAULT_FEATURE_ACCESS. */
static inline u64 userfault_op_flags(enum userfault_op op)
{
	if (op == USERFAULT_WRITE)
		return KVM_MEMORY_EXIT_FLAG_WRITE;
	if (op == USERFAULT_EXEC)
		return KVM_MEMORY_EXIT_FLAG_EXEC;
	return KVM_MEMORY_EXIT_FLAG_READ;
}

void userfault_order_code(void);

/* Give an order for @nr pages at @gva, which map the pages from @gfn on. */
void userfault_order(struct kvm_vm *vm, enum userfault_op op, u64 gva,
		     u64 gfn, u64 nr, u64 arg);

/* Run until the order is done; no exit of any other kind is accepted. */
void userfault_order_run(struct kvm_vcpu *vcpu);

/*
 * The same for pages of a slot that the guest has mapped at @gva: the order goes
 * through without an exit, or ends with the exit for @page.  After an exit the
 * vCPU is put back to where it takes orders: the access was never made.
 */
void userfault_order_ok(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			enum userfault_op op, u64 gva, u64 page, u64 nr, u64 arg);
void userfault_order_exits(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			   enum userfault_op op, u64 gva, u64 page);

/* A page that can be called. */
void userfault_fill_code(struct userfault_slot *s, u64 page);
void userfault_fill_all(struct userfault_slot *s, u64 generation);
/* What nobody may ever see. */
void userfault_scribble(struct userfault_slot *s, u64 page);

/* Exits then say READ, WRITE, EXEC. */
void userfault_enable_access(struct kvm_vm *vm);

#endif /* SELFTEST_KVM_USERFAULT_ORDER_H */
