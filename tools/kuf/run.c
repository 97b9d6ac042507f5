// SPDX-License-Identifier: GPL-2.0
/*
 * kuf run: a guest from its boot to its end.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "control.h"
#include "machine.h"
#include "options.h"

struct run {
	struct options options;
	struct machine machine;
	struct boot_entry entry;
	struct control control;
};

static int build_source(struct run *run)
{
	struct machine *m = &run->machine;
	u64 size = run->options.boot.mem_size;
	void *map;

	m->source_fd = mem_file("kuf-source", size, &map);
	if (m->source_fd < 0)
		return m->source_fd;
	m->source = (struct pager_source){ .map = map, .map_size = size };
	return boot_build(&run->options.boot, map, &run->entry);
}

static int create_memory(struct run *run)
{
	const struct options *o = &run->options;
	struct vm *vm = &run->machine.vm;
	int err;

	err = mem_create(&vm->mem, o->backing, o->boot.mem_size, vm->fd);
	if (err)
		return err;
	if (o->lazy) {
		err = machine_enable_userfault(&run->machine, o->lazy, o->own);
		if (!err)
			err = mem_create_bitmap(&vm->mem);
	} else {
		err = boot_build(&o->boot, vm->mem.area, &run->entry);
	}
	return err ?: mem_plug(&vm->mem, vm->fd);
}

static int start(struct run *run)
{
	const struct options *o = &run->options;
	struct machine *m = &run->machine;
	struct vm *vm = &m->vm;
	int err;

	if (getrandom(m->session, sizeof(m->session), 0) != sizeof(m->session))
		return kuf_error(-errno, "getrandom");
	/* Errors in files are known before anything else is made. */
	if (o->lazy) {
		err = build_source(run);
		if (!err && o->lazy == PAGER_PROCESS)
			err = server_fork(&m->server);
		if (err)
			return err;
	}
	err = vm_create(vm);
	if (!err)
		err = machine_plug_devices(m, o->console, o->disk);
	m->blk.latency_us = o->disk_latency_us;
	if (!err)
		err = create_memory(run);
	if (!err && o->lazy)
		err = machine_start_pager(m, o->lazy);
	if (!err)
		err = vcpus_create(vm, o->boot.nr_cpus);
	if (!err)
		err = vcpu_set_entry(&vm->vcpus[0], &run->entry);
	if (!err)
		err = vcpus_start(vm);
	if (!err && o->control)
		err = control_start(&run->control, m, o->control);
	return err;
}

int cmd_run(int argc, char **argv)
{
	struct run *run = calloc(1, sizeof(*run));
	int code, r;

	if (!run) {
		kuf_error(-ENOMEM, "no memory");
		return KUF_EXIT_FAILED;
	}
	machine_init(&run->machine);
	r = options_parse_run(&run->options, argc, argv);
	if (r) {
		free(run);
		return r > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	}
	r = start(run);
	code = machine_wait(&run->machine, r, run->options.timeout_s);
	control_stop(&run->control);
	code = machine_finish(&run->machine, code);
	machine_release(&run->machine);
	free(run);
	return code;
}
