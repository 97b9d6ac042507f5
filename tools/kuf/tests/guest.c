// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of kuf share: guests, and results.
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../guest/pattern.h"
#include "cpio.h"
#include "guest.h"
#include "kuf.h"

/* Of one run: more than kuf is told, but by one test. */
#define LIMIT_S		310

static unsigned int planned, done, failed, skipped;

static void die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

void test_make_initrd(void)
{
	static uint64_t pattern[GUEST_PATTERN_SIZE / sizeof(uint64_t)];
	int fd = open(TEST_INIT, O_RDONLY);
	struct stat st;
	void *init;
	FILE *out;
	size_t i;

	if (fd < 0 || fstat(fd, &st))
		die(TEST_INIT);
	init = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (init == MAP_FAILED)
		die(TEST_INIT);
	for (i = 0; i < GUEST_PATTERN_SIZE / sizeof(pattern[0]); i++)
		pattern[i] = guest_pattern(i, GUEST_PATTERN_GENERATION);

	out = fopen(TEST_INITRD, "w");
	if (!out)
		die(TEST_INITRD);
	cpio_node(out, "/dev", S_IFDIR | 0755, 0, 0);
	cpio_node(out, "/dev/console", S_IFCHR | 0600, 5, 1);
	cpio_file(out, "/init", 0755, init, st.st_size);
	cpio_file(out, GUEST_PATTERN_FILE, 0644, pattern, GUEST_PATTERN_SIZE);
	cpio_end(out);
	if (fclose(out))
		die(TEST_INITRD);
	munmap(init, st.st_size);
	close(fd);
}

void test_make_disk(void)
{
	FILE *out = fopen(TEST_DISK, "w");
	uint64_t i, word;

	for (i = 0; out && i < GUEST_DISK_SIZE / sizeof(word); i++) {
		word = guest_pattern(i, GUEST_DISK_GENERATION);
		fwrite(&word, sizeof(word), 1, out);
	}
	if (!out || fclose(out))
		die(TEST_DISK);
}

bool test_copy(const char *from, const char *to)
{
	static char buf[64 << 10], zero[64 << 10];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	off_t at = 0;
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0) {
		if (memcmp(buf, zero, n) && pwrite(out, buf, n, at) != n)
			n = -1;
		if (n < 0)
			break;
		at += n;
	}
	n = n || ftruncate(out, at);
	close(in);
	close(out);
	return !n;
}

bool test_disk_written(void)
{
	uint64_t i, word, nr = GUEST_DISK_SIZE / sizeof(word);
	FILE *in = fopen(TEST_DISK, "r");

	for (i = 0; in && i < nr && fread(&word, sizeof(word), 1, in) == 1; i++) {
		if (word != guest_pattern(i, GUEST_DISK_GENERATION + (i >= nr / 2)))
			break;
	}
	if (!in)
		die(TEST_DISK);
	fclose(in);
	if (i < nr)
		printf("# word %llu of the disk is wrong\n", (unsigned long long)i);
	return i == nr;
}

const char *test_cmdline(unsigned int cpus)
{
	static char line[256];

	/*
	 * No PCI to be looked for, nothing to be calibrated.  Emulated SVM (QEMU 7.2)
	 * does not intercept XSETBV: a guest that enables XSAVE features is not what
	 * KVM believes it to be.
	 */
	snprintf(line, sizeof(line),
		 "console=ttyS0 quiet panic=-1 reboot=k pci=off no_timer_check tsc=reliable noxsave lpj=4000000 nokaslr mitigations=off guest.cpus=%u guest.disk",
		 cpus);
	return line;
}

void test_make_tiny(const char *path, const void *code, size_t size)
{
	u8 image[4096] = {};
	struct boot_params *bp = (struct boot_params *)image;
	FILE *out = fopen(path, "w");

	bp->hdr.setup_sects = 1;
	bp->hdr.boot_flag = 0xaa55;
	bp->hdr.header = 0x53726448;
	bp->hdr.version = 0x020f;
	bp->hdr.loadflags = LOADED_HIGH;
	bp->hdr.cmdline_size = 255;
	bp->hdr.pref_address = 1 << 20;
	bp->hdr.init_size = 1 << 20;
	memcpy(image + 1024, code, size);
	if (!out || fwrite(image, sizeof(image), 1, out) != 1 || fclose(out))
		die(path);
}

