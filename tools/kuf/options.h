/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_OPTIONS_H
#define KUF_OPTIONS_H

#include "boot.h"
#include "mem.h"
#include "pager_config.h"

struct options {
	struct boot_config boot;
	int backing;		/* enum mem_backing; -1: as it was */
	enum pager_mode lazy;
	bool own;
	const char *console;	/* file, or NULL: stdout */
	const char *disk;	/* file, or NULL */
	unsigned int disk_latency_us;
	const char *control;	/* socket, or NULL */
	const char *journal;	/* file, or NULL */
	const char *mem_path;	/* the same: of memory */
	const char *record;	/* file, or NULL */
	unsigned int timeout_s;
};

/* 0, 1 if help was asked for and given, -EINVAL after an error message. */
int options_parse_run(struct options *options, int argc, char **argv);

/* What run, restore and recv all take: for their tables, beyond numbers of their own. */
enum { OPT_BACKING = 768, OPT_CONSOLE, OPT_DISK, OPT_DISK_LATENCY, OPT_CONTROL, OPT_JOURNAL,
	OPT_MEM_PATH, OPT_TIMEOUT };

/* When all were parsed: -EINVAL after a message. */
int options_check_machine(const struct options *o);
/* 1: it is none of these options; -EINVAL after a message. */
int options_machine(struct options *o, int option, const char *arg);

/* -EINVAL after an error message that names the option. */
int options_parse_number(const char *name, const char *text, unsigned int min,
			 unsigned int max, unsigned int *n);
/* The same for --bandwidth. */
int options_parse_bandwidth(const char *text, u64 *bandwidth);

#endif /* KUF_OPTIONS_H */
