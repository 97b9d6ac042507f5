// SPDX-License-Identifier: GPL-2.0
/*
 * A log in memory, whose entries are chained by hashes: that one of them is missing, is
 * an older one, or is not from this boot shows in all that follow.
 */
#include <stdlib.h>

#include "guest.h"
#include "pattern.h"

#define MAX_ENTRIES	100000

static struct entry {
	uint64_t number, time_ns, content, hash;
} *entries;

static uint64_t nr_entries;

static uint64_t hash_of(uint64_t nonce, uint64_t number)
{
	const struct entry *e = &entries[number];

	return guest_log_hash(number ? entries[number - 1].hash : nonce, e->number, e->time_ns,
			      e->content);
}

uint64_t log_append(uint64_t nonce, uint64_t time_ns, uint64_t content)
{
	struct entry *e;

	if (!entries)
		entries = calloc(MAX_ENTRIES, sizeof(*entries));
	if (!entries || nr_entries == MAX_ENTRIES) {
		failed("the log is full");
		return 0;
	}
	e = &entries[nr_entries];
	*e = (struct entry){ .number = nr_entries, .time_ns = time_ns, .content = content };
	e->hash = hash_of(nonce, nr_entries);
	nr_entries++;
	return e->hash;
}

bool log_verify(uint64_t nonce)
{
	uint64_t i;

	for (i = 0; i < nr_entries; i++) {
		if (entries[i].number != i || entries[i].hash != hash_of(nonce, i)) {
			failed("entry %llu of the log is wrong", (unsigned long long)i);
			return false;
		}
		if (i && entries[i].time_ns <= entries[i - 1].time_ns) {
			failed("entry %llu of the log is not later than the one before",
			       (unsigned long long)i);
			return false;
		}
	}
	return true;
}
