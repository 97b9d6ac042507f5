// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of a Linux guest are lost: the process that uses one is told, with its address, and
 * the guest lives; and it is so wherever the guest goes.
 *
 * Arguments: run (one vCPU, anon), smp (two, gmem), save (and restore, in every way),
 * migrate, host (memory of the host that breaks); all without.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "kuf.h"

#define CONTROL		"/tmp/kuf-control"
#define CONTROL_B	"/tmp/kuf-control-b"
#define ADDRESS		"unix:/tmp/kuf-stream-b"
#define SAVED		"/tmp/kuf-saved"
#define SAVED_AGAIN	"/tmp/kuf-saved-again"
#define TINY		"/tmp/kuf-tiny"
#define RECORDING	"/tmp/kuf-recording"
#define DISK_SAVED	"/tmp/kuf-disk-saved"
#define LINUX		"--kernel=" TEST_KERNEL
#define DISK		"--disk=" TEST_DISK
#define MEM_MIB		96
#define HWPOISON	"/sys/kernel/debug/hwpoison/corrupt-pfn"

static struct test_run a, b, asks, sends;

static bool ended(const struct test_run *r, int status)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == status;
}

static bool clean(const struct test_run *r)
{
	return !strstr(r->console, "BUG:") && !strstr(r->console, "WARNING:") &&
	       !strstr(r->console, "Oops") && !strstr(r->console, "Call Trace") &&
	       !strstr(r->console, "guest: FAILED");
}

static bool result(bool ok, const char *name, const char *kind)
{
	if (!ok) {
		test_show(&a);
		test_show(&b);
		test_show(&asks);
		test_show(&sends);
	}
	ktap_result(ok, "%s-%s", name, kind);
	return ok;
}

static int ask(char *command, const char *control, const char *x, const char *y, const char *z)
{
	char *argv[8] = { TEST_KUF, command, (char *)control, (char *)x, (char *)y, (char *)z };

	test_start(&asks, argv);
	test_finish(&asks);
	return WIFEXITED(asks.status) ? WEXITSTATUS(asks.status) : -1;
}

static void boot(const char *cpus, const char *backing)
{
	char append[400], ncpus[20], kind[20], mem[20];
	char *argv[16] = { TEST_KUF, "run", LINUX, "--initrd=" TEST_INITRD, append, ncpus, kind,
			   mem, "--timeout=200", DISK, "--control=" CONTROL };

	memset(&b, 0, sizeof(b));
	memset(&asks, 0, sizeof(asks));
	memset(&sends, 0, sizeof(sends));
	test_make_disk();
	unlink(CONTROL);
	snprintf(append, sizeof(append), "--append=%s guest.poison=1", test_cmdline(atoi(cpus)));
	snprintf(ncpus, sizeof(ncpus), "--cpus=%s", cpus);
	snprintf(kind, sizeof(kind), "--backing=%s", backing);
	snprintf(mem, sizeof(mem), "--mem=%uM", MEM_MIB);
	test_start(&a, argv);
}

/* Where the guest has the page of that name, which it says on @r's console. */
static bool page_of(struct test_run *r, const char *name, char *gpa, size_t size)
{
	char text[80];

	snprintf(text, sizeof(text), " %s.", name);
	return test_wait_for(r, text) && test_poison_page(r->console, name, gpa, size);
}

static bool poison(struct test_run *announced, const char *control, const char *name)
{
	char gpa[40];

	return page_of(announced, name, gpa, sizeof(gpa)) &&
	       ask("poison", control, gpa, NULL, NULL) == KUF_EXIT_OK;
}

static bool told(struct test_run *r, const char *name)
{
	char text[40];

	snprintf(text, sizeof(text), "%s told.", name);
	return test_wait_for(r, text);
}

/* The guest's first process, one page after the other. */
static bool first_process(struct test_run *r, const char *control)
{
	return poison(r, control, "used") && told(r, "used") &&
	       poison(r, control, "copied") && told(r, "copied") &&
	       poison(r, control, "dma") && told(r, "dma");
}

