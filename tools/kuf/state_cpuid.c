// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID.  A guest keeps what it once read of it: a host whose vCPUs look different in
 * anything is refused.
 */
#include <errno.h>
#include <string.h>

#include "abi.h"
#include "crc32c.h"
#include "state.h"

struct saved {
	u32 fingerprint;	/* of the entries */
	u32 nr;
	struct kvm_cpuid_entry2 entries[CPUID_MAX_ENTRIES];
};

static u32 size_of(u32 nr)
{
	return offsetof(struct saved, entries) + nr * sizeof(struct kvm_cpuid_entry2);
}

static u32 fingerprint(const struct kvm_cpuid_entry2 *entries, u32 nr)
{
	return crc32c(0, entries, nr * sizeof(*entries));
}

static int save(struct machine *m, u32 cpu, void *data)
{
	const struct kvm_cpuid2 *cpuid = m->vm.vcpus[cpu].cpuid;
	struct saved *s = data;

	s->nr = cpuid->nent;
	memcpy(s->entries, cpuid->entries, s->nr * sizeof(s->entries[0]));
	s->fingerprint = fingerprint(s->entries, s->nr);
	return size_of(s->nr);
}

/* The vCPU has its CPUID since it was created. */
static int load(struct machine *m, u32 cpu, const void *data, u32 length)
{
	const struct kvm_cpuid2 *here = m->vm.vcpus[cpu].cpuid;
	struct kvm_cpuid_entry2 e;
	struct saved s = {};
	u32 i;

	memcpy(&s, data, length);
	if (s.nr > CPUID_MAX_ENTRIES || length != size_of(s.nr) ||
	    s.fingerprint != fingerprint(s.entries, s.nr))
		return kuf_error(0, "the CPUID of vCPU %u does not make sense", cpu);
	if (s.fingerprint == fingerprint(here->entries, here->nent) && s.nr == here->nent)
		return 0;
	for (i = 0; i < s.nr && i < here->nent; i++) {
		if (memcmp(&s.entries[i], &here->entries[i], sizeof(e)))
			break;
	}
	e = i < s.nr ? s.entries[i] : here->entries[i];
	return kuf_error(0, "the CPUID that was saved is not this host's: leaf 0x%x.%u",
			 e.function, e.index);
}

const struct state_group state_cpuid = {
	.type = STATE_CPUID, .version = 1, .name = "CPUID", .per_vcpu = true,
	.min = offsetof(struct saved, entries), .max = sizeof(struct saved),
	.save = save, .load = load,
};
