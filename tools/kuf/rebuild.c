// SPDX-License-Identifier: GPL-2.0
/*
 * What kuf restore and kuf recv make of a VM's state.
 */
#include "rebuild.h"

int rebuild_check(const struct state *state, const struct options *o, const char *what)
{
	const struct state_config *c = &state->config;

	if (c->has_disk && !o->disk)
		return kuf_error(0, "%s has a disk: --disk=FILE is needed", what);
	if (!c->has_disk && o->disk)
		return kuf_error(0, "%s has no disk for --disk=%s", what, o->disk);
	return 0;
}

int rebuild_check_sent(const struct state *state, const struct proto_config *sent,
		       const struct options *o)
{
	const struct state_config *c = &state->config;

	if (c->mem_size != sent->mem_size || c->nr_cpus != sent->nr_cpus)
		return kuf_error(0, "the VM that comes contradicts itself");
	return rebuild_check(state, o, "the VM that comes");
}

int rebuild(struct machine *m, const struct state *state, const struct options *o)
{
	const struct state_config *c = &state->config;
	struct vm *vm = &m->vm;
	int err;

	err = vm_create(vm);
	if (!err)
		err = machine_plug_devices(m, o->console, o->disk);
	if (!err && o->mem_path)
		err = mem_create_file(&vm->mem, o->mem_path, c->mem_size);
	else if (!err)
		err = mem_create(&vm->mem, o->backing < 0 ? c->backing : (u32)o->backing,
				 c->mem_size, vm->fd);
	if (!err)
		err = mem_plug(&vm->mem, vm->fd);
	if (!err)
		err = vcpus_create(vm, c->nr_cpus);
	if (err)
		return err;
	m->blk.latency_us = o->disk_latency_us;
	blk_pause(&m->blk);
	return state_load(m, state);
}
