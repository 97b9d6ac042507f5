// SPDX-License-Identifier: GPL-2.0
/*
 * kuf doctor: can kuf work here, and if not, what is to be done about it?
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <kuf/kuf.h>

#include "abi.h"
#include "vm.h"

#define WANT_FILES	128
#define WANT_MIB	256

static const char help[] =
"usage: kuf doctor\n"
"\n"
"Says whether kuf can work on this machine, and what to do if not. Changes nothing.\n"
"Lines begin with ok, note (something that not everybody needs is missing) or problem.\n"
"\n"
"Exit status: 0 kuf can work; 1 it cannot; 2 wrong usage.\n";

static unsigned int problems;

__attribute__((format(printf, 2, 3)))
static void say(const char *kind, const char *fmt, ...)
{
	va_list ap;

	printf("%-8s ", kind);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

__attribute__((format(printf, 1, 2)))
static void fix(const char *fmt, ...)
{
	va_list ap;

	printf("         fix: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* The first line of a file, "" if there is none. */
static const char *read_line(const char *path)
{
	static char line[256];
	FILE *f = fopen(path, "re");

	line[0] = 0;
	if (f && !fgets(line, sizeof(line), f))
		line[0] = 0;
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = 0;
	return line;
}

static const struct {
	u64 bit;
	const char *name, *without;	/* NULL: kuf needs it */
} features[] = {
	{ KVM_USERFAULT_FEATURE_EXIT, "EXIT", NULL },
	{ KVM_USERFAULT_FEATURE_ACCESS, "ACCESS", NULL },
	{ KVM_USERFAULT_FEATURE_FD, "FD", NULL },
	{ KVM_USERFAULT_FEATURE_OWN, "OWN", NULL },
	{ KVM_USERFAULT_FEATURE_RESCAN, "RESCAN", "pages cannot be taken back" },
	{ KVM_USERFAULT_FEATURE_WP, "WP", "no snapshots of a running guest" },
	{ KVM_USERFAULT_FEATURE_POISON, "POISON", "memory errors do not travel" },
};

static void check_features(int vm_fd)
{
	char message[256] = "", have[128] = "";
	struct kuf_probe probe = { .size = sizeof(probe), .vm_fd = vm_fd, .message = message,
				   .message_size = sizeof(message) };
	char *cause;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(features); i++)
		probe.need |= features[i].without ? 0 : features[i].bit;
	if (kuf_probe(&probe)) {
		problems++;
		cause = strstr(message, "; fix: ");
		if (cause)
			*cause = 0;
		say("problem", "%s", message);
		fix("%s", cause ? cause + strlen("; fix: ") : "a newer kernel");
		return;
	}
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		if (probe.have & features[i].bit)
			snprintf(have + strlen(have), sizeof(have) - strlen(have), " %s",
				 features[i].name);
	}
	say("ok", "KVM userfault for VMs, with%s (0x%llx)", have, (unsigned long long)probe.have);
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		if (!features[i].without || probe.have & features[i].bit)
			continue;
		say("note", "no %s in KVM userfault: %s", features[i].name, features[i].without);
		fix("a newer version of the KVM userfault extension, on a CPU that has it");
	}
}

static void check_vm(int vm_fd)
{
	const u64 want = KUF_GMEM_MMAP | KUF_GMEM_INIT_SHARED;
	int flags = ioctl(vm_fd, KVM_CHECK_EXTENSION, KUF_CAP_GUEST_MEMFD_FLAGS);

	if (ioctl(vm_fd, KVM_CHECK_EXTENSION, KUF_CAP_USER_MEMORY2) <= 0) {
		problems++;
		say("problem", "KVM has no KVM_SET_USER_MEMORY_REGION2");
		fix("a kernel of 6.8 or newer, with CONFIG_KVM_USERFAULT=y");
		return;
	}
	check_features(vm_fd);
	if (flags >= 0 && (flags & want) == want) {
		say("ok", "guest_memfd that can be mapped (flags 0x%x): --backing=gmem", flags);
	} else {
		say("note", "no guest_memfd that can be mapped: --backing=anon and shmem only");
		fix("a kernel of 6.18 or newer");
	}
}

