// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupt controllers and timer that KVM emulates for the whole VM.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

/* Two PICs and the IOAPIC. */
#define NR_CHIPS	3

struct chips {
	struct kvm_irqchip chips[NR_CHIPS];
};

static int save_irqchip(struct machine *m, u32 instance, void *data)
{
	struct chips *s = data;
	u32 i;

	for (i = 0; i < NR_CHIPS; i++) {
		s->chips[i].chip_id = i;
		if (ioctl(m->vm.fd, KVM_GET_IRQCHIP, &s->chips[i]))
			return kuf_error(-errno, "getting interrupt controller %u", i);
	}
	return sizeof(*s);
}

static int load_irqchip(struct machine *m, u32 instance, const void *data, u32 length)
{
	struct chips s;
	u32 i;

	memcpy(&s, data, sizeof(s));
	for (i = 0; i < NR_CHIPS; i++) {
		if (s.chips[i].chip_id != i)
			return kuf_error(0, "the interrupt controllers do not make sense");
		if (ioctl(m->vm.fd, KVM_SET_IRQCHIP, &s.chips[i]))
			return kuf_error(-errno, "setting interrupt controller %u", i);
	}
	return 0;
}

/* A channel counts from its beginning when it is loaded; when it was loaded is the host's. */
static int save_pit(struct machine *m, u32 instance, void *data)
{
	struct kvm_pit_state2 *pit = data;
	u32 i;

	if (ioctl(m->vm.fd, KVM_GET_PIT2, pit))
		return kuf_error(-errno, "getting the PIT");
	for (i = 0; i < ARRAY_SIZE(pit->channels); i++)
		pit->channels[i].count_load_time = 0;
	return sizeof(*pit);
}

static int load_pit(struct machine *m, u32 instance, const void *data, u32 length)
{
	struct kvm_pit_state2 pit;

	memcpy(&pit, data, sizeof(pit));
	if (ioctl(m->vm.fd, KVM_SET_PIT2, &pit))
		return kuf_error(-errno, "setting the PIT");
	return 0;
}

const struct state_group state_irqchip = {
	.type = STATE_IRQCHIP, .version = 1, .name = "interrupt controllers",
	.min = sizeof(struct chips), .max = sizeof(struct chips),
	.save = save_irqchip, .load = load_irqchip,
};

const struct state_group state_pit = {
	.type = STATE_PIT, .version = 1, .name = "PIT",
	.min = sizeof(struct kvm_pit_state2), .max = sizeof(struct kvm_pit_state2),
	.save = save_pit, .load = load_pit,
};
