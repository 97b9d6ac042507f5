/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_GUEST_PATTERN_H
#define KUF_GUEST_PATTERN_H

#include <stdint.h>

/*
 * The content of words in memory that is checked: it depends on where a word is
 * and on how often it was written, and is never 0.  So a page that was not filled,
 * that is another one's, or an older one's, is noticed.
 */
static inline uint64_t guest_pattern(uint64_t word, uint64_t generation)
{
	uint64_t x = word * 0x9e3779b97f4a7c15 + generation * 0xd1342543de82ef95;

	return (x ^ x >> 29) | 1;
}

/* What an entry of the guest's log adds to the hash of all before it. */
static inline uint64_t guest_log_hash(uint64_t before, uint64_t number, uint64_t time_ns,
				      uint64_t content)
{
	const uint64_t what[] = { number, time_ns, content };
	unsigned int i;

	for (i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		before = (before ^ what[i]) * 0xff51afd7ed558ccd;
		before = (before ^ before >> 32) * 0xc4ceb9fe1a85ec53;
		before ^= before >> 29;
	}
	return before;
}

/* A file in the guest's initramfs, to be found there as it was packed. */
#define GUEST_PATTERN_FILE		"/pattern"
#define GUEST_PATTERN_SIZE		(2ul << 20)
#define GUEST_PATTERN_GENERATION	4711

/*
 * A disk, if there is one: holds this at first; the guest reads all of it and writes
 * the second half anew.
 */
#define GUEST_DISK			"/dev/vda"
#define GUEST_DISK_SIZE			(1024ul << 10)
#define GUEST_DISK_GENERATION		1234

#endif /* KUF_GUEST_PATTERN_H */
