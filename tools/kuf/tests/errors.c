// SPDX-License-Identifier: GPL-2.0
/*
 * How runs of kuf end: what it says and returns when something is wrong, and what
 * a guest can do.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "kuf.h"

#define TINY	"/tmp/kuf-tiny"
#define BIG	"/tmp/kuf-big"
#define SMALL	"/tmp/kuf-small"
#define LINUX	"--kernel=" TEST_KERNEL

static struct test_run run;
static char long_line[6000], long_socket[200], long_listen[200];

/* The command lines that must be refused, or fail, and how. */
static const struct {
	const char *name;
	int status;
	const char *says;
	const char *argv[6];
} lines[] = {
	{ "nothing", KUF_EXIT_USAGE, "usage: kuf", {} },
	{ "no-command", KUF_EXIT_USAGE, "no command 'walk'", { "walk" } },
	{ "help", KUF_EXIT_OK, "", { "run", "--help" } },
	{ "no-kernel", KUF_EXIT_USAGE, "--kernel=FILE is needed", { "run" } },
	{ "option", KUF_EXIT_USAGE, "--help", { "run", "--fast" } },
	{ "word", KUF_EXIT_USAGE, "what is 'now'", { "run", LINUX, "now" } },
	{ "mem-small", KUF_EXIT_USAGE, "--mem=1M", { "run", LINUX, "--mem=1M" } },
	{ "mem-word", KUF_EXIT_USAGE, "--mem=much", { "run", LINUX, "--mem=much" } },
	{ "mem-odd", KUF_EXIT_USAGE, "--mem=100000001", { "run", LINUX, "--mem=100000001" } },
	{ "cpus-0", KUF_EXIT_USAGE, "--cpus=0", { "run", LINUX, "--cpus=0" } },
	{ "cpus-17", KUF_EXIT_USAGE, "--cpus=17", { "run", LINUX, "--cpus=17" } },
	{ "cpus-minus", KUF_EXIT_USAGE, "--cpus=-1", { "run", LINUX, "--cpus=-1" } },
	{ "backing", KUF_EXIT_USAGE, "--backing=tape", { "run", LINUX, "--backing=tape" } },
	{ "lazy", KUF_EXIT_USAGE, "--lazy=none", { "run", LINUX, "--lazy=none" } },
	{ "features", KUF_EXIT_USAGE, "only own", { "run", LINUX, "--features=all" } },
	{ "own-alone", KUF_EXIT_USAGE, "only with --lazy", { "run", LINUX, "--features=own" } },
	{ "entry", KUF_EXIT_USAGE, "--entry=16", { "run", LINUX, "--entry=16" } },
	{ "timeout", KUF_EXIT_USAGE, "--timeout=0", { "run", LINUX, "--timeout=0" } },
	{ "kernel-missing", KUF_EXIT_FAILED, "/none: No such file", { "run", "--kernel=/none" } },
	{ "kernel-directory", KUF_EXIT_FAILED, "no regular file", { "run", "--kernel=/tmp" } },
	{ "kernel-other", KUF_EXIT_FAILED, "no Linux bzImage", { "run", "--kernel=" TEST_KUF } },
	{ "kernel-empty", KUF_EXIT_FAILED, "no Linux bzImage",
	  { "run", "--kernel=/proc/self/comm" } },
	{ "kernel-entry", KUF_EXIT_FAILED, "no 64-bit entry",
	  { "run", "--kernel=" TINY, "--entry=64" } },
	{ "initrd-missing", KUF_EXIT_FAILED, "/none: No such file",
	  { "run", LINUX, "--initrd=/none" } },
	{ "initrd-big", KUF_EXIT_FAILED, "does not fit",
	  { "run", LINUX, "--initrd=" BIG, "--mem=64M" } },
	{ "initrd-big-lazy", KUF_EXIT_FAILED, "does not fit",
	  { "run", LINUX, "--initrd=" BIG, "--mem=64M", "--lazy" } },
	{ "append-long", KUF_EXIT_FAILED, "too long", { "run", LINUX, long_line } },
	{ "console", KUF_EXIT_FAILED, "/none/file: No such file",
	  { "run", LINUX, "--console=/none/file" } },
	{ "disk-missing", KUF_EXIT_FAILED, "/none: No such file",
	  { "run", LINUX, "--disk=/none" } },
	{ "disk-directory", KUF_EXIT_FAILED, "/tmp: Is a directory",
	  { "run", LINUX, "--disk=/tmp" } },
	{ "disk-small", KUF_EXIT_FAILED, "no regular file of at least a sector",
	  { "run", LINUX, "--disk=" SMALL } },
	{ "control-long", KUF_EXIT_FAILED, "too long for a socket",
	  { "run", LINUX, long_socket } },
	{ "control-directory", KUF_EXIT_FAILED, "/tmp: Address already in use",
	  { "run", LINUX, "--control=/tmp" } },
	{ "save-nothing", KUF_EXIT_USAGE, "usage: kuf save", { "save" } },
	{ "save-help", KUF_EXIT_OK, "", { "save", "--help" } },
	{ "save-no-vm", KUF_EXIT_FAILED, "/none: No such file", { "save", "/none", "/tmp/x" } },
	{ "save-long", KUF_EXIT_FAILED, "name too long", { "save", "/none", long_line } },
	{ "restore-help", KUF_EXIT_OK, "", { "restore", "--help" } },
	{ "restore-nothing", KUF_EXIT_USAGE, "one FILE is needed", { "restore" } },
	{ "restore-policy", KUF_EXIT_USAGE, "--policy=now", { "restore", "/x", "--policy=now" } },
	{ "restore-pager", KUF_EXIT_USAGE, "--pager=exit",
	  { "restore", "/x", "--policy=lazy", "--pager=exit" } },
	{ "restore-pager-nowhere", KUF_EXIT_USAGE, "process, thread or unix:PATH",
	  { "restore", "/x", "--policy=lazy", "--pager=unix:" } },
	{ "restore-pager-timeout", KUF_EXIT_USAGE, "only with --pager=unix:PATH",
	  { "restore", "/x", "--policy=lazy", "--pager-timeout=5" } },
	{ "restore-pager-trace", KUF_EXIT_USAGE, "use --pager=process",
	  { "restore", "/x", "--policy=lazy", "--pager=unix:/x", "--trace=/tmp/x" } },
	{ "restore-uffd-unix", KUF_EXIT_USAGE, "not with --pager=unix: only thread",
	  { "restore", "/x", "--policy=lazy", "--engine=uffd", "--pager=unix:/x" } },
	{ "pager-nothing", KUF_EXIT_USAGE, "--listen=SOCKET is needed", { "pager" } },
	{ "pager-help", KUF_EXIT_OK, "", { "pager", "--help" } },
	{ "pager-long", KUF_EXIT_FAILED, "too long for a socket", { "pager", long_listen } },
	{ "restore-eager-pager", KUF_EXIT_USAGE, "not with --policy=eager",
	  { "restore", "/x", "--pager=thread" } },
	{ "restore-engine", KUF_EXIT_USAGE, "--engine=fast", { "restore", "/x", "--engine=fast" } },
	{ "restore-uffd-process", KUF_EXIT_USAGE, "not with --pager=process",
	  { "restore", "/x", "--policy=lazy", "--engine=uffd", "--pager=process" } },
	{ "restore-uffd-record", KUF_EXIT_USAGE, "not with recordings",
	  { "restore", "/x", "--policy=lazy", "--engine=uffd", "--record=/tmp/x" } },
	{ "restore-no-replay", KUF_EXIT_USAGE, "--replay=FILE is needed",
	  { "restore", "/x", "--policy=recorded" } },
	{ "restore-replay-lazy", KUF_EXIT_USAGE, "only with --policy=recorded",
	  { "restore", "/x", "--policy=lazy", "--replay=/x" } },
	{ "restore-then", KUF_EXIT_USAGE, "there is only background",
	  { "restore", "/x", "--policy=recorded", "--replay=/x", "--then=lazy" } },
	{ "record-alone", KUF_EXIT_USAGE, "only with --lazy",
	  { "run", LINUX, "--record=/tmp/x" } },
	{ "restore-missing", KUF_EXIT_FAILED, "/none: No such file", { "restore", "/none" } },
	{ "restore-directory", KUF_EXIT_FAILED, "a file that kuf save wrote is needed",
	  { "restore", "/tmp" } },
	{ "restore-small", KUF_EXIT_FAILED, "is no saved VM", { "restore", SMALL } },
	{ "restore-other", KUF_EXIT_FAILED, "this is no saved VM", { "restore", TEST_KUF } },
	{ "timed-out", KUF_EXIT_TIMEOUT, "still runs after 1 seconds",
	  { "run", LINUX, "--timeout=1" } },
	{ "timed-out-where", KUF_EXIT_TIMEOUT, "vCPU 0: APIC irr",
	  { "run", LINUX, "--timeout=1" } },
};