static void check_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, err = errno;
	const char *npt;

	if (kvm < 0) {
		problems++;
		say("problem", "/dev/kvm: %s", strerror(err));
		if (err == EACCES || err == EPERM)
			fix("usermod -aG kvm $USER (its group), and log in again");
		else
			fix("modprobe kvm_amd or kvm_intel; in a VM its host must allow nesting");
		return;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		problems++;
		say("problem", "/dev/kvm: no VM can be created: %s", strerror(errno));
		fix("dmesg; another hypervisor may be using the CPU's virtualisation");
	} else {
		say("ok", "/dev/kvm creates VMs");
		check_vm(vm);
		close(vm);
	}
	close(kvm);
	npt = read_line("/sys/module/kvm_amd/parameters/npt");
	if (!*npt)
		npt = read_line("/sys/module/kvm_intel/parameters/ept");
	if (*npt && *npt != 'Y' && *npt != '1') {
		say("note", "nested paging is off: run --lazy wants --features=own");
		fix("reload kvm_amd with npt=1, or kvm_intel with ept=1");
	} else if (*npt) {
		say("ok", "nested paging");
	}
}

/* Only for --engine=uffd, which is there to compare with. */
static void check_uffd(void)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd >= 0) {
		say("ok", "userfaultfd for faults in the kernel: --engine=uffd");
		close(fd);
	} else if (errno == EPERM) {
		say("note", "no --engine=uffd: vm.unprivileged_userfaultfd is %s",
		    read_line("/proc/sys/vm/unprivileged_userfaultfd"));
		fix("be root, or sysctl vm.unprivileged_userfaultfd=1");
	} else {
		say("note", "userfaultfd: %s: no --engine=uffd", strerror(errno));
		fix("a kernel with CONFIG_USERFAULTFD=y");
	}
}

static u64 meminfo(const char *name)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long n = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			n = strtoull(line + strlen(name) + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return n;
}

static void check_memory(void)
{
	u64 mib = meminfo("MemAvailable") / 1024;
	int fd = memfd_create("kuf-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (mib >= WANT_MIB) {
		say("ok", "%llu MiB of memory available", (unsigned long long)mib);
	} else {
		say("note", "only %llu MiB of memory available", (unsigned long long)mib);
		fix("guests get 256M unless --mem says otherwise");
	}
	if (fd >= 0 && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		say("ok", "memfd with seals");
	} else {
		problems++;
		say("problem", "memfd_create with seals: %s", strerror(errno));
		fix("a kernel with CONFIG_MEMFD_CREATE and CONFIG_SHMEM");
	}
	if (fd >= 0)
		close(fd);
	say("ok", "transparent huge pages: %s",
	    read_line("/sys/kernel/mm/transparent_hugepage/enabled"));
	say("ok", "the same for shmem: %s",
	    read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"));
	say("ok", "%llu reserved huge pages, which kuf does not use",
	    (unsigned long long)meminfo("HugePages_Total"));
}

static void check_limits(void)
{
	struct rlimit files, locked;

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_MEMLOCK, &locked);
	if (files.rlim_cur >= WANT_FILES) {
		say("ok", "%llu file descriptors", (unsigned long long)files.rlim_cur);
	} else {
		problems++;
		say("problem", "only %llu file descriptors, up to %u are used",
		    (unsigned long long)files.rlim_cur, WANT_FILES);
		fix("ulimit -n %u", WANT_FILES);
	}
	if (locked.rlim_cur == RLIM_INFINITY)
		say("ok", "no limit for locked memory; kuf locks none");
	else
		say("ok", "%llu KiB may be locked; kuf locks none",
		    (unsigned long long)locked.rlim_cur / 1024);
}

static void check_network(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		say("ok", "TCP, for tcp: addresses");
		close(fd);
	} else {
		say("note", "no TCP here (%s): only unix: addresses", strerror(errno));
		fix("a kernel with CONFIG_INET=y");
	}
}

int cmd_doctor(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return KUF_EXIT_OK;
	}
	if (argc != 1) {
		fputs(help, stderr);
		return KUF_EXIT_USAGE;
	}
	check_kvm();
	check_memory();
	check_limits();
	check_uffd();
	check_network();
	if (problems)
		printf("%u problem%s: kuf will not work here\n", problems, problems > 1 ? "s" : "");
	else
		printf("kuf will work here\n");
	return problems ? KUF_EXIT_FAILED : KUF_EXIT_OK;
}
