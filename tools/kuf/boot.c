// SPDX-License-Identifier: GPL-2.0
/*
 * The image of guest memory that a bzImage is started with.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"
#include "mem.h"

#define ZERO_PAGE_GPA	0x7000ul
#define GDT_GPA		0x8000ul
#define PML4_GPA	0x9000ul
#define PDPT_GPA	0xa000ul
#define PD_GPA		0xb000ul	/* four pages, 1 GiB each */
#define NR_PDS		4
#define CMDLINE_GPA	0x20000ul
#define CMDLINE_MAX	0x10000ul
#define LOW_END		0x9fc00ul
#define HIGH_START	0x100000ul	/* where the kernel goes */

#define BZIMAGE_MAGIC	0x53726448	/* "HdrS" */
#define BZIMAGE_VERSION	0x020c		/* has xloadflags and init_size */
#define LOADER_UNKNOWN	0xff
#define ENTRY64_OFFSET	0x200

#define PTE_TABLE	0x3		/* present, writable */
#define PTE_LARGE	0x83

/* Size of a regular file, which is opened; or -errno. */
static int64_t open_file(const char *path, int *fd)
{
	struct stat st;

	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return kuf_error(-errno, "%s", path);
	if (fstat(*fd, &st) || !S_ISREG(st.st_mode)) {
		close(*fd);
		return kuf_error(0, "%s is no regular file", path);
	}
	return st.st_size;
}

static int read_at(int fd, const char *path, void *buf, u64 size, u64 offset)
{
	u64 done = 0;
	ssize_t n;

	while (done < size) {
		n = pread(fd, buf + done, size - done, offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return kuf_error(n ? -errno : 0, "%s: cannot be read to its end", path);
		done += n;
	}
	return 0;
}

static int check_header(const struct boot_config *config, const struct setup_header *hdr)
{
	size_t len;

	if (hdr->header != BZIMAGE_MAGIC || hdr->boot_flag != 0xaa55)
		return kuf_error(0, "%s is no Linux bzImage", config->kernel);
	if (hdr->version < BZIMAGE_VERSION || !(hdr->loadflags & LOADED_HIGH))
		return kuf_error(0, "%s: boot protocol %u.%u is too old, 2.12 is needed",
				 config->kernel, hdr->version >> 8, hdr->version & 0xff);
	if (!config->entry32 && !(hdr->xloadflags & XLF_KERNEL_64))
		return kuf_error(0, "%s has no 64-bit entry", config->kernel);
	len = strlen(config->cmdline) + strlen(config->more_cmdline);
	if (len > hdr->cmdline_size || len >= CMDLINE_MAX)
		return kuf_error(0, "the kernel's command line is too long");
	return 0;
}

/* The kernel's memory ends where @end says: it unpacks itself there. */
static int load_kernel(const struct boot_config *config, u8 *area, u64 low,
		       struct setup_header *hdr, u64 *end)
{
	struct boot_params probe;
	u64 setup, base;
	int64_t size;
	int fd, err;

	size = open_file(config->kernel, &fd);
	if (size < 0)
		return size;
	err = -EINVAL;
	if (size < (int64_t)sizeof(probe)) {
		kuf_error(0, "%s is no Linux bzImage", config->kernel);
		goto out;
	}
	err = read_at(fd, config->kernel, &probe, sizeof(probe), 0);
	if (err)
		goto out;
	*hdr = probe.hdr;
	err = check_header(config, hdr);
	if (err)
		goto out;

	setup = ((hdr->setup_sects ?: 4) + 1) * 512;
	base = hdr->pref_address > HIGH_START ? hdr->pref_address : HIGH_START;
	*end = base + hdr->init_size;
	if ((u64)size <= setup || *end > low || HIGH_START + (size - setup) > low) {
		err = kuf_error(0, "%s does not fit into %llu MiB of memory", config->kernel,
				(unsigned long long)(low >> 20));
		goto out;
	}
	err = read_at(fd, config->kernel, area + HIGH_START, size - setup, setup);
out:
	close(fd);
	return err;
}

static int load_initrd(const struct boot_config *config, u8 *area, u64 low,
		       u64 kernel_end, struct setup_header *hdr)
{
	u64 top = (u64)hdr->initrd_addr_max + 1, start;
	int64_t size;
	int fd, err;

	size = open_file(config->initrd, &fd);
	if (size < 0)
		return size;
	if (top > low)
		top = low;
	start = align_down(top - size, PAGE_SIZE);
	if ((u64)size > top || start < kernel_end) {
		err = kuf_error(0, "%s does not fit into memory beside the kernel", config->initrd);
	} else {
		err = read_at(fd, config->initrd, area + start, size, 0);
		hdr->ramdisk_image = start;
		hdr->ramdisk_size = size;
	}
	close(fd);
	return err;
}

static void add_e820(struct boot_params *bp, u64 addr, u64 end, u32 type)
{
	struct boot_e820_entry *e = &bp->e820_table[bp->e820_entries++];

	e->addr = addr;
	e->size = end - addr;
	e->type = type;
}

static void build_page_tables(u8 *area)
{
	u64 *pml4 = (u64 *)(area + PML4_GPA), *pdpt = (u64 *)(area + PDPT_GPA);
	u64 *pd = (u64 *)(area + PD_GPA);
	u64 i;

	pml4[0] = PDPT_GPA | PTE_TABLE;
	for (i = 0; i < NR_PDS; i++)
		pdpt[i] = (PD_GPA + i * PAGE_SIZE) | PTE_TABLE;
	for (i = 0; i < NR_PDS * 512; i++)
		pd[i] = i << 21 | PTE_LARGE;
}

int boot_build(const struct boot_config *config, u8 *area, struct boot_entry *entry)
{
	u64 low = config->mem_size < MEM_LOW_MAX ? config->mem_size : MEM_LOW_MAX;
	struct boot_params *bp = (struct boot_params *)(area + ZERO_PAGE_GPA);
	u64 *gdt = (u64 *)(area + GDT_GPA);
	u64 kernel_end;
	int err;

	err = load_kernel(config, area, low, &bp->hdr, &kernel_end);
	if (!err && config->initrd)
		err = load_initrd(config, area, low, kernel_end, &bp->hdr);
	if (err)
		return err;

	bp->hdr.type_of_loader = LOADER_UNKNOWN;
	bp->hdr.cmd_line_ptr = CMDLINE_GPA;
	bp->hdr.vid_mode = 0xffff;
	snprintf((char *)area + CMDLINE_GPA, CMDLINE_MAX, "%s%s", config->cmdline,
		 config->more_cmdline);

	add_e820(bp, 0, LOW_END, 1);
	add_e820(bp, LOW_END, HIGH_START, 2);
	add_e820(bp, HIGH_START, low, 1);
	if (config->mem_size > low)
		add_e820(bp, MEM_HIGH_GPA, MEM_HIGH_GPA + config->mem_size - low, 1);

	/* Flat segments, at the selectors that the protocol asks for. */
	gdt[BOOT_CS / 8] = config->entry32 ? 0x00cf9b000000ffff : 0x00af9b000000ffff;
	gdt[BOOT_DS / 8] = 0x00cf93000000ffff;

	*entry = (struct boot_entry){ .rsi = ZERO_PAGE_GPA, .gdt = GDT_GPA };
	if (config->entry32) {
		entry->rip = HIGH_START;
	} else {
		build_page_tables(area);
		entry->cr3 = PML4_GPA;
		entry->rip = HIGH_START + ENTRY64_OFFSET;
	}
	mptable_build(area, config->nr_cpus);
	return 0;
}
