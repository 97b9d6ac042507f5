/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_CPIO_H
#define KUF_TESTS_CPIO_H

#include <stdio.h>

/* Writes an initramfs, file by file ("newc"); errors are the stream's. */
void cpio_node(FILE *out, const char *name, unsigned int mode, unsigned int major,
	       unsigned int minor);
void cpio_file(FILE *out, const char *name, unsigned int mode, const void *data, size_t size);
void cpio_end(FILE *out);

#endif /* KUF_TESTS_CPIO_H */