static bool counts(const char *control, unsigned int nr)
{
	static const char name[] = "\"poisoned\": ";
	const char *at;

	if (ask("status", control, "--json", NULL, NULL) != KUF_EXIT_OK)
		return false;
	at = strstr(asks.console, name);
	return at && atoi(at + strlen(name)) == (int)nr;
}

/* What the guest says at its end. */
static bool content(const struct test_run *r)
{
	return ended(r, KUF_EXIT_OK) && clean(r) && strstr(r->console, "guest: poison ok") &&
	       strstr(r->console, "guest: ok");
}

static void say_lines(const struct test_run *r)
{
	const char *at;

	for (at = strstr(r->console, "guest: poison"); at; at = strstr(at + 1, "guest: poison"))
		printf("# %.*s\n", (int)strcspn(at, "\r\n"), at);
}

static void test_run_here(const char *cpus, const char *backing, const char *kind)
{
	char gpa[40];
	bool ok;

	boot(cpus, backing);
	ok = page_of(&a, "signal", gpa, sizeof(gpa)) && page_of(&a, "used", gpa, sizeof(gpa));
	ok = ok && counts(CONTROL, 0);
	/* Not whole pages, no memory, the hole. */
	ok = ok && ask("poison", CONTROL, "0x1234", NULL, NULL) == KUF_EXIT_USAGE &&
	     ask("poison", CONTROL, "0x40000000", NULL, NULL) == KUF_EXIT_FAILED &&
	     ask("poison", CONTROL, "0x5fff000", "0x2000", NULL) == KUF_EXIT_FAILED &&
	     counts(CONTROL, 0);
	result(ok, "refused", kind);

	ok = ok && poison(&a, CONTROL, "used") && told(&a, "used") && counts(CONTROL, 1);
	result(ok, "sigbus", kind);
	ok = ok && poison(&a, CONTROL, "copied") && told(&a, "copied") && counts(CONTROL, 2);
	result(ok, "efault", kind);
	ok = ok && poison(&a, CONTROL, "dma") && told(&a, "dma") && counts(CONTROL, 3);
	result(ok, "disk", kind);
	/* Poisoned, cleared, and poisoned again before the guest looks. */
	ok = ok && page_of(&a, "kept", gpa, sizeof(gpa)) && poison(&a, CONTROL, "kept") &&
	     counts(CONTROL, 4) &&
	     ask("poison", CONTROL, gpa, "--clear", NULL) == KUF_EXIT_OK && counts(CONTROL, 3) &&
	     poison(&a, CONTROL, "kept") && poison(&a, CONTROL, "kept") && counts(CONTROL, 4);
	ok = ok && poison(&a, CONTROL, "late") && poison(&a, CONTROL, "signal");
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	say_lines(&a);
	result(ok && content(&a), "lives", kind);
}

/*
 * Guests that cannot be told, which end.  All say "!" and then use a page at 3 MiB for ever:
 *
 * mov $'!', %al; mov $0x3f8, %dx; out %al, (%dx); 1: mov 0x300000, %eax; jmp 1b
 */
#define USED		"0x300000"
#define SAY_AND_USE	"\xb0\x21\x66\xba\xf8\x03\xee\xa1\x00\x00\x30\x00\xeb\xf9"
/* mov %cr4, %eax; or $0x40, %al; mov %eax, %cr4 */
#define SET_MCE		"\x0f\x20\xe0\x0c\x40\x0f\x22\xe0"
/* mov $0x17b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr */
#define CLEAR_MCG_CTL	"\xb9\x7b\x01\x00\x00\x31\xc0\x31\xd2\x0f\x30"

/*
 * That page has its IDT:
 * mov $0x200000, %esp; movl $0x10003b, 0x300018; movl $0x108e00, 0x30001c; lidt 0x10003c;
 * say; 1: int3; jmp 1b; iret (at 0x3b); .word 0x7ff; .long 0x300000
 */
