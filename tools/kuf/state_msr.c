// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs: all that KVM lists, those that it emulates for paravirtualization among them,
 * and the banks of machine checks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

#define MSR_IA32_TSC		0x10
#define MSR_IA32_MCG_CAP	0x179
#define MSR_IA32_MC0_CTL2	0x280
#define MSR_IA32_MC0_CTL	0x400
#define MSR_IA32_TSC_DEADLINE	0x6e0
#define MSR_IA32_SYSENTER_ESP	0x175
#define MSR_IA32_SYSENTER_EIP	0x176
#define MSR_HYPERV		0x40000000
#define MSR_HYPERV_END		0x40000200
#define MCG_CAP_BANKS		0xff
#define MAX_BANKS		32

#define MAX_LISTED		1024
#define MAX_MSRS		(MAX_LISTED + 5 * MAX_BANKS + 1)

struct saved {
	u32 index;
	u32 reserved;
	u64 value;
};

struct one {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

int state_get_msr(struct vcpu *vcpu, u32 index, u64 *value)
{
	struct one one = { .head.nmsrs = 1, .entry.index = index };
	int n = ioctl(vcpu->fd, KVM_GET_MSRS, &one);

	*value = one.entry.data;
	if (n < 0)
		return -errno;
	return n == 1 ? 0 : -ENOENT;
}

int state_set_msr(struct vcpu *vcpu, u32 index, u64 value)
{
	struct one one = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
	int n = ioctl(vcpu->fd, KVM_SET_MSRS, &one);

	if (n < 0)
		return -errno;
	return n == 1 ? 0 : -EINVAL;
}

/*
 * The clocks are a group of their own.  Hyper-V, which kuf does not offer its guests, has
 * further ones that go by the host's.
 */
static bool is_elsewhere(u32 index)
{
	return index == MSR_IA32_TSC || index == MSR_IA32_TSC_DEADLINE ||
	       (index >= MSR_HYPERV && index < MSR_HYPERV_END);
}

/*
 * On AMD sysenter is for 32-bit code alone; KVM reads all that the guest wrote for it and
 * sets the half that counts.
 */
static u64 normal(const struct vcpu *vcpu, u32 index, u64 value)
{
	if (index != MSR_IA32_SYSENTER_ESP && index != MSR_IA32_SYSENTER_EIP)
		return value;
	return vcpu_is_amd(vcpu) ? (u32)value : value;
}

/* What KVM lists, but cannot be read of this vCPU, is not there. */
static void take(struct vcpu *vcpu, u32 index, struct saved *saved, int *n)
{
	u64 value;

	if (is_elsewhere(index) || *n == MAX_MSRS || state_get_msr(vcpu, index, &value))
		return;
	saved[*n].index = index;
	saved[(*n)++].value = normal(vcpu, index, value);
}

static int save(struct machine *m, u32 cpu, void *data)
{
	struct vcpu *vcpu = &m->vm.vcpus[cpu];
	struct kvm_msr_list *list;
	u64 banks = 0;
	int n = 0;
	u32 i;

	list = calloc(1, sizeof(*list) + MAX_LISTED * sizeof(list->indices[0]));
	if (!list)
		return kuf_error(-ENOMEM, "MSRs");
	list->nmsrs = MAX_LISTED;
	if (ioctl(m->vm.kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) {
		n = kuf_error(-errno, "KVM_GET_MSR_INDEX_LIST");
		goto out;
	}
	take(vcpu, MSR_IA32_MCG_CAP, data, &n);
	for (i = 0; i < list->nmsrs; i++)
		take(vcpu, list->indices[i], data, &n);
	state_get_msr(vcpu, MSR_IA32_MCG_CAP, &banks);
	banks &= MCG_CAP_BANKS;
	for (i = 0; i < banks && i < MAX_BANKS; i++)
		take(vcpu, MSR_IA32_MC0_CTL2 + i, data, &n);
	for (i = 0; i < 4 * banks && i < 4 * MAX_BANKS; i++)
		take(vcpu, MSR_IA32_MC0_CTL + i, data, &n);
	n *= sizeof(struct saved);
out:
	free(list);
	return n;
}

/*
 * What is so already is not written: some MSRs only take what they have.  A write to
 * that of a wall clock makes KVM write to memory, which gets its content later.
 */
static int load(struct machine *m, u32 cpu, const void *data, u32 length)
{
	struct vcpu *vcpu = &m->vm.vcpus[cpu];
	struct saved s;
	u64 value;
	u32 i;
	int err;

	if (length % sizeof(s))
		return kuf_error(0, "MSRs with a length of %u", length);
	for (i = 0; i < length / sizeof(s); i++) {
		memcpy(&s, (u8 *)data + i * sizeof(s), sizeof(s));
		if (is_elsewhere(s.index))
			continue;
		err = state_get_msr(vcpu, s.index, &value);
		if (!err && value == s.value)
			continue;
		if (!err)
			err = state_set_msr(vcpu, s.index, s.value);
		if (err)
			return kuf_error(err, "MSR 0x%x of vCPU %u cannot be set to 0x%llx",
					 s.index, cpu, (unsigned long long)s.value);
	}
	return 0;
}

const struct state_group state_msrs = {
	.type = STATE_MSRS, .version = 1, .name = "MSRs", .per_vcpu = true,
	.min = sizeof(struct saved), .max = MAX_MSRS * sizeof(struct saved),
	.save = save, .load = load,
};
