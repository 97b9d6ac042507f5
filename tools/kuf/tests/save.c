// SPDX-License-Identifier: GPL-2.0
/*
 * A Linux guest is saved while it works, and goes on from the file, eagerly and lazily;
 * what is loaded and saved again is the same; and what is damaged is refused.
 *
 * Arguments: anon (one vCPU) or gmem (two); both without.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "guest.h"
#include "kuf.h"

#define SOCKET		"/tmp/kuf-control"
#define SAVED		"/tmp/kuf-saved"
#define SAVED_BAD	"/tmp/kuf-saved-bad"
#define SAVED_AGAIN	"/tmp/kuf-saved-again"
#define DISK_SAVED	"/tmp/kuf-disk-saved"
#define TINY		"/tmp/kuf-tiny"
#define LINUX		"--kernel=" TEST_KERNEL
#define GENERATIONS	32

static struct test_run run, other;
static char nonce[40];
static int last_generation;

static bool ended(const struct test_run *r, int status)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == status;
}

static void result(bool ok, const char *fmt, const char *name)
{
	if (!ok) {
		test_show(&run);
		test_show(&other);
	}
	ktap_result(ok, fmt, name);
}

/* Where a byte of a saved VM belongs. */
static bool tell(const char *path, long long byte, u8 a, u8 b)
{
	long long at = sizeof(struct frame_file);
	int fd = open(path, O_RDONLY);
	struct frame f;

	while (pread(fd, &f, sizeof(f), at) == sizeof(f) && f.type &&
	       byte >= at + (long long)sizeof(f) + f.length)
		at += sizeof(f) + f.length;
	close(fd);
	byte -= at + sizeof(f);
	/* A checksum differs because something else does. */
	if (byte >= 0)
		printf("# byte %lld of type %u, instance %u: 0x%02x, then 0x%02x\n", byte, f.type,
		       f.instance, a, b);
	return byte >= 0;
}

static bool same(const char *a, const char *b)
{
	static char x[64 << 10], y[64 << 10];
	int one = open(a, O_RDONLY), two = open(b, O_RDONLY);
	long long at = 0;
	bool equal = one >= 0 && two >= 0;
	unsigned int told = 0;
	ssize_t n, m, i;

	do {
		n = read(one, x, sizeof(x));
		m = read(two, y, sizeof(y));
		equal &= n == m && n >= 0;
		for (i = 0; i < n && i < m && told < 16; i++) {
			if (x[i] == y[i])
				continue;
			told += tell(a, at + i, x[i], y[i]);
			equal = false;
		}
		at += n;
	} while (n > 0 && m > 0 && told < 16);
	close(one);
	close(two);
	return equal && at > 0;
}

static bool clean(const char *console)
{
	return !strstr(console, "BUG:") && !strstr(console, "WARNING:") &&
	       !strstr(console, "Oops") && !strstr(console, "Call Trace") &&
	       !strstr(console, "guest: FAILED");
}

/* The last one that the guest told of. */
static int generation_of(const char *console)
{
	const char *p = console;
	int generation = 0, n;

	while ((p = strstr(p, "generation "))) {
		p += strlen("generation ");
		n = atoi(p);
		/* The last line may not be complete. */
		if (p[strspn(p, "0123456789")] == '.')
			generation = n;
	}
	return generation;
}

