// SPDX-License-Identifier: GPL-2.0
/*
 * An event whose delivery needs an absent page, here that of the IDT: the vCPU
 * waits for the page, once, and then takes the event.
 */
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_fd.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		4
#define ROUNDS		5

static u64 nmis;

static void nmi_handler(struct ex_regs *regs)
{
	WRITE_ONCE(nmis, nmis + 1);
}

static void guest_code(void)
{
	struct desc_ptr idt = { .size = PAGE_SIZE - 1, .address = GVA };
	u64 seen = 0;

	asm volatile("lidt %0" : : "m"(idt));
	for (;;) {
		GUEST_SYNC(seen);
		while (READ_ONCE(nmis) == seen)
			cpu_relax();
		seen = READ_ONCE(nmis);
	}
}

static void run_sync(struct kvm_vcpu *vcpu, u64 expected)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], expected);
}

static void take_idt(struct userfault_slot *s)
{
	struct kvm_userfault_range range = { .gpa = GPA, .size = PAGE_SIZE };

	userfault_set_bit(s, 0);
	vm_ioctl(s->vm, KVM_USERFAULT_RESCAN, &range);
	memset(userfault_alias(s, 0), 0xee, PAGE_SIZE);
}

static void give_idt(struct userfault_slot *s, const void *idt)
{
	memcpy(userfault_alias(s, 0), idt, PAGE_SIZE);
	userfault_clear_bit(s, 0);
}

int main(void)
{
	struct userfault_runner runner;
	struct kvm_userfault_event e;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	u64 waits, round;
	struct kvm_vm *vm;
	void *idt;
	int fd;

	TEST_REQUIRE_USERFAULT();

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_install_exception_handler(vm, NMI_VECTOR, nmi_handler);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_FD | KVM_USERFAULT_FEATURE_RESCAN);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON,
				  KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	idt = addr_gva2hva(vm, vm->arch.idt);
	give_idt(s, idt);
	run_sync(vcpu, 0);

	/* The same without the fd: it exits, and then the event is delivered. */
	take_idt(s);
	vcpu_ioctl(vcpu, KVM_NMI, NULL);
	userfault_run_expect(vcpu, GPA, 0);
	userfault_run_expect(vcpu, GPA, 0);
	give_idt(s, idt);
	run_sync(vcpu, 1);

	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	for (round = 2; round < 2 + ROUNDS; round++) {
		take_idt(s);
		vcpu_ioctl(vcpu, KVM_NMI, NULL);
		waits = vcpu_get_stat(vcpu, userfault_waits);
		userfault_runner_start(&runner, vcpu);
		e = userfault_fd_read(fd);
		TEST_ASSERT_EQ(e.gpa, GPA);
		userfault_fd_assert_quiet(fd);
		userfault_runner_assert_waits(&runner);
		/* It sleeps, rather than trying again and again. */
		TEST_ASSERT(vcpu_get_stat(vcpu, userfault_waits) - waits <= 3,
			    "It has begun to wait %lu times",
			    vcpu_get_stat(vcpu, userfault_waits) - waits);

		give_idt(s, idt);
		userfault_fd_wake(fd, e.gpa, e.size);
		userfault_runner_join_sync(&runner);
	}
	sync_global_from_guest(vm, nmis);
	TEST_ASSERT_EQ(nmis, 1 + ROUNDS);

	close(fd);
	userfault_slot_free(s);
	kvm_vm_free(vm);
	return 0;
}