#define USE_IDT		"\xbc\x00\x00\x20\x00" SET_MCE				\
			"\xc7\x05\x18\x00\x30\x00\x3b\x00\x10\x00"		\
			"\xc7\x05\x1c\x00\x30\x00\x00\x8e\x10\x00"		\
			"\x0f\x01\x1d\x3c\x00\x10\x00"			\
			"\xb0\x21\x66\xba\xf8\x03\xee\xcc\xeb\xfd"		\
			"\x90\x90\x90\x90\x90\x90\x90\x90\x90\xcf"		\
			"\xff\x07\x00\x00\x30\x00"

static void test_end(const char *code, size_t size, const char *says, const char *name)
{
	char *argv[12] = { TEST_KUF, "run", "--kernel=" TINY, "--entry=32", "--mem=64M",
			   "--timeout=200", "--control=" CONTROL };
	bool ok;

	unlink(CONTROL);
	memset(&b, 0, sizeof(b));
	memset(&sends, 0, sizeof(sends));
	test_make_tiny(TINY, code, size);
	test_start(&a, argv);
	ok = test_wait_for(&a, "!");
	ok = ok && ask("poison", CONTROL, USED, NULL, NULL) == KUF_EXIT_OK;
	test_finish(&a);
	result(ok && ended(&a, KUF_EXIT_CRASH) && strstr(a.said, says), "ends", name);
}

static void test_ends(void)
{
	static const char no_mce[] = SAY_AND_USE, off[] = SET_MCE CLEAR_MCG_CTL SAY_AND_USE;
	static const char idt[] = USE_IDT;

	test_end(no_mce, sizeof(no_mce) - 1, "takes no machine check now", "no-mce");
	test_end(off, sizeof(off) - 1, "its machine checks are off", "switched-off");
	test_end(idt, sizeof(idt) - 1, "triple fault", "idt");
}

static bool same(const char *x, const char *y)
{
	static char p[64 << 10], q[64 << 10];
	int one = open(x, O_RDONLY), two = open(y, O_RDONLY);
	long long at = 0;
	bool equal = one >= 0 && two >= 0;
	ssize_t n, m;

	do {
		n = read(one, p, sizeof(p));
		m = read(two, q, sizeof(q));
		equal &= n == m && n >= 0 && !memcmp(p, q, n > 0 ? n : 0);
		at += n;
	} while (equal && n > 0);
	close(one);
	close(two);
	return equal && at > 0;
}

static void test_resave(const char *policy, const char *name)
{
	char *argv[16] = { TEST_KUF, "restore", SAVED, (char *)policy, "--resave=" SAVED_AGAIN,
			   DISK };

	unlink(SAVED_AGAIN);
	test_copy(DISK_SAVED, TEST_DISK);
	test_start(&b, argv);
	test_finish(&b);
	result(ended(&b, KUF_EXIT_OK) && same(SAVED, SAVED_AGAIN), "resave", name);
}

/* One is poisoned since before; what says so to the guest comes now. */
static void test_restore(const char *policy, const char *more, unsigned int nr, const char *name)
{
	char *argv[16] = { TEST_KUF, "restore", SAVED, (char *)policy, DISK, "--timeout=200",
			   "--control=" CONTROL_B, (char *)more };
	bool ok;

	unlink(CONTROL_B);
	test_copy(DISK_SAVED, TEST_DISK);
	test_start(&b, argv);
	ok = test_wait_said(&b, "the guest runs");
	ok = ok && counts(CONTROL_B, nr) && poison(&a, CONTROL_B, "late") &&
	     poison(&a, CONTROL_B, "signal");
	if (!ok)
		kill(b.pid, SIGTERM);
	test_finish(&b);
	say_lines(&b);
	result(ok && content(&b) && !strstr(b.said, "wrong pages"), "restore", name);
}