void test_start(struct test_run *run, char *const argv[])
{
	int out[2], err[2];
	int i;

	memset(run, 0, sizeof(*run));
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		die("pipe");
	printf("# +");
	for (i = 0; argv[i]; i++)
		printf(strchr(argv[i], ' ') ? " '%.300s'" : " %.300s", argv[i]);
	putchar('\n');
	fflush(stdout);

	run->seconds = -now();
	run->pid = fork();
	if (run->pid < 0)
		die("fork");
	if (!run->pid) {
		dup2(out[1], 1);
		dup2(err[1], 2);
		execv(argv[0], argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	run->out = out[0];
	run->err = err[0];
}

/* Keeps the beginning of what does not fit. */
static bool feed(int fd, char *text, size_t size)
{
	size_t len = strlen(text);
	char rest[4096];
	ssize_t n;

	if (len + 1 < size)
		n = read(fd, text + len, size - 1 - len);
	else
		n = read(fd, rest, sizeof(rest));
	return n > 0;
}

static void close_pipe(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* False when there is nothing left to be read.  A test that hangs would tell nothing. */
static bool read_more(struct test_run *run)
{
	struct pollfd fds[] = {
		{ .fd = run->out, .events = POLLIN },
		{ .fd = run->err, .events = POLLIN },
	};

	if (run->out < 0 && run->err < 0)
		return false;
	if (poll(fds, 2, 1000) < 0)
		return true;
	if (now() + run->seconds > LIMIT_S && !run->killed) {
		printf("# process %d is killed after %d s\n", run->pid, LIMIT_S);
		kill(run->pid, SIGKILL);
		run->killed = true;
	}
	/* A child of it may have the pipes still. */
	if (now() + run->seconds > LIMIT_S + 10) {
		close_pipe(&run->out);
		close_pipe(&run->err);
		return false;
	}
	if (fds[0].revents && !feed(run->out, run->console, sizeof(run->console)))
		close_pipe(&run->out);
	if (fds[1].revents && !feed(run->err, run->said, sizeof(run->said)))
		close_pipe(&run->err);
	return true;
}

/* To the end of its line, which says what. */
static bool guest_failed(const struct test_run *run)
{
	const char *at = strstr(run->console, "guest: FAILED");

	return at && strchr(at, '\n');
}

bool test_wait_for(struct test_run *run, const char *text)
{
	while (!strstr(run->console, text)) {
		if (guest_failed(run) || !read_more(run))
			return false;
	}
	return true;
}

bool test_wait_said(struct test_run *run, const char *text)
{
	while (!strstr(run->said, text)) {
		if (!read_more(run))
			return false;
	}
	return true;
}

bool test_has_ended(const struct test_run *run)
{
	siginfo_t info = {};

	return waitid(P_PID, run->pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

void test_finish(struct test_run *run)
{
	while (read_more(run))
		;
	if (waitpid(run->pid, &run->status, 0) != run->pid)
		die("waitpid");
	run->seconds += now();
}

void test_execute(struct test_run *run, const char *const *args)
{
	char *argv[16] = { TEST_KUF };
	int n;

	for (n = 0; args[n]; n++)
		argv[n + 1] = (char *)args[n];
	test_start(run, argv);
	test_finish(run);
}

static void show(const char *name, const char *text)
{
	size_t len;

	for (; *text; text += len) {
		len = strcspn(text, "\n");
		printf("# %s: %.*s\n", name, (int)len, text);
		len += text[len] == '\n';
	}
}

void test_show(const struct test_run *run)
{
	show("guest", run->console);
	show("kuf", run->said);
	printf("# status 0x%x after %.1f seconds\n", run->status, run->seconds);
}

long long test_number(const struct test_run *run, const char *before)
{
	const char *at = strstr(run->said, before);

	return at ? atoll(at + strlen(before)) : -1;
}

bool test_poison_page(const char *console, const char *name, char *gpa, size_t size)
{
	unsigned long long at, where;
	char said[32];

	while ((console = strstr(console, "guest: poison: gpa "))) {
		if (sscanf(console, "guest: poison: gpa %llx is at %llx %31[a-z].", &at, &where,
			   said) == 3 && !strcmp(said, name)) {
			snprintf(gpa, size, "0x%llx", at);
			return true;
		}
		console++;
	}
	return false;
}

void ktap_plan(unsigned int nr)
{
	planned = nr;
	printf("KTAP version 1\n1..%u\n", nr);
	fflush(stdout);
}

static void line(const char *result, const char *fmt, va_list ap, const char *directive)
{
	printf("%s %u ", result, ++done);
	vprintf(fmt, ap);
	printf("%s\n", directive);
	fflush(stdout);
}

void ktap_result(bool ok, const char *fmt, ...)
{
	va_list ap;

	failed += !ok;
	va_start(ap, fmt);
	line(ok ? "ok" : "not ok", fmt, ap, "");
	va_end(ap);
}

void ktap_skip(const char *why, const char *fmt, ...)
{
	char directive[128];
	va_list ap;

	skipped++;
	snprintf(directive, sizeof(directive), " # SKIP %s", why);
	va_start(ap, fmt);
	line("ok", fmt, ap, directive);
	va_end(ap);
}

int ktap_end(void)
{
	if (done != planned)
		printf("# %u results, but %u were planned\n", done, planned);
	if (failed || done != planned)
		return 1;
	return skipped == done ? KTAP_ALL_SKIPPED : 0;
}
