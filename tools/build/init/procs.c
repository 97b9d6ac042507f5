// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that outlive their test. There is nothing else in the VM: every
 * process but PID 1 and the kernel's threads belongs to the test.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

#define PF_KTHREAD	0x00200000

static bool read_stat(int pid, char *comm, size_t size, char *state, unsigned int *flags)
{
	char path[64], buf[1024], *open_paren, *close_paren;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	len = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[len] = '\0';

	/* A name may contain anything, so the last parenthesis ends it. */
	open_paren = strchr(buf, '(');
	close_paren = strrchr(buf, ')');
	if (!open_paren || !close_paren)
		return false;
	*close_paren = '\0';
	snprintf(comm, size, "%s", open_paren + 1);
	return sscanf(close_paren + 1, " %c %*d %*d %*d %*d %*d %u", state, flags) == 2;
}

typedef void proc_fn(int pid, const char *comm, char state, void *arg);

static int visit_procs(proc_fn *fn, void *arg)
{
	DIR *dir = opendir("/proc");
	struct dirent *de;
	int nr = 0;

	if (!dir)
		return 0;
	while ((de = readdir(dir))) {
		char comm[64], state;
		unsigned int flags;
		int pid = atoi(de->d_name);

		if (!isdigit((unsigned char)de->d_name[0]) || pid == 1)
			continue;
		/*
		 * One that is dead or gone meanwhile counts as well: it may have
		 * forked after the directory was read.
		 */
		if (!read_stat(pid, comm, sizeof(comm), &state, &flags)) {
			nr++;
			continue;
		}
		if (flags & PF_KTHREAD)
			continue;
		nr++;
		fn(pid, comm, state, arg);
	}
	closedir(dir);
	return nr;
}

static void note_one(int pid, const char *comm, char state, void *arg)
{
	snprintf(arg, 80, "pid %d (%.40s) state %c", pid, comm, state);
}

/* How many are left; @who names one of them. */
int procs_left(char *who, size_t size)
{
	char one[80] = "";
	int nr;

	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	nr = visit_procs(note_one, one);
	/* Once more: process numbers wrap, and a child may come before its parent. */
	if (!nr)
		nr = visit_procs(note_one, one);
	snprintf(who, size, "%s", one);
	return nr;
}

static void show_file(int pid, int tid, const char *name)
{
	char path[96], buf[2048], *save, *l;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, name);
	f = fopen(path, "re");
	if (!f)
		return;
	len = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[len] = '\0';
	for (l = strtok_r(buf, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		port_printf("# init:     %s: %s\n", name, l);
}

static void describe_one(int pid, const char *comm, char state, void *arg)
{
	char path[64];
	struct dirent *de;
	DIR *dir;

	(void)arg;
	port_printf("# init: still there: pid %d (%s) state %c\n", pid, comm, state);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((de = readdir(dir))) {
		int tid = atoi(de->d_name);

		if (!tid)
			continue;
		port_printf("# init:   thread %d\n", tid);
		show_file(pid, tid, "wchan");
		show_file(pid, tid, "syscall");
		show_file(pid, tid, "stack");
	}
	closedir(dir);
}

/* Where every thread of a hung test is: the first question when it timed out. */
void procs_describe(void)
{
	visit_procs(describe_one, NULL);
}

/* 0 when all are gone; otherwise how many cannot be killed, which is a kernel bug. */
int procs_kill_all(char *who, size_t size)
{
	int nr, tries;

	for (tries = 0; tries < 2000; tries++) {
		/* From PID 1 this reaches everything but PID 1 itself. */
		kill(-1, SIGKILL);
		nr = procs_left(who, size);
		if (!nr)
			return 0;
		usleep(10000);
	}
	return nr;
}
