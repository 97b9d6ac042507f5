/* SPDX-License-Identifier: GPL-2.0 */
/*
 * PID 1 of the test VM. It runs the tests of one list and reports them as KTAP
 * on a virtio-serial port of its own, so that nothing the kernel or a test
 * prints can look like a result.
 */
#ifndef KUF_INIT_H
#define KUF_INIT_H

#include <stdbool.h>
#include <stddef.h>

#define KUF_PORT_NAME	"kuf.result"
#define KUF_TESTS_DIR	"/tests"
#define KUF_MAX_ARGS	64

/* One line of a test list; the format is described in tests/lists/README. */
struct test {
	char *name;
	int timeout_s;
	int npt;		/* -1: both paging modes */
	long hugepages;
	bool may_skip;
	bool may_fail;		/* read by tools/build/runtests.sh only */
	char *expect;		/* read by tests/controls/run.sh only */
	char *argv[KUF_MAX_ARGS + 1];
};

struct test_list {
	struct test *tests;
	size_t nr;
};

/* What the kernel command line says. */
struct options {
	char list[64];
	char only[2048];	/* no command line is longer */
	char control[32];
	int npt;		/* -1: not given */
	int cpus;		/* 0: not given */
	int scale;		/* all timeouts of the list times this */
};

/* list.c */
int list_read(const char *path, struct test_list *list, char *err, size_t size);
void list_filter(struct test_list *list, int npt, const char *only);
void list_print(const struct test_list *list);

/* setup.c */
void mount_filesystems(void);
void read_options(struct options *opt);
int kvm_paging_mode(char *err, size_t size);
int set_hugepages(long nr);
int write_file(const char *path, const char *text);
__attribute__((format(printf, 1, 2))) void kmsg(const char *fmt, ...);
__attribute__((noreturn)) void power_off(void);

/* port.c */
int port_open(void);
void port_write(const char *buf, size_t len);
__attribute__((format(printf, 1, 2))) void port_printf(const char *fmt, ...);
void port_flush(void);

/* relay.c: a test's output as KTAP diagnostics */
void relay_start(void);
void relay_feed(const char *buf, size_t len);
void relay_finish(void);

/* procs.c: what a test leaves behind */
int procs_left(char *who, size_t size);
void procs_describe(void);
int procs_kill_all(char *who, size_t size);

/* run.c */
enum outcome {
	PASSED,
	SKIPPED,
	FAILED,
};

struct result {
	enum outcome outcome;
	char reason[128];	/* empty when passed */
	double seconds;
};

void run_test(struct test *test, int scale, struct result *res);

#endif /* KUF_INIT_H */
