// SPDX-License-Identifier: GPL-2.0
/*
 * The layout of what crosses the boundary between a process and KVM: it has to be
 * the same for 32-bit and 64-bit processes, and for C and C++.  Only compiled.
 */
#include <stddef.h>
#include <linux/kvm_userfault.h>

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

#define SIZE(type, size) \
	static_assert(sizeof(struct type) == (size), #type)
#define AT(type, member, offset) \
	static_assert(offsetof(struct type, member) == (offset), #type "." #member)

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

static_assert(KVM_USERFAULT_CREATE_FD == 0x4020aef0, "CREATE_FD");
static_assert(KVM_USERFAULT_RESCAN == 0xc040aef1, "RESCAN");
static_assert(KVM_USERFAULT_POISON == 0xc040aef2, "POISON");
static_assert(KVM_USERFAULT_GET_POISON == 0xc040aef3, "GET_POISON");
static_assert(KVM_USERFAULT_INJECT == 0xc040aef4, "INJECT");
static_assert(KVM_USERFAULT_WAKE == 0x4040aef8, "WAKE");
static_assert(KVM_USERFAULT_REPLAY == 0xaef9, "REPLAY");
