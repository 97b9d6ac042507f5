// SPDX-License-Identifier: GPL-2.0
/*
 * kuf: the tool of KVM Userfault, and its reference VMM.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "guard.h"
#include "kuf.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "run", cmd_run, "run a Linux guest" },
	{ "save", cmd_save, "write a guest that runs to a file" },
	{ "restore", cmd_restore, "go on with a guest that was saved" },
	{ "send", cmd_send, "move a guest that runs to another kuf" },
	{ "recv", cmd_recv, "go on with a guest that another kuf sends" },
	{ "recover", cmd_recover, "go on with a move whose connections were cut" },
	{ "pager", cmd_pager, "fill the memory of guests that other kufs restore" },
	{ "poison", cmd_poison, "mark pages of a guest as lost" },
	{ "status", cmd_status, "what does a guest do, how much of its memory is there?" },
	{ "doctor", cmd_doctor, "can kuf work here? what is missing?" },
	{ "plot", cmd_plot, "draw when which page came" },
};

/* One write a message: several threads and processes speak. */
static void print(const char *prefix, const char *fmt, va_list ap, int err)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	if (err)
		fprintf(stderr, "kuf: %s%s: %s\n", prefix, text, strerror(-err));
	else
		fprintf(stderr, "kuf: %s%s\n", prefix, text);
}

int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print("error: ", fmt, ap, err);
	va_end(ap);
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print("", fmt, ap, 0);
	va_end(ap);
}

static void usage(FILE *to)
{
	size_t i;

	fputs("usage: kuf COMMAND [OPTION...]\n\n", to);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].what);
	fputs("\nkuf COMMAND --help says more.\n", to);
}

int main(int argc, char **argv)
{
	size_t i;

	guard_init();
	/*
	 * Who reads what it says may go, and a file become too long.  To write fails then,
	 * which is no reason for a guest to end, or for the memory of one that left.
	 */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		usage(stdout);
		return KUF_EXIT_OK;
	}
	for (i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(commands[i].name, argv[1]))
			return commands[i].run(argc - 1, argv + 1);
	}
	if (argc > 1)
		kuf_error(0, "there is no command '%s'", argv[1]);
	usage(stderr);
	return KUF_EXIT_USAGE;
}