static void test_save(void)
{
	char gpa[40];
	bool ok;

	boot("1", "shmem");
	ok = first_process(&a, CONTROL) && poison(&a, CONTROL, "kept") &&
	     page_of(&a, "signal", gpa, sizeof(gpa)) && counts(CONTROL, 4);
	ok = ok && ask("save", CONTROL, SAVED, NULL, NULL) == KUF_EXIT_OK;
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	ok = ok && ended(&a, KUF_EXIT_OK) && clean(&a) && test_copy(TEST_DISK, DISK_SAVED);
	if (!result(ok, "save", "shmem"))
		return;
	test_resave("--policy=eager", "eager");
	test_resave("--policy=lazy", "lazy");
	test_restore("--policy=eager", NULL, 4, "eager");
	test_restore("--policy=lazy", "--record=" RECORDING, 4, "lazy-process");
	test_restore("--policy=recorded", "--replay=" RECORDING, 4, "recorded");
	test_restore("--policy=background", "--pager=thread", 4, "background-thread");
	test_restore("--policy=lazy", "--engine=uffd", 4, "engine-uffd");
}

/*
 * Memory of the host that breaks: by its own way of testing that.  The page is looked for
 * in kuf's address space, where guest memory is the one mapping of that size.
 */
static bool break_memory(struct test_run *r, const char *name)
{
	unsigned long long begin, end, entry = 0, gpa;
	char path[64], line[400], text[40];
	bool found = false, ok;
	FILE *maps;
	int fd;

	if (!page_of(r, name, text, sizeof(text)))
		return false;
	gpa = strtoull(text, NULL, 0);
	snprintf(path, sizeof(path), "/proc/%d/maps", r->pid);
	maps = fopen(path, "r");
	while (maps && !found && fgets(line, sizeof(line), maps))
		found = sscanf(line, "%llx-%llx", &begin, &end) == 2 &&
			end - begin == (unsigned long long)MEM_MIB << 20;
	if (maps)
		fclose(maps);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", r->pid);
	fd = open(path, O_RDONLY);
	ok = found && pread(fd, &entry, sizeof(entry), (begin + gpa) / 4096 * 8) == 8 &&
	     entry >> 63;
	close(fd);
	snprintf(text, sizeof(text), "0x%llx\n", entry & ((1ull << 55) - 1));
	fd = open(HWPOISON, O_WRONLY);
	/* Linux 7.3 does it to guest_memfd and says that it could not. */
	ok = ok && (write(fd, text, strlen(text)) == (ssize_t)strlen(text) || errno == EBUSY);
	close(fd);
	if (!ok)
		printf("# page %s at 0x%llx is not to be broken, mapped %d, entry 0x%llx, %m\n",
		       name, gpa, found, entry);
	return ok;
}

/*
 * To another kuf, most of the memory not being there yet: what was poisoned before is so
 * there, what is lost at the source after that becomes so when the guest comes to it, and
 * what is poisoned there before it came does not come.
 */
static void test_migrate(const char *policy, const char *engine, bool breaks, const char *kind)
{
	char *argv[16] = { TEST_KUF, "recv", "--listen=" ADDRESS, (char *)policy, DISK,
			   "--timeout=200", "--control=" CONTROL_B, (char *)engine };
	char *send[16] = { TEST_KUF, "send", CONTROL, ADDRESS };
	bool at_source = strstr(policy, "lazy") && !engine, ok;
	char gpa[40];

	boot("1", "shmem");
	ok = page_of(&a, "signal", gpa, sizeof(gpa)) && page_of(&a, "used", gpa, sizeof(gpa)) &&
	     poison(&a, CONTROL, "kept");
	unlink(ADDRESS + 5);
	unlink(CONTROL_B);
	test_start(&b, argv);
	ok = ok && test_wait_said(&b, "listening at");
	test_start(&sends, send);
	ok = ok && test_wait_said(&b, "the guest runs") && counts(CONTROL_B, 1);
	/* It was given up: this is the source's memory, which nobody asked for so far. */
	if (breaks)
		ok = ok && break_memory(&a, "late");
	else
		ok = ok && poison(&a, at_source ? CONTROL : CONTROL_B, "late");
	/* Linux does not use what is below 1 MiB, so it may be absent still. */
	ok = ok && ask("poison", CONTROL_B, "0x40000", "0x3000", NULL) == KUF_EXIT_OK;
	ok = ok && poison(&a, CONTROL_B, "used") && told(&b, "used") &&
	     poison(&a, CONTROL_B, "copied") && told(&b, "copied") &&
	     poison(&a, CONTROL_B, "dma") && told(&b, "dma") && poison(&a, CONTROL_B, "signal");
	if (!ok)
		kill(b.pid, SIGTERM);
	test_finish(&b);
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	test_finish(&sends);
	say_lines(&b);
	ok = ok && content(&b) && ended(&a, KUF_EXIT_OK) && ended(&sends, KUF_EXIT_OK) &&
	     strstr(b.said, "received: 0 wrong");
	if (at_source)
		ok = ok && strstr(b.said, "is lost at its source") &&
		     strstr(a.said, "1 pages are lost, and were poisoned there");
	/* All came that could, and both sides say that it is the same. */
	else
		ok = ok && (strstr(policy, "lazy") ||
			    (!strstr(a.said, "the guest ended there") &&
			     !strstr(b.said, "fully populated    not reached")));
	result(ok, "migrate", kind);
}

