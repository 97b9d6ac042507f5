// SPDX-License-Identifier: GPL-2.0
/* The environment tests run in: file systems, command line, paging mode. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init.h"

int write_file(const char *path, const char *text)
{
	ssize_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return -errno;
	ok = write(fd, text, len) == len;
	close(fd);
	return ok ? 0 : -EIO;
}

static int read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (done < size - 1 && (n = read(fd, buf + done, size - 1 - done)) > 0)
		done += n;
	close(fd);
	buf[done] = '\0';
	return 0;
}

/* Goes to the console log, where it says which test was running at a splat. */
void kmsg(const char *fmt, ...)
{
	char buf[512] = "<5>";
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(buf + 3, sizeof(buf) - 4, fmt, ap);
	va_end(ap);
	if (len > (int)sizeof(buf) - 5)
		len = sizeof(buf) - 5;
	buf[3 + len] = '\n';
	buf[4 + len] = '\0';
	write_file("/dev/kmsg", buf);
}

static void mount_one(const char *type, const char *path, const char *data, bool required)
{
	mkdir(path, 0755);
	if (!mount(type, path, type, 0, data))
		return;
	/* The kernel mounts devtmpfs itself if it is configured to. */
	if (errno == EBUSY)
		return;
	if (required)
		kmsg("kuf: cannot mount %s on %s: %s", type, path, strerror(errno));
}

void mount_filesystems(void)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	mount_one("devtmpfs", "/dev", NULL, true);
	mount_one("proc", "/proc", NULL, true);
	mount_one("sysfs", "/sys", NULL, true);
	mount_one("tmpfs", "/tmp", "mode=1777", true);
	mount_one("tmpfs", "/dev/shm", "mode=1777", true);
	mount_one("debugfs", "/sys/kernel/debug", NULL, true);
	mount_one("tracefs", "/sys/kernel/tracing", NULL, true);
	mount_one("hugetlbfs", "/dev/hugepages", NULL, false);

	setrlimit(RLIMIT_MEMLOCK, &lim);
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	write_file("/proc/sys/kernel/core_pattern", "");
	setenv("PATH", KUF_TESTS_DIR "/bin", 1);
	setenv("HOME", "/tmp", 1);
	if (chdir("/tmp"))
		kmsg("kuf: no /tmp: %s", strerror(errno));
}

void read_options(struct options *opt)
{
	char line[4096], *save, *word;

	*opt = (struct options){ .npt = -1, .scale = 1 };
	if (read_file("/proc/cmdline", line, sizeof(line)))
		return;

	for (word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		if (!strncmp(word, "kuf.list=", 9))
			snprintf(opt->list, sizeof(opt->list), "%s", word + 9);
		else if (!strncmp(word, "kuf.only=", 9))
			snprintf(opt->only, sizeof(opt->only), "%s", word + 9);
		else if (!strncmp(word, "kuf.control=", 12))
			snprintf(opt->control, sizeof(opt->control), "%s", word + 12);
		else if (!strncmp(word, "kuf.npt=", 8))
			opt->npt = atoi(word + 8);
		else if (!strncmp(word, "kuf.cpus=", 9))
			opt->cpus = atoi(word + 9);
		else if (!strncmp(word, "kuf.scale=", 10))
			opt->scale = atoi(word + 10);
	}
	if (opt->scale < 1)
		opt->scale = 1;
}

/*
 * 1 with nested paging, 0 without. Asked of KVM rather than believed: a run that
 * was meant to test the other mode would pass for the wrong reason.
 */
int kvm_paging_mode(char *err, size_t size)
{
	/* The flags line of one CPU is long, and all CPUs are the same. */
	static char cpuinfo[16384];
	const char *param;
	char value[16];

	if (access("/dev/kvm", R_OK | W_OK)) {
		snprintf(err, size,
			 "/dev/kvm: %s (no SVM or VMX in this CPU, or KVM did not start)",
			 strerror(errno));
		return -1;
	}
	read_file("/proc/cpuinfo", cpuinfo, sizeof(cpuinfo));
	if (strstr(cpuinfo, " svm "))
		param = "/sys/module/kvm_amd/parameters/npt";
	else
		param = "/sys/module/kvm_intel/parameters/ept";
	if (read_file(param, value, sizeof(value))) {
		snprintf(err, size, "cannot read %s", param);
		return -1;
	}
	return value[0] == 'Y' || value[0] == '1';
}

int set_hugepages(long nr)
{
	const char *path = "/proc/sys/vm/nr_hugepages";
	char text[32];
	int err;

	snprintf(text, sizeof(text), "%ld", nr);
	err = write_file(path, text);
	if (err)
		return err;
	if (read_file(path, text, sizeof(text)) || atol(text) != nr)
		return -ENOMEM;
	return 0;
}

/* With QEMU's -no-reboot a reset ends the VM; there is no ACPI to power it off. */
void power_off(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
