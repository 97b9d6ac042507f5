/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_RECOVER_FILES_H
#define KUF_RECOVER_FILES_H

#include "kuf.h"

/*
 * The source of a VM whose own process was killed after it gave the VM up: with its record,
 * and its memory in a file.  What kuf is to exit with.
 */
int recover_files(const char *journal, const char *mem_path, const char *address, u64 retry_ms);

#endif /* KUF_RECOVER_FILES_H */
