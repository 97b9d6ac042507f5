// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is broken, read under guard.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"
#include "guards.h"
#include "guest.h"

u8 *guards_pages;

static void make_pages(void)
{
	int fd = memfd_create("pages", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 2 * PAGE_SIZE)) {
		printf("Bail out! memfd\n");
		exit(1);
	}
	guards_pages = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(guards_pages, 0x5a, 2 * PAGE_SIZE);
	if (ftruncate(fd, PAGE_SIZE))
		exit(1);
	close(fd);
}

static int read_second(void *arg)
{
	READ_ONCE(guards_pages[PAGE_SIZE + 77]);
	return 0;
}

static int nest(void *arg)
{
	int *calls = arg;
	u8 byte;

	++*calls;
	if (guard_copy(&byte, guards_pages + PAGE_SIZE, 1) != -EHWPOISON ||
	    guard_copy(&byte, guards_pages, 1) || byte != 0x5a)
		return -EINVAL;
	++*calls;
	read_second(NULL);
	++*calls;
	return 0;
}

static void *copy_often(void *arg)
{
	u8 page[2 * PAGE_SIZE];
	unsigned long bad = 0;
	int i;

	for (i = 0; i < 2000; i++) {
		bad += guard_copy(page, guards_pages, PAGE_SIZE) != 0;
		bad += guard_copy(page, guards_pages, 2 * PAGE_SIZE) != -EHWPOISON;
	}
	return (void *)bad;
}

static bool many_threads(void)
{
	pthread_t threads[4];
	void *bad;
	bool ok = true;
	int i;

	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, copy_often, NULL);
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], &bad);
		ok &= !bad;
	}
	return ok;
}

static void send_sigbus(int code, void *address)
{
	siginfo_t info = { .si_signo = SIGBUS, .si_code = code };

	info.si_addr = address;
	syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS, &info);
}

/* Not foreseen: that is the end, as ever. */
static bool kills(void (*act)(void))
{
	struct rlimit none = {};
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &none);
		act();
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGBUS;
}

static void read_unguarded(void)
{
	guard_call(nest, &(int){ 0 }, NULL);
	read_second(NULL);
}

static void send_unguarded(void)
{
	send_sigbus(BUS_MCEERR_AR, guards_pages);
}

static void send_other(void)
{
	guard_run_begin();
	send_sigbus(BUS_ADRALN, guards_pages);
}

void guards_test(void)
{
	u8 page[PAGE_SIZE];
	void *broken = NULL;
	int calls = 0;

	make_pages();
	ktap_result(!guard_copy(page, guards_pages, PAGE_SIZE) && page[PAGE_SIZE - 1] == 0x5a &&
		    guard_copy(page, guards_pages + PAGE_SIZE, PAGE_SIZE) == -EHWPOISON &&
		    guard_copy(guards_pages + PAGE_SIZE, page, 1) == -EHWPOISON &&
		    !guard_copy(page, guards_pages, PAGE_SIZE), "guard-copy");
	ktap_result(guard_call(read_second, NULL, &broken) == -EHWPOISON &&
		    broken == guards_pages + PAGE_SIZE + 77, "guard-address");
	ktap_result(guard_call(nest, &calls, &broken) == -EHWPOISON && calls == 2, "guard-nested");
	ktap_result(many_threads(), "guard-threads");
	ktap_result(kills(read_unguarded) && kills(send_unguarded) && kills(send_other),
		    "guard-ends");

	guard_run_begin();
	send_sigbus(BUS_MCEERR_AR, guards_pages + 5);
	ktap_result(guard_run_end() == guards_pages + 5, "guard-run");
	/* One of before, and memory that nobody came to so far, are nothing. */
	guard_run_begin();
	send_sigbus(BUS_MCEERR_AO, guards_pages);
	ktap_result(!guard_run_end(), "guard-run-none");
}