static void test_save(const char *cpus, const char *backing)
{
	char append[320], ncpus[20], kind[20];
	char *argv[16] = { TEST_KUF, "run", LINUX, "--initrd=" TEST_INITRD, append, ncpus, kind,
			 "--mem=96M", "--timeout=300", "--disk=" TEST_DISK, "--control=" SOCKET };
	const char *const wrong[] = { "save", SOCKET, "/none/file", NULL };
	const char *const right[] = { "save", SOCKET, SAVED, NULL };
	const char *at;
	bool ok;

	unlink(SAVED);
	test_make_disk();
	snprintf(append, sizeof(append), "--append=%s guest.keep=%u", test_cmdline(atoi(cpus)),
		 GENERATIONS);
	snprintf(ncpus, sizeof(ncpus), "--cpus=%s", cpus);
	snprintf(kind, sizeof(kind), "--backing=%s", backing);
	test_start(&run, argv);
	ok = test_wait_for(&run, "generation 2.");
	/* It runs on when it cannot be saved. */
	test_execute(&other, wrong);
	ok = ok && ended(&other, KUF_EXIT_FAILED);
	result(ok && test_wait_for(&run, "generation 4."), "save-fails-%s", backing);

	test_execute(&other, right);
	test_finish(&run);
	last_generation = generation_of(run.console);
	at = strstr(run.console, "nonce ");
	snprintf(nonce, sizeof(nonce), "%.22s", at ?: "no nonce");
	printf("# saved in generation %d, %s, after %.1f s\n", last_generation, nonce,
	       run.seconds);
	ok = ended(&other, KUF_EXIT_OK) && ended(&run, KUF_EXIT_OK) &&
	     strstr(run.said, "saved: ") && last_generation < GENERATIONS &&
	     !strstr(run.console, "guest: ok") && clean(run.console) &&
	     test_copy(TEST_DISK, DISK_SAVED) && access(SOCKET, F_OK);
	result(ok, "save-%s", backing);
}

/* Loaded, but not run: saved again it is the same. */
static void test_resave(const char *policy, const char *name)
{
	const char *const args[] = { "restore", SAVED, policy, "--resave=" SAVED_AGAIN,
				     "--disk=" TEST_DISK, NULL };

	unlink(SAVED_AGAIN);
	test_copy(DISK_SAVED, TEST_DISK);
	test_execute(&run, args);
	result(ended(&run, KUF_EXIT_OK) && same(SAVED, SAVED_AGAIN), "resave-%s", name);
}

static void test_restore(const char *policy, const char *pager, const char *backing,
			 const char *name)
{
	const char *const args[] = { "restore", SAVED, policy, "--disk=" TEST_DISK,
				     "--timeout=300", backing, pager, NULL };
	long long served, own;
	bool ok;

	test_copy(DISK_SAVED, TEST_DISK);
	test_execute(&run, args);
	served = test_number(&run, "lazy: ");
	own = test_number(&run, "of these ");
	printf("# %s: %.1f s, %lld pages, %lld own accesses, %lld repeated\n", name, run.seconds,
	       served, own, test_number(&run, "page walks, "));
	/* The same guest, which was not booted again, and missed nothing. */
	ok = ended(&run, KUF_EXIT_OK) && strstr(run.console, "guest: ok") &&
	     clean(run.console) && !strstr(run.console, "guest: up") &&
	     strstr(run.console, nonce) && generation_of(run.console) == GENERATIONS &&
	     test_disk_written();
	if (strstr(policy, "lazy"))
		ok = ok && served > 0 && own > 0;
	else
		ok = ok && served < 0;
	result(ok, "restore-%s", name);
}

/* A byte of a copy becomes another one. */
static void damage(off_t at)
{
	int fd;
	u8 byte;

	test_copy(SAVED, SAVED_BAD);
	fd = open(SAVED_BAD, O_RDWR);
	if (pread(fd, &byte, 1, at) == 1) {
		byte ^= 0x40;
		if (pwrite(fd, &byte, 1, at) != 1)
			byte = 0;
	}
	close(fd);
}

static void refused(const char *policy, const char *disk, int status, const char *says,
		    const char *name)
{
	const char *const args[] = { "restore", SAVED_BAD, policy, "--timeout=60", disk, NULL };

	test_copy(DISK_SAVED, TEST_DISK);
	test_execute(&run, args);
	result(ended(&run, status) && strstr(run.said, says), "refused-%s", name);
}

/* The first page that is not zero and that the guest surely needs: any will do. */
static off_t some_page(void)
{
	struct frame_file file;
	u8 page[PAGE_SIZE];
	int fd = open(SAVED, O_RDONLY);
	off_t at = 0;

	if (pread(fd, &file, sizeof(file), 0) == sizeof(file))
		at = file.data_offset + (16 << 20);
	while (pread(fd, page, sizeof(page), at) == sizeof(page) && !page[0])
		at += PAGE_SIZE;
	close(fd);
	return at;
}

