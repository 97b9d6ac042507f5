// SPDX-License-Identifier: GPL-2.0
/*
 * CRC32C, eight bytes a step: whole memories go through it.
 */
#include <pthread.h>
#include <string.h>

#include "crc32c.h"

#define POLYNOMIAL	0x82f63b78u
#define SLICES		8

static u32 tables[SLICES][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
	u32 i, j, crc;

	for (i = 0; i < 256; i++) {
		crc = i;
		for (j = 0; j < 8; j++)
			crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		tables[0][i] = crc;
	}
	for (i = 0; i < 256; i++) {
		for (j = 1; j < SLICES; j++)
			tables[j][i] = tables[j - 1][i] >> 8 ^ tables[0][tables[j - 1][i] & 0xff];
	}
}

u32 crc32c(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;
	u64 word;
	u32 i;

	pthread_once(&once, make_tables);
	crc = ~crc;
	for (; len >= SLICES; len -= SLICES, p += SLICES) {
		memcpy(&word, p, sizeof(word));
		word ^= crc;
		crc = 0;
		for (i = 0; i < SLICES; i++)
			crc ^= tables[SLICES - 1 - i][word >> 8 * i & 0xff];
	}
	while (len--)
		crc = crc >> 8 ^ tables[0][(crc ^ *p++) & 0xff];
	return ~crc;
}
