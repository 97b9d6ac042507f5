// SPDX-License-Identifier: GPL-2.0
/*
 * kuf run: a guest from its boot to its end.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "control.h"
#include "image.h"
#include "machine.h"
#include "options.h"

struct run {
	struct options options;
	struct machine machine;
	struct boot_entry entry;
	struct control control;

	/* With --lazy: memory as it is at boot, and what is to be done with it. */
	int image_fd;
	struct image image;
	struct pager_config pager;
};

static int build_image(struct run *run)
{
	const struct options *o = &run->options;
	u64 size = o->boot.mem_size;
	void *map;
	int err;

	run->image_fd = mem_file("kuf-image", size, &map);
	if (run->image_fd < 0)
		return run->image_fd;
	err = boot_build(&o->boot, map, &run->entry);
	munmap(map, size);
	image_init(&run->image, run->image_fd, 0, size, NULL);
	run->pager = (struct pager_config){
		.mode = o->lazy,
		.own = o->own,
		.ops = image_ops(&run->image),
		.source = &run->image,
		.policy.record = o->record,
	};
	return err;
}

static int create_memory(struct run *run)
{
	const struct options *o = &run->options;
	struct machine *m = &run->machine;
	struct mem *mem = &m->vm.mem;
	int err;

	if (o->mem_path)
		err = mem_create_file(mem, o->mem_path, o->boot.mem_size);
	else
		err = mem_create(mem, o->backing, o->boot.mem_size, m->vm.fd);
	if (err)
		return err;
	if (o->lazy)
		return machine_start_pager(m, &run->pager);
	err = boot_build(&o->boot, mem->area, &run->entry);
	if (!err)
		err = mem_plug(mem, m->vm.fd);
	return err ?: machine_start_pager(m, NULL);
}

static int start(struct run *run)
{
	const struct options *o = &run->options;
	struct machine *m = &run->machine;
	struct vm *vm = &m->vm;
	int err;

	if (getrandom(m->session, sizeof(m->session), 0) != sizeof(m->session))
		return kuf_error(-errno, "getrandom");
	err = journal_open(&m->journal, o->journal);
	if (!err)
		err = journal_may_begin(&m->journal);
	if (!err)
		err = journal_write(&m->journal, m->session, m->epoch, JOURNAL_HERE);
	if (err)
		return err;
	/* Errors in files are known before anything else is made. */
	if (o->lazy) {
		err = build_image(run);
		if (!err && o->lazy == PAGER_PROCESS)
			err = machine_fork_pager(m, &run->pager);
		if (err)
			return err;
	}
	err = vm_create(vm);
	if (!err)
		err = machine_plug_devices(m, o->console, o->disk);
	m->blk.latency_us = o->disk_latency_us;
	if (!err)
		err = create_memory(run);
	if (!err)
		err = vcpus_create(vm, o->boot.nr_cpus);
	if (!err)
		err = vcpu_set_entry(&vm->vcpus[0], &run->entry);
	if (!err)
		err = vcpus_prepare(vm);
	/* Before the guest says anything it can be found; who pauses it then waits for this. */
	if (!err && o->control)
		err = control_start(&run->control, m, o->control);
	if (!err)
		vcpus_go(vm);
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
	run->image_fd = -1;
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
	if (run->image_fd >= 0)
		close(run->image_fd);
	free(run);
	return code;
}