static void test_refused(void)
{
	const char *disk = "--disk=" TEST_DISK;
	struct stat st;

	damage(20);
	refused("--policy=eager", disk, KUF_EXIT_FAILED, "the header is damaged", "header");
	damage(0);
	refused("--policy=eager", disk, KUF_EXIT_FAILED, "this is no saved VM", "magic");
	damage(sizeof(struct frame_file) + 3000);
	refused("--policy=lazy", disk, KUF_EXIT_FAILED, "is damaged (CRC32C)", "frame");
	damage(some_page());
	refused("--policy=eager", disk, KUF_EXIT_FAILED, "is damaged (CRC32C)", "page");
	test_copy(SAVED, SAVED_BAD);
	refused("--policy=eager", "--timeout=61", KUF_EXIT_FAILED, "has a disk", "no-disk");
	refused("--policy=eager", "--disk=" TEST_INITRD, KUF_EXIT_FAILED, "sectors instead of",
		"other-disk");
	if (stat(SAVED_BAD, &st) || truncate(SAVED_BAD, st.st_size - PAGE_SIZE))
		perror(SAVED_BAD);
	refused("--policy=eager", disk, KUF_EXIT_FAILED, "bytes long instead of", "short");
}

/*
 * As a hypervisor does around a run of its guest:
 * mov $0xc0000080, %ecx; rdmsr; or $0x1000, %eax; wrmsr; clgi; mov $'!', %al;
 * mov $0x3f8, %dx; out %al, (%dx); jmp .
 */
static const char hypervisor[] = "\xb9\x80\x00\x00\xc0\x0f\x32\x0d\x00\x10\x00\x00\x0f\x30"
				 "\x0f\x01\xdd\xb0\x21\x66\xba\xf8\x03\xee\xeb\xfe";

static void test_hypervisor(void)
{
	char *argv[10] = { TEST_KUF, "run", "--kernel=" TINY, "--entry=32", "--mem=64M",
			 "--timeout=30", "--control=" SOCKET };
	const char *const save[] = { "save", SOCKET, SAVED_AGAIN, NULL };

	unlink(SAVED_AGAIN);
	test_make_tiny(TINY, hypervisor, sizeof(hypervisor) - 1);
	test_start(&run, argv);
	test_wait_for(&run, "!");
	test_execute(&other, save);
	test_finish(&run);
	result(ended(&other, KUF_EXIT_FAILED) && ended(&run, KUF_EXIT_TIMEOUT) &&
	       strstr(run.said, "a guest of its own") && access(SAVED_AGAIN, F_OK), "%s",
	       "refused-hypervisor");
}

static void test_anon(void)
{
	test_save("1", "anon");
	test_resave("--policy=eager", "eager");
	test_resave("--policy=lazy", "lazy");
	test_restore("--policy=eager", NULL, "--backing=anon", "eager");
	test_restore("--policy=lazy", NULL, "--backing=anon", "lazy-process");
	test_refused();
	test_hypervisor();
}

static void test_gmem(void)
{
	test_save("2", "gmem");
	test_restore("--policy=lazy", "--pager=thread", "--backing=gmem", "lazy-thread-gmem");
	test_restore("--policy=eager", NULL, "--backing=shmem", "eager-shmem");
}

int main(int argc, char **argv)
{
	bool anon = argc < 2 || !strcmp(argv[1], "anon");
	bool gmem = argc < 2 || !strcmp(argv[1], "gmem");

	if (!anon && !gmem) {
		printf("Bail out! anon or gmem, not %s\n", argv[1]);
		return 1;
	}
	test_make_initrd();
	ktap_plan(14 * anon + 4 * gmem);
	if (anon)
		test_anon();
	if (gmem)
		test_gmem();
	return ktap_end();
}
