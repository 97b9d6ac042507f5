// SPDX-License-Identifier: GPL-2.0
/*
 * What a VM is made of, apart from where its state comes from.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "reset.h"

void machine_init(struct machine *m)
{
	*m = (struct machine){
		.console_fd = -1,
		.given_lock = PTHREAD_MUTEX_INITIALIZER,
		.vm = { .fd = -1, .kvm_fd = -1, .mem = { .fd = -1 } },
	};
	pager_init(&m->pager);
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

int machine_fork_pager(struct machine *m, const struct pager_config *config)
{
	return pager_fork(&m->pager, config);
}

int machine_start_pager(struct machine *m, const struct pager_config *config)
{
	static const struct pager_config none = { .mode = PAGER_NONE };

	m->pager.poisoned = m->poisoned;
	return pager_start(&m->pager, &m->vm, config ?: &none);
}

void machine_report(struct machine *m, struct kuf_report *report)
{
	pager_report(&m->pager, report);
}

int machine_pause(struct machine *m)
{
	int err = vcpus_pause(&m->vm);

	/* The vCPUs first: they give the disk its requests. */
	if (!err)
		blk_pause(&m->blk);
	return err;
}

void machine_say_paused(struct machine *m)
{
	kuf_say("the guest stands still, %u disk requests in flight", blk_in_flight(&m->blk));
}

void machine_resume(struct machine *m)
{
	blk_resume(&m->blk);
	vcpus_resume(&m->vm);
}

/*
 * Of all who wait for a page: nobody may fill it any more.  Devices, and jobs of the control
 * socket, only once no vCPU can take for content what they are let go with.
 */
static void let_go(struct machine *m)
{
	vcpus_kick(&m->vm);
	pager_cancel(&m->pager);
	m->stuck = vcpus_wait(&m->vm);
	if (!m->stuck)
		pager_let_go(&m->pager);
}

int machine_wait(struct machine *m, int err, unsigned int timeout_s)
{
	if (err) {
		/* Threads may be there already. */
		vm_stop(&m->vm, KUF_EXIT_FAILED);
		let_go(m);
		return KUF_EXIT_FAILED;
	}
	if (vm_wait(&m->vm, timeout_s))
		kuf_error(0, "the guest still runs after %u seconds", timeout_s);
	let_go(m);
	return m->vm.exit_code;
}

/*
 * A vCPU for which KVM itself accesses an absent page waits where no signal ends that
 * before the page is there, but the end of the process.
 */
static void leave(int code)
{
	fflush(NULL);
	_exit(code);
}

int machine_finish(struct machine *m, int code)
{
	if (m->stuck)
		leave(code);
	vcpus_join(&m->vm);
	blk_stop(&m->blk);
	if (code >= KUF_EXIT_CRASH && code < KUF_EXIT_GUEST)
		machine_say_where(m);
	/* What the guest ended with does not count if it was not given its memory. */
	if (pager_stop(&m->pager))
		code = KUF_EXIT_PAGER;
	if (pager_write_recording(&m->pager) && code == KUF_EXIT_OK)
		code = KUF_EXIT_FAILED;
	return code;
}

void machine_release(struct machine *m)
{
	/* KVM reads the pager's bitmaps. */
	vm_destroy(&m->vm);
	pager_release(&m->pager);
	free(m->poisoned);
	m->poisoned = NULL;
	if (m->console_fd >= 0 && m->console_fd != STDOUT_FILENO)
		close(m->console_fd);
}
