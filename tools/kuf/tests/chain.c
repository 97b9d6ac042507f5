// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <string.h>

#include "../guest/pattern.h"
#include "chain.h"

static bool wrong(unsigned int generation, const char *what)
{
	printf("# generation %u: %s\n", generation, what);
	return false;
}

static bool add(struct chain *c, uint64_t nonce, uint64_t time_ns, uint64_t content,
		uint64_t hash, unsigned int generation)
{
	if (c->generation && nonce != c->nonce)
		return wrong(generation, "another boot's");
	if (generation != c->generation + 1)
		return wrong(generation, "not the next one");
	if (time_ns <= c->time_ns)
		return wrong(generation, "the guest's clock did not go on");
	c->hash = guest_log_hash(c->generation ? c->hash : nonce, c->generation, time_ns, content);
	if (hash != c->hash)
		return wrong(generation, "the log's hash is not that of its entries");
	c->nonce = nonce;
	c->time_ns = time_ns;
	c->generation = generation;
	return true;
}

bool chain_read(struct chain *c, const char *console)
{
	unsigned long long nonce, time_ns, content, hash, gap;
	unsigned int generation;
	const char *line;
	char stop;

	for (line = console; (line = strstr(line, "guest: nonce ")); line++) {
		/* The last one may not be complete. */
		if (sscanf(line,
			   "guest: nonce %llx time %llu content %llx log %llx gap %llu us generation %u%c",
			   &nonce, &time_ns, &content, &hash, &gap, &generation, &stop) != 7 ||
		    stop != '.')
			continue;
		if (!add(c, nonce, time_ns, content, hash, generation))
			return false;
		if (gap > c->max_gap_us)
			c->max_gap_us = gap;
	}
	return true;
}