/* What a guest does, and how the run ends. */
static const struct {
	const char *name;
	int status;
	const char *code;
	size_t size;
} guests[] = {
	/* mov $0xfe, %al; out %al, $0x64; hlt */
	{ "guest-reset", KUF_EXIT_OK, "\xb0\xfe\xe6\x64\xf4", 5 },
	/* mov $0x501, %dx; mov $0, %al; out %al, (%dx); hlt */
	{ "guest-exit-0", KUF_EXIT_OK, "\x66\xba\x01\x05\xb0\x00\xee\xf4", 8 },
	{ "guest-exit-5", KUF_EXIT_GUEST + 5, "\x66\xba\x01\x05\xb0\x05\xee\xf4", 8 },
	{ "guest-exit-255", KUF_EXIT_GUEST + 63, "\x66\xba\x01\x05\xb0\xff\xee\xf4", 8 },
	/* ud2 */
	{ "guest-crash", KUF_EXIT_CRASH, "\x0f\x0b", 2 },
	/*
	 * A port without a device reads as 0xff:
	 * mov $0x333, %dx; in (%dx), %al; inc %al; mov $0x501, %dx; out %al, (%dx); hlt
	 */
	{ "guest-no-port", KUF_EXIT_OK,
	  "\x66\xba\x33\x03\xec\xfe\xc0\x66\xba\x01\x05\xee\xf4", 13 },
};

