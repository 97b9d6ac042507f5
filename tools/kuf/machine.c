// SPDX-License-Identifier: GPL-2.0
/*
 * What a VM is made of, apart from where its state comes from.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "machine.h"
#include "reset.h"

void machine_init(struct machine *m)
{
	*m = (struct machine){
		.source_fd = -1,
		.counts_fd = -1,
		.console_fd = -1,
		.vm = { .fd = -1, .kvm_fd = -1, .mem = { .fd = -1, .bitmap_fd = -1 } },
	};
}

int machine_plug_devices(struct machine *m, const char *console, const char *disk)
{
	struct bus_range uart = { UART_PORT, UART_PORTS, uart_access, &m->uart };
	int err;

	m->console_fd = STDOUT_FILENO;
	if (console) {
		m->console_fd = open(console, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (m->console_fd < 0)
			return kuf_error(-errno, "%s", console);
	}
	uart_init(&m->uart, &m->vm, m->console_fd);
	err = bus_add(&m->vm.ports, &uart);
	if (!err)
		err = reset_plug(&m->vm);
	if (!err && disk) {
		err = blk_start(&m->blk, &m->vm, disk);
		m->has_blk = !err;
	}
	return err;
}

int machine_enable_userfault(struct machine *m, enum pager_mode how, bool own)
{
	u64 features = KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS;

	if (how != PAGER_EXIT)
		features |= KVM_USERFAULT_FEATURE_FD;
	if (own)
		features |= KVM_USERFAULT_FEATURE_OWN;
	return vm_enable_userfault(&m->vm, features);
}

int machine_start_pager(struct machine *m, enum pager_mode how)
{
	struct pager *pager = &m->pager;
	void *counts;
	int err;

	m->counts_fd = mem_file("kuf-counts", pager_counts_size(m->vm.mem.size), &counts);
	if (m->counts_fd < 0)
		return m->counts_fd;
	*pager = (struct pager){
		.mode = how,
		.mem = m->vm.mem,
		.source = m->source,
		.uffd = -1,
		.remote_fd = -1,
		.ask_fd = -1,
		.counts = counts,
	};
	pthread_mutex_init(&pager->lock, NULL);
	m->vm.pager = pager;
	if (how == PAGER_EXIT)
		return 0;

	pager->uffd = vm_userfault_fd(&m->vm);
	if (pager->uffd < 0)
		return pager->uffd;
	if (how == PAGER_THREAD)
		return server_start_thread(&m->server, pager);
	err = server_start_process(&m->server, pager, m->source_fd, m->counts_fd);
	close(pager->uffd);
	pager->uffd = -1;
	return err;
}

int machine_pause(struct machine *m)
{
	int err = vcpus_pause(&m->vm);

	/* The vCPUs first: they give the disk its requests. */
	if (!err)
		blk_pause(&m->blk);
	return err;
}

void machine_resume(struct machine *m)
{
	blk_resume(&m->blk);
	vcpus_resume(&m->vm);
}

int machine_wait(struct machine *m, int err, unsigned int timeout_s)
{
	if (err) {
		/* Threads may be there already. */
		vm_stop(&m->vm, KUF_EXIT_FAILED);
		return KUF_EXIT_FAILED;
	}
	if (vm_wait(&m->vm, timeout_s)) {
		kuf_error(0, "the guest still runs after %u seconds", timeout_s);
		vm_stop(&m->vm, KUF_EXIT_TIMEOUT);
	}
	return m->vm.exit_code;
}

int machine_finish(struct machine *m, int code)
{
	vcpus_join(&m->vm);
	blk_stop(&m->blk);
	if (code >= KUF_EXIT_CRASH && code < KUF_EXIT_GUEST)
		machine_say_where(m);
	/* What the guest ended with does not count if it was not given its memory. */
	if (server_stop(&m->server) || (m->pager.counts && pager_report(&m->pager)))
		code = KUF_EXIT_PAGER;
	return code;
}

void machine_release(struct machine *m)
{
	u64 size = m->pager.mem.size;

	vm_destroy(&m->vm);
	if (m->pager.counts)
		munmap(m->pager.counts, pager_counts_size(size));
	if (m->counts_fd >= 0)
		close(m->counts_fd);
	if (m->source.map)
		munmap(m->source.map, m->source.map_size);
	if (m->source_fd >= 0)
		close(m->source_fd);
	if (m->console_fd >= 0 && m->console_fd != STDOUT_FILENO)
		close(m->console_fd);
}
