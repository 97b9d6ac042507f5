/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_RECORDING_H
#define KUF_RECORDING_H

#include <kuf/source.h>

#include "kuf.h"

/* Files with the order in which pages were needed; as kuf_trace_pack() makes them. */

/* The file has its name once it is complete and on the disk. */
int recording_write(const char *path, const struct kuf_trace_entry *entries, u64 nr);
/* *entries are the caller's to free.  -errno after a message that names the file. */
int recording_read(const char *path, struct kuf_trace_entry **entries, u64 *nr);

#endif /* KUF_RECORDING_H */
