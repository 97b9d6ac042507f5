/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_BOOT_H
#define KUF_BOOT_H

#include "kuf.h"

/* The x86 boot protocol: what memory holds, and how the first vCPU begins. */

struct boot_config {
	const char *kernel;	/* file, bzImage */
	const char *initrd;	/* file, or NULL */
	const char *cmdline;
	const char *more_cmdline;	/* what kuf adds to it */
	u64 mem_size;
	unsigned int nr_cpus;
	bool entry32;		/* without paging, instead of with page tables */
};

struct boot_entry {
	u64 rip;
	u64 rsi;		/* of struct boot_params */
	u64 gdt;
	u64 cr3;		/* 0: 32-bit entry, no paging */
};

/*
 * Writes the image of memory at boot into @area, which is all zeroes and as long
 * as guest memory is below the hole.
 */
int boot_build(const struct boot_config *config, u8 *area, struct boot_entry *entry);

#define BOOT_CS		0x10
#define BOOT_DS		0x18
#define BOOT_GDT_SIZE	32

/* mptable.c: the MP table, at @area + MPTABLE_GPA. */
#define MPTABLE_GPA	0xf0000ul
void mptable_build(u8 *area, unsigned int nr_cpus);

#endif /* KUF_BOOT_H */
