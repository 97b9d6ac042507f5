/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_CRC32C_H
#define KUF_CRC32C_H

#include "kuf.h"

/* Castagnoli's, as iSCSI has it; @crc: of what comes before @data, 0 at first. */
u32 crc32c(u32 crc, const void *data, size_t len);

#endif /* KUF_CRC32C_H */
