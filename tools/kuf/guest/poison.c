// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that turns out to be broken.  Processes tell the host where a page of theirs is,
 * and use it until it is: whoever touches it gets SIGBUS with its address, a system call
 * that copies it an error.  That a page is broken is also how the host says that it is
 * time to look at others, which were not touched for as long.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "pattern.h"

#define SYSLOG_ACTION_READ_ALL	3
#define PAGE		4096ul
#define WORDS		(PAGE / sizeof(uint64_t))
#define POLL_US		50000
#define PATIENCE_NS	300000000000ull
#define PRESENT		0x8000000000000000ull
#define FRAME_MASK	0x7fffffffffffffull

struct page {
	const char *name;
	uint64_t *words;
	uint64_t gpa;
};

static pid_t children[2];
static sigjmp_buf back;
static siginfo_t got;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	got = *info;
	siglongjmp(back, 1);
}

static uint64_t address_of(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (pread(fd, &entry, sizeof(entry), (uintptr_t)p / PAGE * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry & PRESENT ? (entry & FRAME_MASK) * PAGE : 0;
}

/* Tests wait for the line, whose last word is the page's name and full stop. */
static bool make(struct page *p, const char *name)
{
	int fd = open(GUEST_DISK, O_RDONLY | O_DIRECT);
	size_t i;

	p->name = name;
	p->words = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->words == MAP_FAILED || mlock(p->words, PAGE))
		return false;
	/* By the disk at first: then the host's VMM has it mapped, for the host to find. */
	if (pread(fd, p->words, PAGE, 0) != (ssize_t)PAGE)
		failed("%s: %s", GUEST_DISK, strerror(errno));
	close(fd);
	for (i = 0; i < WORDS; i++)
		p->words[i] = guest_pattern(i, 1);
	p->gpa = address_of(p->words);
	printf("guest: poison: gpa 0x%llx is at 0x%llx %s.\n", (unsigned long long)p->gpa,
	       (unsigned long long)(uintptr_t)p->words, name);
	return p->gpa;
}

/* In kB. */
static long corrupted(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "HardwareCorrupted: %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/* True when that is SIGBUS, false when it is not; other content ends the process. */
static bool touch(const struct page *p)
{
	if (sigsetjmp(back, 1))
		return true;
	if (__atomic_load_n(&p->words[WORDS / 2], __ATOMIC_RELAXED) !=
	    guest_pattern(WORDS / 2, 1)) {
		failed("%s: its content is another one", p->name);
		_exit(1);
	}
	return false;
}

static bool tell(const struct page *p, long before)
{
	long after = corrupted();
	bool own = (uintptr_t)got.si_addr / PAGE == (uintptr_t)p->words / PAGE;

	if (got.si_code != BUS_MCEERR_AR || !own || got.si_addr_lsb != 12)
		failed("%s: SIGBUS of code %d at %p, %d bits", p->name, got.si_code, got.si_addr,
		       got.si_addr_lsb);
	else if (after < before + (long)PAGE / 1024)
		failed("%s: HardwareCorrupted is %ld kB, and was %ld kB", p->name, after, before);
	else
		printf("guest: poison: SIGBUS at %p, gpa 0x%llx, corrupted %ld kB, %s told.\n",
		       got.si_addr, (unsigned long long)p->gpa, after, p->name);
	return !failures;
}

static bool wait_broken(const struct page *p)
{
	uint64_t until = now_ns() + PATIENCE_NS;
	long before = corrupted();

	while (!touch(p)) {
		usleep(POLL_US);
		if (now_ns() > until) {
			failed("%s: not poisoned", p->name);
			return false;
		}
	}
	return tell(p, before);
}

/* It was poisoned for long. */
static bool is_broken(const struct page *p)
{
	long before = corrupted();

	if (touch(p))
		return tell(p, before);
	failed("%s: not poisoned any more", p->name);
	return false;
}

/*
 * The kernel reads it on behalf of the process, which lives.  The process itself must not
 * look there: the page may be lost by then.
 */
static bool wait_not_copied(const struct page *p)
{
	uint64_t until = now_ns() + PATIENCE_NS;
	uint64_t copy[WORDS];
	int ends[2];
	ssize_t n;
	size_t i;

	if (pipe(ends))
		return false;
	while ((n = write(ends[1], p->words, PAGE)) > 0) {
		/* Lost in the middle of it: the next one finds it so at its beginning. */
		if (read(ends[0], copy, n) != n)
			return false;
		for (i = 0; i < n / sizeof(copy[0]); i++) {
			if (copy[i] != guest_pattern(i, 1)) {
				failed("%s: what was copied is something else", p->name);
				return false;
			}
		}
		usleep(POLL_US);
		if (now_ns() > until) {
			failed("%s: not poisoned", p->name);
			return false;
		}
	}
	if (n != -1 || errno != EFAULT) {
		failed("%s: write() of it: %zd, %s", p->name, n, strerror(errno));
		return false;
	}
	printf("guest: poison: write() of gpa 0x%llx: %s, corrupted %ld kB, %s told.\n",
	       (unsigned long long)p->gpa, strerror(EFAULT), corrupted(), p->name);
	return true;
}

/* A device writes there. */
static bool wait_not_read(const struct page *p)
{
	uint64_t until = now_ns() + PATIENCE_NS;
	int fd = open(GUEST_DISK, O_RDONLY | O_DIRECT);
	ssize_t n;

	while ((n = pread(fd, p->words, PAGE, 0)) == (ssize_t)PAGE) {
		usleep(POLL_US);
		if (now_ns() > until) {
			failed("%s: not poisoned", p->name);
			return false;
		}
	}
	if (n >= 0 || errno != EIO) {
		failed("%s: read() into it: %zd, %s", p->name, n, strerror(errno));
		return false;
	}
	close(fd);
	printf("guest: poison: disk to gpa 0x%llx: %s\n", (unsigned long long)p->gpa,
	       strerror(EIO));
	return true;
}

static bool first(void)
{
	struct page used, copied, dma;

	return make(&copied, "copied") && make(&dma, "dma") && make(&used, "used") &&
	       wait_broken(&used) && wait_not_copied(&copied) && wait_not_read(&dma) &&
	       /* What only a device has met the kernel would give to somebody else. */
	       wait_broken(&dma);
}

static bool second(void)
{
	struct page signal, kept, late;

	return make(&kept, "kept") && make(&late, "late") && make(&signal, "signal") &&
	       wait_broken(&signal) && is_broken(&kept) && is_broken(&late);
}

static pid_t start(bool (*run)(void))
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	sigaction(SIGBUS, &action, NULL);
	_exit(!run());
}

/*
 * The kernel tells of each error, in the middle of lines that tests read.  What else it
 * says is looked at in the end; to see why a guest does not get there leave this out.
 */
static void silence(void)
{
	int fd = open("/proc/sys/kernel/printk", O_WRONLY);

	if (write(fd, "0\n", 2) != 2)
		failed("/proc/sys/kernel/printk: %s", strerror(errno));
	close(fd);
}

static void check_log(void)
{
	static const char * const bad[] = { "WARNING:", "BUG:", "Oops", "Call Trace" };
	static char log[256 << 10];
	int n = klogctl(SYSLOG_ACTION_READ_ALL, log, sizeof(log) - 1);
	size_t i;

	for (i = 0; n > 0 && i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (strstr(log, bad[i]))
			failed("the kernel says: %.200s", strstr(log, bad[i]));
	}
	if (n <= 0 || !strstr(log, "Memory failure: "))
		failed("the kernel does not tell of memory failures");
}

void poison_start(void)
{
	silence();
	children[0] = start(first);
	children[1] = start(second);
}

void poison_wait(void)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < 2; i++) {
		pid = wait(&status);
		if (pid < 0 || status)
			failed("poison: process %d ended with 0x%x", pid == children[1], status);
	}
	check_log();
	if (!failures)
		printf("guest: poison ok\n");
}
