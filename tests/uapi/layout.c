// SPDX-License-Identifier: GPL-2.0
/*
 * The layout of what crosses the boundary between a process and KVM: it has to be
 * the same for 32-bit and 64-bit processes, and for C and C++.  Only compiled.
 */
#include <stddef.h>
#include <linux/kvm_userfault.h>

/* No C library for 32 bits is needed this way; the name tells what is wrong. */
#define ASSERT(name, what) \
	extern char name[(what) ? 1 : -1]
#define SIZE(type, size) \
	ASSERT(size_of_##type, sizeof(struct type) == (size))
#define AT(type, member, offset) \
	ASSERT(type##_##member, offsetof(struct type, member) == (offset))
#define NUMBER(name, number) \
	ASSERT(number_of_##name, KVM_USERFAULT_##name == (number))

SIZE(kvm_userfault_range, 64);
AT(kvm_userfault_range, flags, 16);
AT(kvm_userfault_range, as_id, 24);
AT(kvm_userfault_range, reserved, 32);

SIZE(kvm_userfault_fd, 32);
AT(kvm_userfault_fd, event_size, 4);
AT(kvm_userfault_fd, reserved, 8);

SIZE(kvm_userfault_event, 64);
AT(kvm_userfault_event, vcpu_id, 24);
AT(kvm_userfault_event, as_id, 28);
AT(kvm_userfault_event, type, 30);
AT(kvm_userfault_event, seq, 32);
AT(kvm_userfault_event, time_ns, 40);

SIZE(kvm_userfault_poison_list, 64);
AT(kvm_userfault_poison_list, nr, 24);
AT(kvm_userfault_poison_list, generation, 32);
SIZE(kvm_userfault_poison_range, 32);

SIZE(kvm_userfault_inject, 64);
AT(kvm_userfault_inject, access, 16);

NUMBER(CREATE_FD, 0x4020aef0);
NUMBER(RESCAN, 0xc040aef1);
NUMBER(POISON, 0xc040aef2);
NUMBER(GET_POISON, 0xc040aef3);
NUMBER(INJECT, 0xc040aef4);
NUMBER(WAKE, 0x4040aef8);
NUMBER(REPLAY, 0xaef9);
