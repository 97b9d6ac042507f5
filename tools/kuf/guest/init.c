// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's only program, as its PID 1: checks that the machine is sound, says
 * "guest: ok" if so, and resets it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define PAGE		4096ul
#define WORDS		(PAGE / sizeof(uint64_t))
#define TOUCH_BYTES	(8ul << 20)	/* a CPU */
#define GENERATIONS	3
#define KEEP_DIRTY_MIB	8
#define KEEP_PAUSE_MS	50

int failures;

void failed(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("guest: FAILED: %s\n", text);
}

static const char *read_line(const char *path)
{
	static char line[4096];
	FILE *f = fopen(path, "r");

	line[0] = '\0';
	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
		fclose(f);
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

/* What came by way of the boot loader, the decompressor and the unpacker. */
static void check_pattern_file(void)
{
	uint64_t words[WORDS], word = 0;
	int fd = open(GUEST_PATTERN_FILE, O_RDONLY);
	ssize_t n;
	size_t i;

	if (fd < 0) {
		failed("%s: %s", GUEST_PATTERN_FILE, strerror(errno));
		return;
	}
	while ((n = read(fd, words, sizeof(words))) > 0) {
		for (i = 0; i < n / sizeof(words[0]); i++, word++) {
			if (words[i] == guest_pattern(word, GUEST_PATTERN_GENERATION))
				continue;
			failed("%s: word %llu is wrong", GUEST_PATTERN_FILE,
			       (unsigned long long)word);
			goto out;
		}
	}
	if (word * sizeof(words[0]) != GUEST_PATTERN_SIZE)
		failed("%s has only %llu words", GUEST_PATTERN_FILE, (unsigned long long)word);
out:
	close(fd);
}

/* All of new memory is zero; what is written there stays, until it is overwritten. */
static int check_memory(void)
{
	uint64_t words = TOUCH_BYTES / sizeof(uint64_t), i, generation, want;
	uint64_t *p = mmap(NULL, TOUCH_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 1;
	for (generation = 0; generation < GENERATIONS; generation++) {
		for (i = 0; i < words; i++) {
			want = generation ? guest_pattern(i, generation) : 0;
			if (p[i] != want)
				return 2;
			p[i] = guest_pattern(i, generation + 1);
		}
		sched_yield();
	}
	return 0;
}

/* On each CPU at the same time. */
static void check_memory_everywhere(int cpus)
{
	int cpu, status;
	cpu_set_t set;

	for (cpu = 0; cpu < cpus; cpu++) {
		if (fork())
			continue;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		_exit(sched_setaffinity(0, sizeof(set), &set) ? 3 : check_memory());
	}
	while (wait(&status) > 0) {
		if (status)
			failed("memory: status 0x%x", status);
	}
}

static void check_disk(void)
{
	uint64_t words[WORDS], word = 0, half = GUEST_DISK_SIZE / sizeof(words[0]) / 2;
	int fd = open(GUEST_DISK, O_RDWR);
	size_t i;

	if (fd < 0) {
		failed("%s: %s", GUEST_DISK, strerror(errno));
		return;
	}
	while (read(fd, words, sizeof(words)) == sizeof(words)) {
		for (i = 0; i < WORDS; i++, word++) {
			if (words[i] == guest_pattern(word, GUEST_DISK_GENERATION))
				continue;
			failed("%s: word %llu is wrong", GUEST_DISK, (unsigned long long)word);
			goto out;
		}
	}
	if (word != 2 * half)
		failed("%s: only %llu words", GUEST_DISK, (unsigned long long)word);
	lseek(fd, GUEST_DISK_SIZE / 2, SEEK_SET);
	for (word = half; word < 2 * half;) {
		for (i = 0; i < WORDS; i++, word++)
			words[i] = guest_pattern(word, GUEST_DISK_GENERATION + 1);
		if (write(fd, words, sizeof(words)) != sizeof(words)) {
			failed("%s: %s", GUEST_DISK, strerror(errno));
			goto out;
		}
	}
	if (fsync(fd))
		failed("%s: fsync: %s", GUEST_DISK, strerror(errno));
out:
	close(fd);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Time goes on, forwards, and timers come; all by way of what KVM writes for it. */
static void check_clock(void)
{
	double start = now(), last = start, t;
	int i;

	for (i = 0; i < 5; i++) {
		usleep(10000);
		t = now();
		if (t < last + 0.01)
			failed("the clock: %f after %f", t, last);
		last = t;
	}
	if (last - start > 30)
		failed("50 ms took %f seconds", last - start);
	if (time(NULL) < 1577836800)
		failed("the wall clock says %lld", (long long)time(NULL));
}

/* A number of the kernel's command line, or @otherwise. */
static unsigned int parameter(const char *cmdline, const char *name, unsigned int otherwise)
{
	const char *arg = strstr(cmdline, name);

	return arg ? atoi(arg + strlen(name)) : (int)otherwise;
}

int main(void)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int wanted, generations, poison;
	char cmdline[4096];

	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("sys", "/sys", "sysfs", 0, NULL) ||
	    mount("dev", "/dev", "devtmpfs", 0, NULL))
		failed("mount: %s", strerror(errno));

	printf("guest: up, %d CPUs, %ld MiB, clock %s\n", cpus,
	       sysconf(_SC_PHYS_PAGES) / 256,
	       read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
	snprintf(cmdline, sizeof(cmdline), "%s", read_line("/proc/cmdline"));
	wanted = parameter(cmdline, "guest.cpus=", 1);
	if (cpus != (int)wanted)
		failed("%d CPUs instead of %u", cpus, wanted);

	poison = parameter(cmdline, "guest.poison=", 0);
	if (poison)
		poison_start();
	generations = parameter(cmdline, "guest.keep=", 0);
	if (generations)
		keep_going(generations, parameter(cmdline, "guest.dirty=", KEEP_DIRTY_MIB),
			   parameter(cmdline, "guest.pause=", KEEP_PAUSE_MS), cpus);
	if (poison)
		poison_wait();
	check_pattern_file();
	check_memory_everywhere(cpus);
	check_clock();
	if (strstr(cmdline, "guest.disk") && !generations)
		check_disk();
	printf("guest: %s\n", read_line("/proc/stat"));
	if (!failures)
		printf("guest: ok\n");
	reboot(RB_AUTOBOOT);
	return 1;
}
