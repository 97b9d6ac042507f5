// SPDX-License-Identifier: GPL-2.0
/*
 * kuf plot: a picture of a trace, drawn by gnuplot.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kuf.h"

static const char help[] =
"usage: kuf plot TRACE PNG\n"
"\n"
"Draws what kuf restore or kuf recv wrote with --trace=TRACE: which addresses came when\n"
"and why, and how long each was on its way. Needs gnuplot.\n"
"\n"
"Exit status: 0 drawn; 1 not; 2 wrong usage.\n";

/* Zero and content are drawn alike. */
static const char * const kinds[] = { "demand", "background", "failed", "poison" };

/* What gnuplot is given before and after the data, each kind in a block of its own. */
static const char before[] =
"set terminal pngcairo size 1400,1000 font 'sans,12' background 'white'\n"
"array colour[4] = ['#d55e00', '#0072b2', '#000000', '#cc79a7']\n"
"set tics nomirror\n"
"set border 3\n"
"set grid lc rgb '#dddddd'\n"
"set key outside top center horizontal\n";

static const char after[] =
"set multiplot layout 2,1 title 'Guest memory, as it came' font 'sans,15'\n"
"set xlabel 'seconds'\n"
"set ylabel 'address, MiB'\n"
"plot for [i=1:4] $data index i-1 using ($1/1e6):($2/1048576) title columnhead(1) \\\n"
"with points pt 7 ps 0.4 lc rgb colour[i]\n"
"set ylabel 'latency, us'\n"
"set logscale y\n"
"plot for [i=1:4] $data index i-1 using ($1/1e6):($3 > 0 ? $3 : 0.5) title columnhead(1) \\\n"
"with points pt 7 ps 0.4 lc rgb colour[i]\n"
"unset multiplot\n";

struct fault {
	unsigned long long time_us, gpa, latency_us;
	unsigned int kind;
	bool has_latency;
};

struct faults {
	struct fault *list;
	size_t nr, room;
};

static int kind_by_name(char *name)
{
	char *zero = strstr(name, "-zero");
	size_t i;

	if (zero)
		*zero = 0;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(kinds[i], name))
			return i;
	}
	return -1;
}

/* False: the line is not one of a trace. */
static bool parse(const char *line, struct fault *f)
{
	char kind[24], latency[24], end, *rest;
	int k;

	if (sscanf(line, "%llu 0x%llx %23s %23s %c", &f->time_us, &f->gpa, kind, latency,
		   &end) != 4)
		return false;
	k = kind_by_name(kind);
	f->kind = k;
	f->has_latency = strcmp(latency, "-");
	f->latency_us = strtoull(latency, &rest, 10);
	return k >= 0 && (!f->has_latency || (!*rest && *latency != '-'));
}

static int add(struct faults *all, const struct fault *f)
{
	struct fault *list;

	if (all->nr == all->room) {
		all->room = all->room ? 2 * all->room : 4096;
		list = reallocarray(all->list, all->room, sizeof(*list));
		if (!list)
			return kuf_error(-ENOMEM, "a trace of that size");
		all->list = list;
	}
	all->list[all->nr++] = *f;
	return 0;
}

static int read_trace(const char *path, struct faults *all)
{
	FILE *in = fopen(path, "re");
	unsigned int number = 0;
	char line[160];
	struct fault f;
	int err = 0;

	if (!in)
		return kuf_error(-errno, "%s", path);
	while (!err && fgets(line, sizeof(line), in)) {
		number++;
		if (line[0] == '#')
			continue;
		err = parse(line, &f) ? add(all, &f) :
		      kuf_error(0, "%s: line %u is not of a trace", path, number);
	}
	fclose(in);
	if (!err && !all->nr)
		err = kuf_error(0, "%s has no pages to be drawn", path);
	return err;
}

/* gnuplot's quoting: '' stands for '. */
static void print_quoted(FILE *to, const char *text)
{
	putc('\'', to);
	for (; *text; text++) {
		if (*text == '\'')
			putc('\'', to);
		putc(*text, to);
	}
	putc('\'', to);
}

static void print_data(FILE *to, const struct faults *all)
{
	size_t i, k, nr;

	fputs("$data << EOD\n", to);
	for (k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (i = 0, nr = 0; i < all->nr; i++)
			nr += all->list[i].kind == k;
		fprintf(to, "\"%s: %zu\"\n", kinds[k], nr);
		for (i = 0; i < all->nr; i++) {
			const struct fault *f = &all->list[i];

			if (f->kind != k)
				continue;
			fprintf(to, "%llu %llu ", f->time_us, f->gpa);
			if (f->has_latency)
				fprintf(to, "%llu\n", f->latency_us);
			else
				fputs("NaN\n", to);
		}
		/* gnuplot wants a point in each block. */
		if (!nr)
			fputs("NaN NaN NaN\n", to);
		fputs("\n\n", to);
	}
	fputs("EOD\n", to);
}

static int draw(const struct faults *all, const char *png)
{
	char *argv[2] = { "gnuplot" };
	posix_spawn_file_actions_t actions;
	int fds[2], err, status;
	pid_t pid;
	FILE *to;

	if (pipe2(fds, O_CLOEXEC))
		return kuf_error(-errno, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[0], STDIN_FILENO);
	err = -posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[0]);
	if (err) {
		close(fds[1]);
		return kuf_error(err, "gnuplot (fix: apt-get install gnuplot-nox)");
	}
	/* It may end before it has read everything: its status tells. */
	signal(SIGPIPE, SIG_IGN);
	to = fdopen(fds[1], "w");
	fputs(before, to);
	fputs("set output ", to);
	print_quoted(to, png);
	putc('\n', to);
	print_data(to, all);
	fputs(after, to);
	fclose(to);
	if (waitpid(pid, &status, 0) != pid || status)
		return kuf_error(0, "gnuplot failed; nothing was drawn");
	kuf_say("%zu pages drawn: %s", all->nr, png);
	return 0;
}

int cmd_plot(int argc, char **argv)
{
	struct faults all = {};
	int err;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return KUF_EXIT_OK;
	}
	if (argc != 3 || argv[1][0] == '-' || !argv[2][0]) {
		fputs(help, stderr);
		return KUF_EXIT_USAGE;
	}
	err = read_trace(argv[1], &all);
	if (!err)
		err = draw(&all, argv[2]);
	free(all.list);
	return err ? KUF_EXIT_FAILED : KUF_EXIT_OK;
}
