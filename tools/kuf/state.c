// SPDX-License-Identifier: GPL-2.0
/*
 * The groups of a machine's state, and in which order they are loaded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

/*
 * What a vCPU can do comes before what it does with that; LAPICs before the chips
 * that send them interrupts, and interrupts before the clocks, which go at last.
 */
static const struct state_group * const groups[] = {
	&state_cpuid, &state_sregs, &state_regs, &state_xcrs, &state_xsave, &state_msrs,
	&state_lapic, &state_events, &state_mp, &state_debug, &state_irqchip, &state_pit,
	&state_uart, &state_blk, &state_poison, &state_time,
};

static const struct state_group *find_group(u16 type)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		if (groups[i]->type == type)
			return groups[i];
	}
	return NULL;
}

static int save_group(struct machine *m, const struct state_group *g, u32 instance,
		      struct frame_writer *w)
{
	void *data = calloc(1, g->max);
	int n;

	if (!data)
		return kuf_error(-ENOMEM, "saving %s", g->name);
	n = g->save ? g->save(m, instance, data) : state_ioctl_save(g, m, instance, data);
	if (n > 0)
		n = frame_add(w, g->type, g->version, instance, data, n);
	free(data);
	return n;
}

int state_save(struct machine *m, struct frame_writer *w)
{
	struct state_config config = {
		.mem_size = m->vm.mem.size,
		.nr_cpus = m->vm.nr_vcpus,
		.backing = m->vm.mem.backing,
		.has_disk = m->has_blk,
	};
	u32 cpu;
	size_t i;
	int err;

	err = frame_add(w, STATE_CONFIG, 1, 0, &config, sizeof(config));
	for (i = 0; !err && i < ARRAY_SIZE(groups); i++) {
		for (cpu = 0; !err && cpu < (groups[i]->per_vcpu ? config.nr_cpus : 1); cpu++)
			err = save_group(m, groups[i], cpu, w);
	}
	return err;
}

static const struct state_item *find_item(const struct state *state, u16 type, u32 instance)
{
	u32 i;

	for (i = 0; i < state->nr; i++) {
		if (state->items[i].frame.type == type &&
		    state->items[i].frame.instance == instance)
			return &state->items[i];
	}
	return NULL;
}

static int take_config(struct state *state, const struct frame *frame, const void *data)
{
	struct state_config *c = &state->config;

	if (c->nr_cpus || frame->version != 1 || frame->length != sizeof(*c))
		return kuf_error(0, "a configuration that this kuf cannot read");
	memcpy(c, data, sizeof(*c));
	if (!c->nr_cpus || c->nr_cpus > MAX_CPUS || c->backing >= NR_MEM_BACKINGS ||
	    c->mem_size < MIN_MEM || c->mem_size > MAX_MEM || c->mem_size % PAGE_SIZE ||
	    c->has_disk > 1 || c->reserved)
		return kuf_error(0, "the configuration does not make sense");
	return 0;
}

static int take_pages(struct state *state, const struct frame *frame, const void *data)
{
	if (state->pages || frame->version != 1 ||
	    frame->length != state->config.mem_size / PAGE_SIZE * sizeof(u32))
		return kuf_error(0, "the list of pages does not make sense");
	state->pages = data;
	return 0;
}

static int take_group(struct state *state, const struct frame *frame, const void *data)
{
	const struct state_group *g = find_group(frame->type);

	if (!g && frame->type & FRAME_OPTIONAL)
		return 0;
	if (!g)
		return kuf_error(0, "state of type %u, which this kuf does not know", frame->type);
	if (frame->version != g->version)
		return kuf_error(0, "%s of version %u; this kuf reads version %u", g->name,
				 frame->version, g->version);
	if (frame->length < g->min || frame->length > g->max)
		return kuf_error(0, "%s with a length of %u", g->name, frame->length);
	if (frame->instance >= (g->per_vcpu ? state->config.nr_cpus : 1))
		return kuf_error(0, "%s of vCPU %u, which is not there", g->name, frame->instance);
	if (find_item(state, frame->type, frame->instance) || state->nr == STATE_ITEMS_MAX)
		return kuf_error(0, "%s is there twice", g->name);
	state->items[state->nr++] = (struct state_item){ *frame, data };
	return 0;
}

static int take(struct state *state, const struct frame *frame, const void *data)
{
	/* The others depend on it. */
	if (!state->config.nr_cpus && frame->type != STATE_CONFIG)
		return kuf_error(0, "the configuration does not come first");
	switch (frame->type) {
	case STATE_CONFIG:
		return take_config(state, frame, data);
	case STATE_PAGES:
		return take_pages(state, frame, data);
	default:
		return take_group(state, frame, data);
	}
}

static int check_complete(const struct state *state)
{
	u32 cpu;
	size_t i;

	if (!state->config.nr_cpus)
		return kuf_error(0, "there is no configuration");
	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		const struct state_group *g = groups[i];

		if (g->type == STATE_BLK) {
			if (!find_item(state, STATE_BLK, 0) != !state->config.has_disk)
				return kuf_error(0, "a disk without its state, or the reverse");
			continue;
		}
		for (cpu = 0; cpu < (g->per_vcpu ? state->config.nr_cpus : 1); cpu++) {
			if (!g->optional && !find_item(state, g->type, cpu))
				return kuf_error(0, "no %s, vCPU %u", g->name, cpu);
		}
	}
	return 0;
}

int state_parse(struct state *state, const void *frames, u64 size, u32 nr)
{
	struct frame_reader reader = { .data = frames, .size = size };
	struct frame frame;
	const void *data;
	int r;

	*state = (struct state){};
	while ((r = frame_next(&reader, &frame, &data)) > 0) {
		r = take(state, &frame, data);
		if (r)
			return r;
		if (!nr--)
			return kuf_error(0, "more frames than the header says");
	}
	if (r < 0)
		return kuf_error(0, "the frame at byte %llu of the state is damaged (CRC32C)",
				 (unsigned long long)reader.pos);
	if (nr)
		return kuf_error(0, "%u frames are missing", nr);
	return check_complete(state);
}

static int load_group(struct machine *m, const struct state_group *g,
		      const struct state_item *item)
{
	u32 instance = item->frame.instance;

	if (!g->load)
		return state_ioctl_load(g, m, instance, item->data);
	return g->load(m, instance, item->data, item->frame.length);
}

int state_load(struct machine *m, const struct state *state)
{
	const struct state_item *item;
	size_t i;
	u32 cpu;
	int err;

	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		const struct state_group *g = groups[i];

		for (cpu = 0; cpu < (g->per_vcpu ? state->config.nr_cpus : 1); cpu++) {
			item = find_item(state, g->type, cpu);
			if (!item)
				continue;
			err = load_group(m, g, item);
			if (err)
				return err;
		}
	}
	return 0;
}
