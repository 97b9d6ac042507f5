// SPDX-License-Identifier: GPL-2.0
/*
 * kuf recover --journal: what was killed had nothing that is not in two files.  The VM's
 * state is at the destination, whether or not it heard GO; its disk was made durable before
 * the record was written.
 */
#include <errno.h>
#include <string.h>

#include "journal.h"
#include "outgoing.h"
#include "recover_files.h"

static int map_file(void *opaque, u64 gpa, u64 len, void **ptr)
{
	const struct mem *mem = opaque;

	*ptr = mem->area + mem_offset(mem, gpa, len);
	return 0;
}

static int go_on(const struct journal_record *r, struct mem *mem, struct outgoing *o,
		 const struct net_address *to)
{
	int err;

	/* The epoch of GO was recorded. */
	o->epoch = r->epoch - 1;
	memcpy(o->session, r->session, sizeof(o->session));
	memcpy(o->token, r->given.token, sizeof(o->token));
	o->config.mem_size = mem->size;
	o->origin.mem = mem;
	o->origin.map = map_file;
	o->origin.opaque = mem;
	err = outgoing_adopt(o);
	return err ?: outgoing_recover(o, to);
}

static int exit_code(const struct outgoing *o, int err)
{
	const struct origin_counts *c = &o->origin.counts;

	if (err && o->phase == OUTGOING_CUT)
		return KUF_EXIT_CUT;
	if (err)
		return KUF_EXIT_LOST;
	kuf_say("sent: %llu urgent pages, %llu in the background, %llu zeroes, %llu failed",
		(unsigned long long)c->pages[1], (unsigned long long)c->pages[0],
		(unsigned long long)(c->zero_pages[0] + c->zero_pages[1]),
		(unsigned long long)c->failed);
	return KUF_EXIT_OK;
}

int recover_files(const char *journal, const char *mem_path, const char *address, u64 retry_ms)
{
	struct outgoing o = { .cancel = -1, .retry_ms = retry_ms };
	struct net_address to;
	struct journal j;
	struct mem mem;
	int err, code;

	err = net_parse(&to, address);
	if (!err)
		err = journal_open(&j, journal);
	if (!err)
		err = journal_may_serve(&j);
	if (!err)
		err = mem_open(&mem, mem_path, j.record.given.mem_size, j.record.given.mem_file);
	if (err)
		return KUF_EXIT_FAILED;
	code = exit_code(&o, go_on(&j.record, &mem, &o, &to));
	outgoing_free(&o);
	if (!code)
		kuf_say("all of it is there: %s is not needed any more", mem_path);
	mem_destroy(&mem);
	return code;
}
