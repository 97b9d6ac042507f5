// SPDX-License-Identifier: GPL-2.0
/*
 * Initramfs archives, in the "newc" format.
 */
#include <string.h>
#include <sys/stat.h>

#include "cpio.h"

static unsigned int inode;

static void pad(FILE *out)
{
	while (ftell(out) % 4)
		fputc(0, out);
}

static void header(FILE *out, const char *name, unsigned int mode, size_t size,
		   unsigned int major, unsigned int minor)
{
	/* magic, ino, mode, uid, gid, nlink, mtime, size, device, its own device, name */
	fprintf(out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		++inode, mode, 0, 0, 1, 0, (unsigned int)size, 0, 0, major, minor,
		(unsigned int)strlen(name) + 1, 0);
	fwrite(name, 1, strlen(name) + 1, out);
	pad(out);
}

void cpio_node(FILE *out, const char *name, unsigned int mode, unsigned int major,
	       unsigned int minor)
{
	header(out, name, mode, 0, major, minor);
}

void cpio_file(FILE *out, const char *name, unsigned int mode, const void *data, size_t size)
{
	header(out, name, S_IFREG | mode, size, 0, 0);
	fwrite(data, 1, size, out);
	pad(out);
}

void cpio_end(FILE *out)
{
	header(out, "TRAILER!!!", 0, 0, 0, 0);
}