static void test_host(const char *backing)
{
	char *argv[16] = { TEST_KUF, "restore", SAVED, "--policy=lazy", DISK, "--timeout=200",
			   "--control=" CONTROL_B };
	char gpa[40];
	bool ok;

	boot("1", backing);
	ok = page_of(&a, "signal", gpa, sizeof(gpa)) && page_of(&a, "used", gpa, sizeof(gpa));
	ok = ok && break_memory(&a, "used") && told(&a, "used") &&
	     strstr(a.said, "the host's memory is broken") && counts(CONTROL, 1);
	result(ok, "host-touched", backing);
	/* KVM itself does not notice: kuf does, when it reads. */
	ok = ok && poison(&a, CONTROL, "copied") && told(&a, "copied") &&
	     break_memory(&a, "dma") && told(&a, "dma") && counts(CONTROL, 3) &&
	     break_memory(&a, "kept") &&
	     ask("save", CONTROL, SAVED, NULL, NULL) == KUF_EXIT_OK;
	if (!ok)
		kill(a.pid, SIGTERM);
	test_finish(&a);
	ok = ok && ended(&a, KUF_EXIT_OK) && clean(&a);
	result(ok, "host-saved", backing);
	if (!ok)
		return;
	unlink(CONTROL_B);
	test_start(&b, argv);
	ok = test_wait_said(&b, "the guest runs");
	ok = ok && counts(CONTROL_B, 4) && poison(&a, CONTROL_B, "late") &&
	     poison(&a, CONTROL_B, "signal");
	if (!ok)
		kill(b.pid, SIGTERM);
	test_finish(&b);
	say_lines(&b);
	result(ok && content(&b), "host-restored", backing);
}

int main(int argc, char **argv)
{
	bool all = argc < 2;
	bool here = all || !strcmp(argv[1], "run");
	bool smp = all || !strcmp(argv[1], "smp");
	bool save = all || !strcmp(argv[1], "save");
	bool migrate = all || !strcmp(argv[1], "migrate");
	bool host = all || !strcmp(argv[1], "host");

	if (!here && !smp && !save && !migrate && !host) {
		printf("Bail out! run, smp, save, migrate or host, not %s\n", argv[1]);
		return 1;
	}
	test_make_initrd();
	ktap_plan(8 * here + 5 * smp + 8 * save + 3 * migrate + 10 * host);
	if (here) {
		test_run_here("1", "anon", "anon");
		test_ends();
	}
	if (smp)
		test_run_here("2", "gmem", "gmem");
	if (save)
		test_save();
	if (migrate) {
		test_migrate("--policy=lazy", NULL, false, "lazy");
		test_migrate("--policy=background", NULL, false, "background");
		test_migrate("--policy=lazy", "--engine=uffd", false, "uffd");
	}
	if (host) {
		if (access(HWPOISON, F_OK) &&
		    mount("debug", "/sys/kernel/debug", "debugfs", 0, NULL))
			perror("# debugfs");
		test_host("anon");
		test_host("shmem");
		test_host("gmem");
		test_migrate("--policy=lazy", NULL, true, "host");
	}
	return ktap_end();
}
