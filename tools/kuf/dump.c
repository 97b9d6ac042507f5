// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest does that does not end, or where it crashed: everything that an event
 * can be stuck in on its way from a device to an instruction.
 */
#include <linux/kvm.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "machine.h"
#include "state.h"

#define MSR_IA32_TSC		0x10
#define MSR_IA32_TSC_DEADLINE	0x6e0

/* Offsets in the local APIC's page. */
#define APIC_TPR	0x080
#define APIC_SPIV	0x0f0
#define APIC_ISR	0x100
#define APIC_IRR	0x200
#define APIC_LVTT	0x320
#define APIC_TMICT	0x380
#define APIC_TMCCT	0x390
#define NR_VECTORS	256

static u32 apic_reg(const struct kvm_lapic_state *apic, u32 reg)
{
	u32 value;

	memcpy(&value, apic->regs + reg, sizeof(value));
	return value;
}

/* The vectors that are set in the 256 bits at @reg. */
static const char *vectors(const struct kvm_lapic_state *apic, u32 reg, char *text, size_t size)
{
	size_t len = 0;
	u32 v;

	snprintf(text, size, " none");
	for (v = 0; v < NR_VECTORS && len + 4 < size; v++) {
		if (apic_reg(apic, reg + v / 32 * 16) & BIT(v % 32))
			len += snprintf(text + len, size - len, " %02x", v);
	}
	return text;
}

static void say_apic(struct vcpu *vcpu)
{
	struct kvm_lapic_state apic;
	char irr[64], isr[64];

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &apic))
		return;
	kuf_say("vCPU %u: APIC irr%s, isr%s, tpr 0x%x, spiv 0x%x, lvtt 0x%x, timer %u of %u",
		vcpu->id, vectors(&apic, APIC_IRR, irr, sizeof(irr)),
		vectors(&apic, APIC_ISR, isr, sizeof(isr)), apic_reg(&apic, APIC_TPR),
		apic_reg(&apic, APIC_SPIV), apic_reg(&apic, APIC_LVTT),
		apic_reg(&apic, APIC_TMCCT), apic_reg(&apic, APIC_TMICT));
}

static void say_clock(struct vcpu *vcpu)
{
	u64 tsc = 0, deadline = 0;

	if (!state_get_msr(vcpu, MSR_IA32_TSC, &tsc) &&
	    !state_get_msr(vcpu, MSR_IA32_TSC_DEADLINE, &deadline))
		kuf_say("vCPU %u: tsc %llu, deadline %llu", vcpu->id, (unsigned long long)tsc,
			(unsigned long long)deadline);
}

static void say_events(struct vcpu *vcpu)
{
	struct kvm_vcpu_events e;

	if (ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &e))
		return;
	kuf_say("vCPU %u: interrupt %u/0x%x, shadow %u, nmi %u/%u/%u", vcpu->id,
		e.interrupt.injected, e.interrupt.nr, e.interrupt.shadow, e.nmi.injected,
		e.nmi.pending, e.nmi.masked);
	kuf_say("vCPU %u: exception %u/%u/%u, exit reason %u, if %u", vcpu->id,
		e.exception.injected, e.exception.pending, e.exception.nr,
		vcpu->run->exit_reason, vcpu->run->if_flag);
}

static void say_chips(struct vm *vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_pit_state2 pit;
	u32 i;

	if (!ioctl(vm->fd, KVM_GET_IRQCHIP, &chip)) {
		kuf_say("IOAPIC: lines 0x%x", chip.chip.ioapic.irr);
		for (i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
			if (!chip.chip.ioapic.redirtbl[i].fields.mask)
				kuf_say("IOAPIC: pin %u 0x%llx", i,
					(unsigned long long)chip.chip.ioapic.redirtbl[i].bits);
		}
	}
	for (i = KVM_IRQCHIP_PIC_MASTER; i <= KVM_IRQCHIP_PIC_SLAVE; i++) {
		chip.chip_id = i;
		if (!ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
			kuf_say("PIC %u: irr 0x%x, imr 0x%x, isr 0x%x", i, chip.chip.pic.irr,
				chip.chip.pic.imr, chip.chip.pic.isr);
	}
	if (!ioctl(vm->fd, KVM_GET_PIT2, &pit))
		kuf_say("PIT: mode %u, count %u, flags 0x%x", pit.channels[0].mode,
			pit.channels[0].count, pit.flags);
}

/* As the device reads it, but without bringing it: nobody does so any more. */
static const u16 *ring(struct vm *vm, u64 gpa)
{
	int64_t offset = mem_offset(&vm->mem, gpa, 2 * sizeof(u16));

	if (offset < 0 || gpa % sizeof(u16) ||
	    (vm->pager && !pager_is_present(vm->pager, gpa)))
		return NULL;
	return (const u16 *)(vm->mem.area + offset);
}

static void say_blk(struct machine *m)
{
	const struct virtqueue *q = &m->blk.queue;
	const u16 *avail = ring(&m->vm, q->avail), *used = ring(&m->vm, q->used);

	kuf_say("disk: status 0x%x, isr 0x%x, kicked %u, busy %u, paused %u", m->blk.status,
		m->blk.isr, m->blk.kicked, m->blk.busy, m->blk.paused);
	kuf_say("disk: queue ready %u, taken %u, given %u", q->ready, q->next_avail,
		q->next_used);
	if (q->ready && avail && used)
		kuf_say("disk: available %u, flags 0x%x; used %u, flags 0x%x", avail[1], avail[0],
			used[1], used[0]);
}

void machine_say_where(struct machine *m)
{
	const struct uart *uart = &m->uart;
	u32 i;

	for (i = 0; i < m->vm.nr_vcpus; i++) {
		struct vcpu *vcpu = &m->vm.vcpus[i];

		vcpu_say_where(vcpu);
		say_apic(vcpu);
		say_clock(vcpu);
		say_events(vcpu);
	}
	say_chips(&m->vm);
	kuf_say("serial port: ier 0x%x, mcr 0x%x, lcr 0x%x, pending %u, line %u", uart->ier,
		uart->mcr, uart->lcr, uart->thr_pending, uart->irq_level);
	if (m->has_blk)
		say_blk(m);
}
