// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that does as it is told with the pages of a userfault_slot.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "userfault_order.h"

#define X86_RET		0xc3

/* Not GUEST_SYNC(): that allocates and frees, and cannot be taken back. */
#define SYNC_PORT	0x2000

/*
 * userfault_order_exits() takes an access back, but not what the call has
 * pushed by then; keep that apart from whatever else is on the stack.
 */
static void guest_call(void *p)
{
	asm volatile("sub $512, %%rsp\n\t"
		     "call *%0\n\t"
		     "add $512, %%rsp" : : "r"(p) : "memory", "cc");
}

static struct userfault_order {
	u64 op, gva, gfn, nr, arg;
} guest_order;

void userfault_order_code(void)
{
	for (;;) {
		u64 op = READ_ONCE(guest_order.op);
		u64 gva = READ_ONCE(guest_order.gva);
		u64 gfn = READ_ONCE(guest_order.gfn);
		u64 arg = READ_ONCE(guest_order.arg);
		u64 nr = READ_ONCE(guest_order.nr);

		for (; nr--; gva += PAGE_SIZE, gfn++) {
			u64 *p = (u64 *)gva;

			switch (op) {
			case USERFAULT_READ:
				READ_ONCE(*p);
				break;
			case USERFAULT_WRITE:
				WRITE_ONCE(*p, arg);
				break;
			case USERFAULT_EXEC:
				guest_call(p);
				break;
			case USERFAULT_CHECK:
				GUEST_ASSERT_EQ(userfault_pattern_check(p, PAGE_SIZE, gfn, arg),
						-1);
				break;
			}
		}
		asm volatile("inb %%dx, %%al" : : "d"(SYNC_PORT) : "rax", "memory");
	}
}

void userfault_order(struct kvm_vm *vm, enum userfault_op op, u64 gva,
		     u64 gfn, u64 nr, u64 arg)
{
	guest_order.op = op;
	guest_order.gva = gva;
	guest_order.gfn = gfn;
	guest_order.nr = nr;
	guest_order.arg = arg;
	sync_global_to_guest(vm, guest_order);
}

void userfault_order_run(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	userfault_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
		    vcpu->run->io.port == SYNC_PORT, "Exit reason %u (%s)",
		    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason));
	/* On to the next order; a userfault exit then ends an access only. */
	vcpu_run_complete_io(vcpu);
}

void userfault_order_ok(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			enum userfault_op op, u64 gva, u64 page, u64 nr, u64 arg)
{
	userfault_order(s->vm, op, gva + page * s->page_size,
			userfault_gfn(s, page), nr, arg);
	userfault_order_run(vcpu);
}

void userfault_order_exits(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			   enum userfault_op op, u64 gva, u64 page)
{
	u64 before = vcpu_get_stat(vcpu, userfault_exits);
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);

	userfault_order(s->vm, op, gva + page * s->page_size,
			userfault_gfn(s, page), 1, 0);
	userfault_run_expect(vcpu, userfault_gpa(s, page), userfault_op_flags(op));
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), before + 1);

	vcpu_regs_set(vcpu, &regs);
}

void userfault_fill_code(struct userfault_slot *s, u64 page)
{
	memset(userfault_alias(s, page), X86_RET, s->page_size);
}

void userfault_fill_all(struct userfault_slot *s, u64 generation)
{
	for (u64 i = 0; i < s->npages; i++)
		userfault_fill(s, i, generation);
}

void userfault_scribble(struct userfault_slot *s, u64 page)
{
	memset(userfault_alias(s, page), 0xee, s->page_size);
}

void userfault_enable_access(struct kvm_vm *vm)
{
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS);
}
