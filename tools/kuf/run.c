// SPDX-License-Identifier: GPL-2.0
/*
 * kuf run: a guest from its boot to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "blk.h"
#include "options.h"
#include "reset.h"
#include "server.h"
#include "uart.h"
#include "vcpu.h"

struct run {
	struct options options;
	struct vm vm;
	struct uart uart;
	struct blk blk;
	struct boot_entry entry;
	int console_fd;

	/* With --lazy: what memory is to hold, and who brings it there. */
	u8 *source;
	int source_fd;
	int counts_fd;
	struct pager pager;
	struct server server;
};

static int build_source(struct run *run)
{
	u64 size = run->options.boot.mem_size;
	void *map;

	run->source_fd = mem_file("kuf-source", size, &map);
	if (run->source_fd < 0)
		return run->source_fd;
	run->source = map;
	return boot_build(&run->options.boot, run->source, &run->entry);
}

static int plug_devices(struct run *run)
{
	struct bus_range uart = { UART_PORT, UART_PORTS, uart_access, &run->uart };
	int err;

	run->console_fd = STDOUT_FILENO;
	if (run->options.console) {
		run->console_fd = open(run->options.console,
				       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (run->console_fd < 0)
			return kuf_error(-errno, "%s", run->options.console);
	}
	uart_init(&run->uart, &run->vm, run->console_fd);
	err = bus_add(&run->vm.ports, &uart);
	if (!err)
		err = reset_plug(&run->vm);
	if (!err && run->options.disk)
		err = blk_start(&run->blk, &run->vm, run->options.disk);
	return err;
}

static int enable_userfault(struct run *run)
{
	u64 features = KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS;

	if (run->options.lazy != PAGER_EXIT)
		features |= KVM_USERFAULT_FEATURE_FD;
	if (run->options.own)
		features |= KVM_USERFAULT_FEATURE_OWN;
	return vm_enable_userfault(&run->vm, features);
}

static int create_memory(struct run *run)
{
	struct vm *vm = &run->vm;
	int err;

	err = mem_create(&vm->mem, run->options.backing, run->options.boot.mem_size, vm->fd);
	if (err)
		return err;
	if (run->options.lazy) {
		err = enable_userfault(run);
		if (!err)
			err = mem_create_bitmap(&vm->mem);
	} else {
		err = boot_build(&run->options.boot, vm->mem.area, &run->entry);
	}
	return err ?: mem_plug(&vm->mem, vm->fd);
}

static int start_pager(struct run *run)
{
	struct pager *pager = &run->pager;
	void *counts;
	int err;

	run->counts_fd = mem_file("kuf-counts", pager_counts_size(run->vm.mem.size), &counts);
	if (run->counts_fd < 0)
		return run->counts_fd;
	*pager = (struct pager){
		.mode = run->options.lazy,
		.mem = run->vm.mem,
		.source = run->source,
		.uffd = -1,
		.remote_fd = -1,
		.ask_fd = -1,
		.counts = counts,
	};
	pthread_mutex_init(&pager->lock, NULL);
	run->vm.pager = pager;
	if (pager->mode == PAGER_EXIT)
		return 0;

	pager->uffd = vm_userfault_fd(&run->vm);
	if (pager->uffd < 0)
		return pager->uffd;
	if (pager->mode == PAGER_THREAD)
		return server_start_thread(&run->server, pager);
	err = server_start_process(&run->server, pager, run->source_fd, run->counts_fd);
	close(pager->uffd);
	pager->uffd = -1;
	return err;
}

static int start(struct run *run)
{
	struct vm *vm = &run->vm;
	int err;

	/* Errors in files are known before anything else is made. */
	if (run->options.lazy) {
		err = build_source(run);
		if (!err && run->options.lazy == PAGER_PROCESS)
			err = server_fork(&run->server);
		if (err)
			return err;
	}
	err = vm_create(vm);
	if (!err)
		err = plug_devices(run);
	if (!err)
		err = create_memory(run);
	if (!err && run->options.lazy)
		err = start_pager(run);
	if (!err)
		err = vcpus_create(vm, run->options.boot.nr_cpus, &run->entry);
	return err ?: vcpus_start(vm);
}

static void release(struct run *run)
{
	u64 size = run->options.boot.mem_size;

	vm_destroy(&run->vm);
	if (run->pager.counts)
		munmap(run->pager.counts, pager_counts_size(size));
	if (run->counts_fd >= 0)
		close(run->counts_fd);
	if (run->source)
		munmap(run->source, size);
	if (run->source_fd >= 0)
		close(run->source_fd);
	if (run->options.console && run->console_fd >= 0)
		close(run->console_fd);
}

int cmd_run(int argc, char **argv)
{
	struct run *run = calloc(1, sizeof(*run));
	int code = KUF_EXIT_OK, r;

	if (!run) {
		kuf_error(-ENOMEM, "no memory");
		return KUF_EXIT_FAILED;
	}
	*run = (struct run){
		.source_fd = -1,
		.counts_fd = -1,
		.console_fd = -1,
		.vm = { .fd = -1, .kvm_fd = -1, .mem = { .fd = -1, .bitmap_fd = -1 } },
	};
	r = options_parse_run(&run->options, argc, argv);
	if (r) {
		free(run);
		return r > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	}

	if (start(run)) {
		code = KUF_EXIT_FAILED;
		/* Threads may be there already. */
		vm_stop(&run->vm, code);
	} else if (vm_wait(&run->vm, run->options.timeout_s)) {
		kuf_error(0, "the guest still runs after %u seconds", run->options.timeout_s);
		vm_stop(&run->vm, KUF_EXIT_TIMEOUT);
	}
	vcpus_join(&run->vm);
	blk_stop(&run->blk);
	if (!code)
		code = run->vm.exit_code;
	if (code >= KUF_EXIT_CRASH && code < KUF_EXIT_GUEST)
		vcpus_say_where(&run->vm);
	/* What the guest ended with does not count if it was not given its memory. */
	if (server_stop(&run->server) ||
	    (run->pager.counts && pager_report(&run->pager)))
		code = KUF_EXIT_PAGER;
	release(run);
	free(run);
	return code;
}
