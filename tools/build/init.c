// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the test VM: runs the tests of the list that the command line names
 * and reports each as one KTAP line. Kernel command line:
 *
 *	kuf.list=NAME	 the list, /tests/lists/NAME
 *	kuf.npt=0|1	 the paging mode that KVM must be in
 *	kuf.cpus=N	 the number of CPUs that must be online
 *	kuf.only=A,B	 only these tests of the list
 *	kuf.scale=N	 all timeouts times N, for slow (debug) kernels
 *	kuf.control=...	 break something on purpose, for the positive controls:
 *			 drop-line: swallow the result line of the second test
 *			 hang-vm:   stop for ever after the first test
 *			 lose-vm:   reset the VM after the first test
 *
 * On the build host, "init FILE" checks a list and prints it for scripts.
 */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "init/init.h"

__attribute__((noreturn)) static void bail_out(const char *why)
{
	kmsg("kuf: Bail out! %s", why);
	port_printf("Bail out! %s\n", why);
	power_off();
}

static void report(size_t nr, const struct test *test, const struct result *res)
{
	const char *verdict = res->outcome == FAILED ? "not ok" : "ok";
	const char *blank = *res->reason ? " " : "";

	port_printf("%s %zu %s # %s%stime=%.1fs\n", verdict, nr, test->name, res->reason,
		    blank, res->seconds);
}

static void run_control(const char *control, size_t nr)
{
	if (nr != 1)
		return;
	if (!strcmp(control, "hang-vm"))
		for (;;)
			pause();
	if (!strcmp(control, "lose-vm"))
		power_off();
}

static void run_list(const struct test_list *list, const struct options *opt)
{
	size_t i;

	port_printf("1..%zu\n", list->nr);
	for (i = 0; i < list->nr; i++) {
		struct test *test = &list->tests[i];
		struct result res;

		kmsg("kuf: test %zu start: %s", i + 1, test->name);
		port_printf("# init: %s\n", test->name);
		run_test(test, opt->scale, &res);
		kmsg("kuf: test %zu end: %s: %s", i + 1, test->name,
		     res.outcome == FAILED ? res.reason : "ok");
		if (i != 1 || strcmp(opt->control, "drop-line"))
			report(i + 1, test, &res);
		run_control(opt->control, i + 1);
	}
}

static int check_list(const char *path)
{
	struct test_list list;
	char err[512];

	if (list_read(path, &list, err, sizeof(err))) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	list_print(&list);
	return 0;
}

static int boot(void)
{
	struct test_list list;
	struct options opt;
	struct utsname uts;
	char path[128], err[512];
	int npt;

	mount_filesystems();
	read_options(&opt);
	if (port_open()) {
		kmsg("kuf: no virtio-serial port named %s", KUF_PORT_NAME);
		power_off();
	}

	port_printf("KTAP version 1\n");
	snprintf(path, sizeof(path), KUF_TESTS_DIR "/lists/%s", opt.list);
	if (list_read(path, &list, err, sizeof(err)))
		bail_out(err);
	npt = kvm_paging_mode(err, sizeof(err));
	if (npt < 0)
		bail_out(err);
	if (opt.npt >= 0 && opt.npt != npt) {
		snprintf(err, sizeof(err), "asked for nested paging %d, but KVM runs with %d",
			 opt.npt, npt);
		bail_out(err);
	}

	/* A race that is tested on one CPU is not tested. */
	if (opt.cpus && opt.cpus != sysconf(_SC_NPROCESSORS_ONLN)) {
		snprintf(err, sizeof(err), "asked for %d CPUs, but %ld are online",
			 opt.cpus, sysconf(_SC_NPROCESSORS_ONLN));
		bail_out(err);
	}

	uname(&uts);
	port_printf("# init: %s %s, list %s, npt=%d, cpus=%ld\n", uts.release, uts.version,
		    opt.list, npt, sysconf(_SC_NPROCESSORS_ONLN));
	list_filter(&list, npt, opt.only);
	if (!list.nr)
		bail_out("no test of the list is for this run");
	run_list(&list, &opt);
	port_printf("# init: complete\n");
	power_off();
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		return boot();
	if (argc == 2)
		return check_list(argv[1]);
	fprintf(stderr, "usage: %s LIST-FILE\n", argv[0]);
	return 2;
}
