// SPDX-License-Identifier: GPL-2.0
/*
 * The command line of kuf run.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "options.h"
#include "vm.h"

#define DEFAULT_MEM	(256ull << 20)

enum {
	OPT_KERNEL = 256,
	OPT_INITRD,
	OPT_APPEND,
	OPT_MEM,
	OPT_CPUS,
	OPT_LAZY,
	OPT_FEATURES,
	OPT_RECORD,
	OPT_ENTRY,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "kernel", required_argument, NULL, OPT_KERNEL },
	{ "initrd", required_argument, NULL, OPT_INITRD },
	{ "append", required_argument, NULL, OPT_APPEND },
	{ "mem", required_argument, NULL, OPT_MEM },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "lazy", optional_argument, NULL, OPT_LAZY },
	{ "features", required_argument, NULL, OPT_FEATURES },
	{ "record", required_argument, NULL, OPT_RECORD },
	{ "entry", required_argument, NULL, OPT_ENTRY },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "disk-latency", required_argument, NULL, OPT_DISK_LATENCY },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "journal", required_argument, NULL, OPT_JOURNAL },
	{ "mem-path", required_argument, NULL, OPT_MEM_PATH },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf run --kernel=BZIMAGE [OPTION...]\n"
"\n"
"Runs a Linux guest until it resets itself.\n"
"\n"
"  --kernel=FILE     a Linux bzImage\n"
"  --initrd=FILE     its initial file system\n"
"  --append=TEXT     the kernel's command line (console=ttyS0)\n"
"  --mem=SIZE        memory, with K, M or G (256M)\n"
"  --cpus=N          vCPUs, 1 to 16 (1)\n"
"  --backing=KIND    what memory is made of: anon, shmem, gmem (guest_memfd); anon\n"
"  --lazy[=HOW]      all memory is absent at start. Who fills it, page by page:\n"
"                    process: another one, by the userfault fd (the default)\n"
"                    thread:  the same in a thread of this process\n"
"                    exit:    the vCPU's thread, on KVM_EXIT_MEMORY_FAULT\n"
"  --features=own    with --lazy: KVM's own accesses wait for absent pages as well\n"
"  --record=FILE     with --lazy: write down what was needed, in that order\n"
"  --entry=32|64     how the kernel is entered: 32 without paging, 64 with page\n"
"                    tables. Those are absent too: where KVM itself walks them\n"
"                    (no nested paging) that needs --features=own. 64, but 32 with\n"
"                    --lazy and without own\n"
"  --console=FILE    where the serial console goes (stdout)\n"
"  --disk=FILE       a disk, /dev/vda (virtio-blk; the kernel learns of it by its\n"
"                    command line)\n"
"  --disk-latency=US each of its requests takes so many microseconds longer (0)\n"
"  --control=SOCKET  where kuf save, send and status find it\n"
"  --journal=FILE    record there whose the VM is, for when kuf is killed; a new file\n"
"  --mem-path=FILE   memory is this file, a new one, and stays there when kuf is killed:\n"
"                    see kuf recover; with --backing=shmem and --journal\n"
"  --timeout=SEC     stop the guest then (never); not once it was given up\n"
"\n"
"Exit status: 0 the guest reset itself, or was saved or sent; 1 something needed is not\n"
"there; 2 wrong usage; 3 the guest crashed (triple fault); 4 the pager failed, or a\n"
"page was not served just once; 5 timeout; 6 KVM could not go on; 7 it was sent to\n"
"another kuf, and lost with it; 64 + N the guest wrote N to port 0x501.\n";

static int parse_size(const char *text, u64 *size)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*size = strtoull(text, &end, 0);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit && *size <= MAX_MEM) {
		*size <<= 10 * (unit - units + 1);
		end++;
	}
	if (errno || end == text || *end || *size < MIN_MEM || *size > MAX_MEM ||
	    *size % PAGE_SIZE)
		return kuf_error(0, "--mem=%s: a size from 64M to 64G, a multiple of 4K", text);
	return 0;
}

int options_parse_number(const char *name, const char *text, unsigned int min,
			 unsigned int max, unsigned int *n)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || value < min || value > max || *text == '-')
		return kuf_error(0, "--%s=%s: a number from %u to %u", name, text, min, max);
	*n = value;
	return 0;
}

int options_parse_bandwidth(const char *text, u64 *bandwidth)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*bandwidth = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit && *bandwidth < 1ull << 32) {
		*bandwidth <<= 10 * (unit - units + 1);
		end++;
	}
	if (errno || end == text || *end || *text == '-' || *bandwidth < PAGE_SIZE ||
	    *bandwidth > 1ull << 50)
		return kuf_error(0, "--bandwidth=%s: bytes a second, 4K at least", text);
	return 0;
}

int options_check_machine(const struct options *o)
{
	if (o->mem_path && o->backing != MEM_SHMEM)
		return kuf_error(0, "--mem-path=%s: only with --backing=shmem", o->mem_path);
	if (o->mem_path && !o->journal)
		return kuf_error(0, "--mem-path=%s: needs --journal=FILE, which says whose it is",
				 o->mem_path);
	return 0;
}

int options_machine(struct options *o, int option, const char *arg)
{
	switch (option) {
	case OPT_BACKING:
		o->backing = mem_backing_by_name(arg);
		if (o->backing < 0)
			return kuf_error(0, "--backing=%s: anon, shmem or gmem", arg);
		return 0;
	case OPT_CONSOLE:
		o->console = arg;
		return 0;
	case OPT_DISK:
		o->disk = arg;
		return 0;
	case OPT_DISK_LATENCY:
		return options_parse_number("disk-latency", arg, 0, 1000000,
					    &o->disk_latency_us);
	case OPT_CONTROL:
		o->control = arg;
		return 0;
	case OPT_JOURNAL:
		o->journal = arg;
		return 0;
	case OPT_MEM_PATH:
		o->mem_path = arg;
		return 0;
	case OPT_TIMEOUT:
		return options_parse_number("timeout", arg, 1, 1000000, &o->timeout_s);
	default:
		return 1;
	}
}

static int parse_one(struct options *o, int option, const char *arg, unsigned int *entry)
{
	int r;

	switch (option) {
	case OPT_KERNEL:
		o->boot.kernel = arg;
		return 0;
	case OPT_INITRD:
		o->boot.initrd = arg;
		return 0;
	case OPT_APPEND:
		o->boot.cmdline = arg;
		return 0;
	case OPT_MEM:
		return parse_size(arg, &o->boot.mem_size);
	case OPT_CPUS:
		return options_parse_number("cpus", arg, 1, MAX_CPUS, &o->boot.nr_cpus);
	case OPT_LAZY:
		r = arg ? pager_mode_by_name(arg) : PAGER_PROCESS;
		if (r <= PAGER_NONE)
			return kuf_error(0, "--lazy=%s: process, thread or exit", arg);
		o->lazy = r;
		return 0;
	case OPT_FEATURES:
		if (strcmp(arg, "own"))
			return kuf_error(0, "--features=%s: there is only own", arg);
		o->own = true;
		return 0;
	case OPT_RECORD:
		o->record = arg;
		return 0;
	case OPT_ENTRY:
		if (strcmp(arg, "32") && strcmp(arg, "64"))
			return kuf_error(0, "--entry=%s: 32 or 64", arg);
		*entry = atoi(arg);
		return 0;
	case OPT_HELP:
		fputs(help, stdout);
		return 1;
	default:
		fputs("kuf run --help shows all options\n", stderr);
		return -EINVAL;
	}
}

int options_parse_run(struct options *o, int argc, char **argv)
{
	unsigned int entry = 0;
	int option, r;

	*o = (struct options){
		.boot = {
			.cmdline = "console=ttyS0",
			.more_cmdline = "",
			.mem_size = DEFAULT_MEM,
			.nr_cpus = 1,
		},
	};
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		r = options_machine(o, option, optarg);
		if (r > 0)
			r = parse_one(o, option, optarg, &entry);
		if (r)
			return r;
	}
	if (optind != argc)
		return kuf_error(0, "what is '%s'? kuf run --help shows all options",
				 argv[optind]);
	if (!o->boot.kernel)
		return kuf_error(0, "--kernel=FILE is needed: a Linux bzImage");
	if (o->own && !o->lazy)
		return kuf_error(0, "--features=own: only with --lazy: no page is absent");
	if (o->record && !o->lazy)
		return kuf_error(0, "--record=%s: only with --lazy: no page is absent",
				 o->record);
	if (options_check_machine(o))
		return -EINVAL;
	if (o->disk)
		o->boot.more_cmdline = " " BLK_CMDLINE;
	o->boot.entry32 = entry ? entry == 32 : o->lazy && !o->own;
	return 0;
}
