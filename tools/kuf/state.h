/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STATE_H
#define KUF_STATE_H

#include "frame.h"
#include "machine.h"

/* The state of a machine, apart from its memory: groups, each in a frame. */
enum {
	STATE_CONFIG = 1,
	STATE_PAGES = 2,	/* the CRC32C of each page of memory */
	STATE_CPUID = 16,
	STATE_SREGS,
	STATE_REGS,
	STATE_XCRS,
	STATE_XSAVE,
	STATE_MSRS,
	STATE_LAPIC,
	STATE_EVENTS,
	STATE_MP,
	STATE_DEBUG,
	STATE_IRQCHIP = 32,
	STATE_PIT,
	STATE_UART,
	STATE_BLK,
	STATE_TIME,
	STATE_POISON,
};

struct state_config {
	u64 mem_size;
	u32 nr_cpus;
	u32 backing;		/* what it was made of; not binding */
	u32 has_disk;
	u32 reserved;
};

/*
 * save() fills @data, which is zeroes and has room for @max bytes, and returns how
 * many it used, 0 if the machine has no such thing, or -errno after a message.
 * load() finds a length from @min to @max; -errno after a message.  The machine is
 * paused, or did not run yet.
 */
struct state_group {
	u16 type;
	u16 version;
	const char *name;
	bool per_vcpu;
	bool optional;		/* a machine may have no such thing */
	u32 min, max;
	int (*save)(struct machine *m, u32 instance, void *data);
	int (*load)(struct machine *m, u32 instance, const void *data, u32 length);
	/* Or else ioctls of the vCPU, for a structure of @max bytes. */
	unsigned long get, set;
};

/* state_regs.c */
int state_ioctl_save(const struct state_group *g, struct machine *m, u32 cpu, void *data);
int state_ioctl_load(const struct state_group *g, struct machine *m, u32 cpu, const void *data);

extern const struct state_group state_cpuid, state_sregs, state_regs, state_xcrs, state_xsave,
	state_msrs, state_lapic, state_events, state_mp, state_debug, state_irqchip, state_pit,
	state_uart, state_blk, state_poison, state_time;

/* One MSR of a vCPU, as the host sees it: -errno without a message. */
int state_get_msr(struct vcpu *vcpu, u32 index, u64 *value);
int state_set_msr(struct vcpu *vcpu, u32 index, u64 value);

/* All of what follows that a host may not be able to do. */
int state_time_prepare(struct machine *m);
/*
 * The clocks of a machine that was loaded, and prepared, begin to go: last, before the vCPUs
 * do.  If these do not, once more.
 */
int state_time_start(struct machine *m);

/* A state that was read. */
struct state_item {
	struct frame frame;
	const void *data;
};

#define STATE_ITEMS_MAX	256

struct state {
	struct state_config config;
	const void *pages;
	struct state_item items[STATE_ITEMS_MAX];
	u32 nr;
};

/* STATE_CONFIG and all groups; not the pages. */
int state_save(struct machine *m, struct frame_writer *w);
/*
 * Refers to @frames from then on.  -EINVAL after a message: damaged, incomplete,
 * contradicting itself, or of a version that is not known.
 */
int state_parse(struct state *state, const void *frames, u64 size, u32 nr);
int state_load(struct machine *m, const struct state *state);

#endif /* KUF_STATE_H */
