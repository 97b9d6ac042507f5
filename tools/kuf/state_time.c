// SPDX-License-Identifier: GPL-2.0
/*
 * Clocks: kvmclock, the vCPUs' TSCs, and the timers that go by the TSC.  They stand
 * still from when the machine was saved until it runs again, so what was loaded is
 * kept until then.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

#define MSR_IA32_TSC		0x10
#define MSR_IA32_TSC_DEADLINE	0x6e0

static int tsc_offset(struct vcpu *vcpu, unsigned long request, u64 *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	if (ioctl(vcpu->fd, request, &attr))
		return kuf_error(-errno, "the TSC offset of vCPU %u (Linux 5.16)", vcpu->id);
	return 0;
}

/* All TSCs at one time: that of the first vCPU, and how far the others are from it. */
static int read_tscs(struct vm *vm, u64 *tscs)
{
	u64 first = 0, offset;
	u32 i;
	int err;

	err = state_get_msr(&vm->vcpus[0], MSR_IA32_TSC, &tscs[0]);
	if (err)
		return kuf_error(err, "getting the TSC");
	for (i = 0; i < vm->nr_vcpus; i++) {
		err = tsc_offset(&vm->vcpus[i], KVM_GET_DEVICE_ATTR, &offset);
		if (err)
			return err;
		if (!i)
			first = offset;
		tscs[i] = tscs[0] + offset - first;
	}
	return 0;
}

static int save(struct machine *m, u32 instance, void *data)
{
	struct machine_time *t = data;
	struct kvm_clock_data clock = {};
	struct vm *vm = &m->vm;
	int err, khz;
	u32 i;

	if (m->time_stands) {
		memcpy(t, &m->time, sizeof(*t));
		return sizeof(*t);
	}
	if (ioctl(vm->fd, KVM_GET_CLOCK, &clock))
		return kuf_error(-errno, "KVM_GET_CLOCK");
	t->clock_ns = clock.clock;
	err = read_tscs(vm, t->tsc);
	if (err)
		return err;
	khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	if (khz < 0)
		return kuf_error(-errno, "KVM_GET_TSC_KHZ");
	t->tsc_khz = khz;
	for (i = 0; i < vm->nr_vcpus; i++) {
		/* Not there when the vCPU has no such timer. */
		if (state_get_msr(&vm->vcpus[i], MSR_IA32_TSC_DEADLINE, &t->deadline[i]))
			t->deadline[i] = 0;
	}
	return sizeof(*t);
}

static int load(struct machine *m, u32 instance, const void *data, u32 length)
{
	memcpy(&m->time, data, sizeof(m->time));
	m->time_stands = true;
	return 0;
}

int state_time_prepare(struct machine *m)
{
	const struct machine_time *t = &m->time;
	struct vm *vm = &m->vm;
	int err = 0, khz;
	u64 offset;
	u32 i;

	for (i = 0; !err && i < vm->nr_vcpus; i++) {
		khz = ioctl(vm->vcpus[i].fd, KVM_GET_TSC_KHZ, 0);
		if (khz != (int)t->tsc_khz &&
		    ioctl(vm->vcpus[i].fd, KVM_SET_TSC_KHZ, (unsigned long)t->tsc_khz))
			return kuf_error(-errno, "a TSC of %u kHz, where this host has %d",
					 t->tsc_khz, khz);
		err = tsc_offset(&vm->vcpus[i], KVM_GET_DEVICE_ATTR, &offset);
	}
	return err;
}

static int start_tscs(struct vm *vm, const struct machine_time *t)
{
	u64 now, first, offset;
	u32 i;
	int err;

	err = tsc_offset(&vm->vcpus[0], KVM_GET_DEVICE_ATTR, &first);
	if (err)
		return err;
	err = state_get_msr(&vm->vcpus[0], MSR_IA32_TSC, &now);
	if (err)
		return kuf_error(err, "getting the TSC");
	for (i = 0; i < vm->nr_vcpus; i++) {
		offset = first + t->tsc[i] - now;
		err = tsc_offset(&vm->vcpus[i], KVM_SET_DEVICE_ATTR, &offset);
		if (err)
			return err;
	}
	return 0;
}

int state_time_start(struct machine *m)
{
	struct kvm_clock_data clock = { .clock = m->time.clock_ns };
	struct vm *vm = &m->vm;
	u32 i;
	int err;

	err = start_tscs(vm, &m->time);
	if (err)
		return err;
	if (ioctl(vm->fd, KVM_SET_CLOCK, &clock))
		return kuf_error(-errno, "KVM_SET_CLOCK");
	for (i = 0; i < vm->nr_vcpus; i++) {
		if (!m->time.deadline[i])
			continue;
		err = state_set_msr(&vm->vcpus[i], MSR_IA32_TSC_DEADLINE, m->time.deadline[i]);
		if (err)
			return kuf_error(err, "the timer of vCPU %u", i);
	}
	m->time_stands = false;
	return 0;
}

const struct state_group state_time = {
	.type = STATE_TIME, .version = 1, .name = "clocks",
	.min = sizeof(struct machine_time), .max = sizeof(struct machine_time),
	.save = save, .load = load,
};
