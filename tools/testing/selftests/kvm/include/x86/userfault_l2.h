/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An SVM hypervisor and its guest, with all that they share with KVM in pages of a
 * userfault_slot: the VMCB, the host save area, the bitmaps of MSRs and ports, the
 * lower levels of the nested page tables.
 *
 * L1 reads USERFAULT_L1_PORT and carries out one order; L2, each time that it is
 * entered, reads USERFAULT_L2_PORT, does something and calls L1.
 */
#ifndef SELFTEST_KVM_USERFAULT_L2_H
#define SELFTEST_KVM_USERFAULT_L2_H

#include "svm_util.h"
#include "userfault_take.h"

/* Pages of the slot; the first ones are the page tables. */
#define USERFAULT_VMCB		4ul
#define USERFAULT_HSAVE		5ul
#define USERFAULT_MSRPM		6ul	/* two pages */
#define USERFAULT_IOPM		8ul	/* three pages */
#define USERFAULT_L2_DATA	12ul
#define USERFAULT_L2_NPAGES	16ul

#define USERFAULT_L2_SLOT	10
#define USERFAULT_L2_GPA	0xc0000000ul

#define USERFAULT_L1_PORT	0x2020
#define USERFAULT_L2_PORT	0x2030

enum userfault_l1_op { USERFAULT_L1_VMRUN, USERFAULT_L1_VMLOAD, USERFAULT_L1_VMSAVE };
enum userfault_l2_op { USERFAULT_L2_NOTHING, USERFAULT_L2_RDMSR, USERFAULT_L2_LOAD };

/*
 * With @npt L1 has nested page tables, and those for L2's USERFAULT_TABLES_GVA are in
 * the slot.  The slot is armed, and everything is there; L1 waits for its first order.
 */
struct userfault_slot *userfault_l2_create(struct kvm_vcpu **vcpu, bool own, bool npt,
					   enum userfault_backing backing);

/* What L1 does next, and what L2 does when it is entered. */
void userfault_l2_order(struct kvm_vm *vm, enum userfault_l1_op l1,
			enum userfault_l2_op l2);
/* What L1 intercepts from the next VMRUN on: bits of INTERCEPT_*. */
void userfault_l2_intercept(struct kvm_vm *vm, u64 intercepts);
/* What L2 has got by its last operation. */
u64 userfault_l2_result(struct kvm_vm *vm);

/*
 * The vCPU has left KVM_RUN because of @port; it is done with that, and goes on when
 * it is run again.
 */
void userfault_assert_port(struct kvm_vcpu *vcpu, u16 port);

#endif /* SELFTEST_KVM_USERFAULT_L2_H */