/*
 * Reads a word of each page from 16 MiB to 64 MiB, and resets:
 * mov $0x1000000, %eax; 1: mov (%eax), %ecx; add $0x1000, %eax; cmp $0x4000000, %eax;
 * jb 1b; mov $0xfe, %al; out %al, $0x64; hlt
 */
static const char sweep[] = "\xb8\x00\x00\x00\x01\x8b\x08\x05\x00\x10\x00\x00"
			    "\x3d\x00\x00\x00\x04\x72\xf2\xb0\xfe\xe6\x64\xf4";
#define SWEEP_PAGES	((64 - 16) << 8)
/* And the one with the code. */
#define SWEEP_SERVED	(SWEEP_PAGES + 1)

/*
 * The same, but says "!" when the first page is there, and stays:
 * mov $0x1000000, %edi; mov (%edi), %ecx; mov $0x3f8, %dx; mov $'!', %al; out %al, (%dx);
 * 1: mov (%edi), %ecx; add $0x1000, %edi; cmp $0x4000000, %edi; jb 1b; jmp .
 */
static const char endless[] = "\xbf\x00\x00\x00\x01\x8b\x0f\x66\xba\xf8\x03\xb0\x21\xee"
			      "\x8b\x0f\x81\xc7\x00\x10\x00\x00\x81\xff\x00\x00\x00\x04"
			      "\x72\xf0\xeb\xfe";

static const char * const sweeps[][2] = {
	{ "process", "anon" }, { "process", "shmem" }, { "process", "gmem" },
	{ "thread", "anon" }, { "exit", "anon" }, { "exit", "gmem" },
};

#define NR_RESULTS	(ARRAY_SIZE(lines) + ARRAY_SIZE(guests) + ARRAY_SIZE(sweeps) + 3)

static void result(bool ok, const char *name)
{
	if (!ok)
		test_show(&run);
	ktap_result(ok, "%s", name);
}

static bool ended(int status)
{
	return WIFEXITED(run.status) && WEXITSTATUS(run.status) == status;
}

static void test_line(size_t i)
{
	char *argv[8] = { TEST_KUF };
	size_t n;

	for (n = 0; n < ARRAY_SIZE(lines[i].argv) && lines[i].argv[n]; n++)
		argv[n + 1] = (char *)lines[i].argv[n];
	test_start(&run, argv);
	test_finish(&run);
	result(ended(lines[i].status) && strstr(run.said, lines[i].says), lines[i].name);
}

static void test_guest(size_t i)
{
	char *argv[10] = { TEST_KUF, "run", "--kernel=" TINY, "--entry=32", "--mem=64M",
			 "--timeout=120" };

	test_make_tiny(TINY, guests[i].code, guests[i].size);
	test_start(&run, argv);
	test_finish(&run);
	result(ended(guests[i].status), guests[i].name);
}

static void start_sweep(const char *lazy, const char *backing)
{
	char how[32], kind[32];
	char *argv[10] = { TEST_KUF, "run", "--kernel=" TINY, "--entry=32", "--mem=64M",
			 "--timeout=200", how, kind };

	snprintf(how, sizeof(how), "--lazy=%s", lazy);
	snprintf(kind, sizeof(kind), "--backing=%s", backing);
	test_start(&run, argv);
}

