// SPDX-License-Identifier: GPL-2.0
/*
 * Goes wrong in one chosen way, to prove that the test VM notices. Each way is
 * a line in tests/lists/control-*.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* For ever: a signal handler would be needed to end pause(). */
static int stop(void)
{
	while (pause())
		;
	return 0;
}

static int pass(void)
{
	printf("not ok 1 this line of a test is no result\n");
	return 0;
}

/* Claims success in every way a test can, but with its exit status. */
static int lie(void)
{
	printf("KTAP version 1\n1..1\nok 1 everything\n# init: complete\n");
	return 1;
}

static int skip(void)
{
	return 4;
}

static int hang(void)
{
	return stop();
}

/* The group is killed, too, not only its leader. */
static int hang_group(void)
{
	signal(SIGTERM, SIG_IGN);
	fork();
	return stop();
}

static int crash(void)
{
	raise(SIGSEGV);
	return 0;
}

/* A daemon as they come: two forks and a session of its own. */
static int leave_process(void)
{
	if (fork())
		return 0;
	setsid();
	if (!fork())
		return stop();
	return 0;
}

/* More than any bound: it must neither block nor fill the disk, and DATA passes. */
static int flood(void)
{
	int i;

	for (i = 0; i < 100000; i++)
		printf("flood %d .......................................................\n", i);
	printf("DATA flood end\n");
	return 0;
}

/* A real WARN of the kernel; with panic_on_warn this does not return. */
static int warn(void)
{
	int fd = open("/sys/kernel/debug/provoke-crash/DIRECT", O_WRONLY);

	if (fd < 0) {
		perror("provoke-crash (CONFIG_LKDTM)");
		return 1;
	}
	return write(fd, "WARNING", 7) != 7;
}

/* What lockdep or an RCU stall do: the kernel only prints and goes on. */
static int print_splat(void)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	return fd < 0 || write(fd, "<4>WARNING: suspicious RCU usage\n", 33) != 33;
}

static const struct {
	const char *name;
	int (*run)(void);
} controls[] = {
	{ "pass", pass },
	{ "lie", lie },
	{ "skip", skip },
	{ "hang", hang },
	{ "hang-group", hang_group },
	{ "crash", crash },
	{ "leave-process", leave_process },
	{ "flood", flood },
	{ "warn", warn },
	{ "print-splat", print_splat },
};

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
		if (argc == 2 && !strcmp(argv[1], controls[i].name))
			return controls[i].run();
	fprintf(stderr, "usage: kuf_control NAME\n");
	return 2;
}
