// SPDX-License-Identifier: GPL-2.0
/*
 * Pagers that are this program again; and what VMs find in their pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "pagerd.h"
#include "pagerd_kills.h"
#include "saved.h"

struct fakevm fakes[VMS];

int run_pager(const char *user)
{
	struct pagerd_options o = { .path = SOCKET, .max_vms = 8 };
	struct pagerd d;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (user && setuid(atoi(user)))
		return 1;
	err = pagerd_open(&d, &o);
	if (!err)
		err = pagerd_catch_signals(&d);
	/* Others are to be refused by what they check themselves. */
	if (!err && user)
		err = chmod(SOCKET, 0666) ? -errno : 0;
	while (!err)
		err = pagerd_round(&d, -1);
	pagerd_close(&d);
	return err < 0;
}

pid_t start_pager(const char *user)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/proc/self/exe", "kuf_pagerd_kills_test", "pager", user, NULL);
		_exit(1);
	}
	return pid;
}

void await_pager(void)
{
	struct sockaddr_un address;
	int i, fd, err = -1;

	control_address(&address, SOCKET);
	for (i = 0; i < 20000 && err; i++) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		err = connect(fd, (struct sockaddr *)&address, sizeof(address));
		close(fd);
		if (err)
			usleep(1000);
	}
}

int end_pager(pid_t pid, int how)
{
	int status = -1;

	kill(pid, how);
	waitpid(pid, &status, 0);
	return status;
}

u64 *page_of(struct fakevm *f, u64 page)
{
	return (u64 *)(f->vm.mem.area + page * PAGE_SIZE);
}

/* Zeroes are written to as well. */
bool is_marked(struct fakevm *f, u64 page)
{
	u64 copy[PAGE_SIZE / sizeof(u64)], *p = page_of(f, page), saved = p[7];
	bool ok;

	if (p[9] != MARK(page))
		return false;
	memcpy(copy, p, PAGE_SIZE);
	/* What was there is kept in another word. */
	copy[9] = saved ^ MARK(page);
	copy[7] = copy[8] ? copy[8] - 1 : 0;
	ok = saved_page_is(f->number, page, copy);
	return ok;
}

void mark_page(struct fakevm *f, u64 page)
{
	u64 *p = page_of(f, page);

	p[7] = p[9] ^ MARK(page);
	__atomic_store_n(&p[9], MARK(page), __ATOMIC_RELEASE);
}

u64 wrong_pages(struct fakevm *f)
{
	u64 page, wrong = 0;

	for (page = 0; page < SAVED_PAGES; page++) {
		if (!fakevm_present(f, page))
			continue;
		wrong += !saved_page_is(f->number, page, page_of(f, page)) && !is_marked(f, page);
	}
	return wrong;
}