static void test_sweep(const char *lazy, const char *backing)
{
	char name[64];

	start_sweep(lazy, backing);
	test_finish(&run);
	snprintf(name, sizeof(name), "sweep-%s-%s", lazy, backing);
	/* The walk of the guest's memory is all there is: no page more, none less. */
	result(ended(KUF_EXIT_OK) && test_number(&run, "lazy: ") == SWEEP_SERVED, name);
}

/* The process of kuf's that is called kuf-pager; 0: there is none. */
static pid_t pager_of(pid_t kuf)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char path[300], comm[32];
	pid_t found = 0;
	int pid, ppid;
	FILE *f;

	while (!found && (entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		f = atoi(entry->d_name) > 0 ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fscanf(f, "%d %31s %*c %d", &pid, comm, &ppid) == 3 && ppid == kuf &&
		    !strcmp(comm, "(kuf-pager)"))
			found = pid;
		fclose(f);
	}
	closedir(proc);
	return found;
}

/* The pager of a guest that has begun its sweep; 0: it did not. */
static pid_t start_endless_sweep(void)
{
	pid_t pager;

	start_sweep("process", "anon");
	pager = test_wait_for(&run, "!") ? pager_of(run.pid) : 0;
	if (!pager)
		kill(run.pid, SIGKILL);
	return pager;
}

static void test_pager_killed(void)
{
	pid_t pager = start_endless_sweep();

	if (pager)
		kill(pager, SIGKILL);
	test_finish(&run);
	result(ended(KUF_EXIT_PAGER) && strstr(run.said, "killed by signal 9"), "pager-killed");
}

/* Also when it is a zombie, whose parent was the VMM. */
static bool is_gone(pid_t pid)
{
	char path[40], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return true;
	if (fscanf(f, "%*d %*s %c", &state) != 1)
		state = 'Z';
	fclose(f);
	return state == 'Z';
}

/* No process is left behind by a VMM that is killed. */
static void test_vmm_killed(void)
{
	pid_t pager = start_endless_sweep();
	int i;

	kill(run.pid, SIGKILL);
	test_finish(&run);
	for (i = 0; pager && i < 6000 && !is_gone(pager); i++)
		usleep(10000);
	result(pager && WIFSIGNALED(run.status) && i < 6000, "vmm-killed");
}

/* What the guest says goes where it should. */
static void test_console(void)
{
	/* mov $0x3f8, %dx; mov $'k', %al; out %al, (%dx); then as guest-reset */
	static const char code[] = "\x66\xba\xf8\x03\xb0\x6b\xee\xb0\xfe\xe6\x64\xf4";
	char *argv[10] = { TEST_KUF, "run", "--kernel=" TINY, "--entry=32",
			 "--console=/tmp/kuf-console", "--timeout=120" };
	char said[8] = "";
	FILE *f;

	test_make_tiny(TINY, code, sizeof(code) - 1);
	test_start(&run, argv);
	test_finish(&run);
	f = fopen("/tmp/kuf-console", "r");
	if (f) {
		if (!fgets(said, sizeof(said), f))
			said[0] = '\0';
		fclose(f);
	}
	result(ended(KUF_EXIT_OK) && !strcmp(said, "k") && !*run.console, "console-file");
}

int main(void)
{
	size_t i;

	/* Sparse: 200 MiB that do not fit into 64. */
	if (!fopen(BIG, "w") || truncate(BIG, 200 << 20) || !fopen(SMALL, "w")) {
		printf("Bail out! cannot make " BIG " and " SMALL "\n");
		return 1;
	}
	memset(long_line, 'x', sizeof(long_line) - 1);
	memcpy(long_line, "--append=", strlen("--append="));
	memset(long_socket, 'x', sizeof(long_socket) - 1);
	memcpy(long_socket, "--control=", strlen("--control="));
	memset(long_listen, 'x', sizeof(long_listen) - 1);
	memcpy(long_listen, "--listen=", strlen("--listen="));

	ktap_plan(NR_RESULTS);
	test_make_tiny(TINY, "\xf4", 1);
	for (i = 0; i < ARRAY_SIZE(lines); i++)
		test_line(i);
	for (i = 0; i < ARRAY_SIZE(guests); i++)
		test_guest(i);
	test_console();
	test_make_tiny(TINY, sweep, sizeof(sweep) - 1);
	for (i = 0; i < ARRAY_SIZE(sweeps); i++)
		test_sweep(sweeps[i][0], sweeps[i][1]);
	test_make_tiny(TINY, endless, sizeof(endless) - 1);
	test_pager_killed();
	test_vmm_killed();
	return ktap_end();
}
