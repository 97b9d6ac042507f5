// SPDX-License-Identifier: GPL-2.0
/*
 * kuf recover --journal: what was killed had nothing that is not in two files.  The VM's
 * state is at the destination, whether or not it heard GO; its disk was made durable before
 * the record was written.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "journal.h"
#include "outgoing.h"
#include "recover_files.h"

struct files {
	struct mem mem;
	struct journal journal;
	pthread_mutex_t lock;	/* the record, while pages are served */
};

static int map_file(void *opaque, u64 gpa, u64 len, void **ptr)
{
	const struct files *f = opaque;

	*ptr = f->mem.area + mem_offset(&f->mem, gpa, len);
	return 0;
}

/* Who comes after this one would take what the file has there for the page's content. */
static int lost(void *opaque, const void *ptr)
{
	struct files *f = opaque;
	const struct journal_record *r = &f->journal.record;
	struct journal_given given;
	int err = 0;

	pthread_mutex_lock(&f->lock);
	given = r->given;
	if (given.mem_file) {
		given.mem_file = 0;
		err = journal_give_up(&f->journal, r->session, r->epoch, &given);
	}
	pthread_mutex_unlock(&f->lock);
	return err;
}

static int go_on(struct files *f, struct outgoing *o, const struct net_address *to)
{
	const struct journal_record *r = &f->journal.record;
	int err;

	/* The epoch of GO was recorded. */
	o->epoch = r->epoch - 1;
	memcpy(o->session, r->session, sizeof(o->session));
	memcpy(o->token, r->given.token, sizeof(o->token));
	o->config.mem_size = f->mem.size;
	o->origin.mem = &f->mem;
	o->origin.map = map_file;
	o->origin.lost = lost;
	o->origin.opaque = f;
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
	struct files f = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct journal_given *given = &f.journal.record.given;
	struct net_address to;
	int err, code;

	err = net_parse(&to, address);
	if (!err)
		err = journal_open(&f.journal, journal);
	if (!err)
		err = journal_may_serve(&f.journal);
	if (!err)
		err = mem_open(&f.mem, mem_path, given->mem_size, given->mem_file);
	if (err)
		return KUF_EXIT_FAILED;
	code = exit_code(&o, go_on(&f, &o, &to));
	outgoing_free(&o);
	if (!code)
		kuf_say("all of it is there: %s is not needed any more", mem_path);
	mem_destroy(&f.mem);
	return code;
}
