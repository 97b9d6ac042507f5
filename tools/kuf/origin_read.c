// SPDX-License-Identifier: GPL-2.0
/*
 * What the pages are that an origin serves.
 */
#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "guard.h"
#include "origin_read.h"

static const u8 zeroes[PAGE_SIZE];

bool origin_is_zero(const u8 *page)
{
	return !memcmp(page, zeroes, PAGE_SIZE);
}

bool origin_is_over(int err)
{
	return err == -ECANCELED || err == -ENOLINK;
}

u64 origin_page(const struct origin *o, u64 gpa)
{
	return mem_offset(o->mem, gpa, PAGE_SIZE) / PAGE_SIZE;
}

/* How many of the pages from @page on are poisoned, or are not. */
static u64 run_of(const struct origin *o, u64 page, u64 nr, bool poisoned)
{
	u64 n = 0;

	while (n < nr && pageset_has(&o->poisoned, page + n) == poisoned)
		n++;
	return n;
}

/* Where *nr pages from @gpa on are; fewer if one of these is lost or absent; -errno: the first. */
static int find(struct origin *o, u64 gpa, u64 *nr, void **p)
{
	u64 page = origin_page(o, gpa);
	int err;

	*nr = run_of(o, page, *nr, false);
	if (!*nr)
		return -EHWPOISON;
	err = o->map(o->opaque, gpa, *nr * PAGE_SIZE, p);
	if ((err == -EHWPOISON || err == -EAGAIN) && *nr > 1) {
		*nr = 1;
		err = o->map(o->opaque, gpa, PAGE_SIZE, p);
	}
	if (err == -EHWPOISON)
		pageset_add(&o->poisoned, page);
	return err;
}

/* One page that is at @p, to @to; -EHWPOISON: it is found to be broken; -ENOLINK: as map(). */
static int copy(struct origin *o, u64 gpa, const void *p, u8 *to)
{
	int err = guard_copy(to, p, PAGE_SIZE);

	if (!err)
		return 0;
	if (o->lost && o->lost(o->opaque, p))
		return -ENOLINK;
	pageset_add(&o->poisoned, origin_page(o, gpa));
	return err;
}

int origin_read(struct origin *o, u64 gpa, u64 nr, u8 *to)
{
	u32 n;
	void *p;
	int err;

	err = find(o, gpa, &nr, &p);
	if (err)
		return err;
	for (n = 0; n < nr; n++) {
		err = copy(o, gpa + n * PAGE_SIZE, (u8 *)p + n * PAGE_SIZE,
			   to + n * PAGE_SIZE);
		if (err && !n)
			return err;
		if (err || origin_is_zero(to + n * PAGE_SIZE) != origin_is_zero(to))
			break;
	}
	return n;
}

u64 origin_lost_run(const struct origin *o, u64 gpa, u64 nr)
{
	return run_of(o, origin_page(o, gpa), nr, true);
}

int origin_digest(struct origin *o, u8 *page, u64 *sum)
{
	u32 zero = crc32c(0, zeroes, PAGE_SIZE);
	u64 at, gpa, nr;
	void *p;
	int err;

	*sum = 0;
	for (at = 0; at < o->mem->size; at += PAGE_SIZE) {
		gpa = mem_gpa(o->mem, at);
		nr = 1;
		err = find(o, gpa, &nr, &p);
		if (!err)
			err = copy(o, gpa, p, page);
		if (err == -EHWPOISON)
			continue;
		if (err)
			return err == -EAGAIN || origin_is_over(err) ? err :
			       kuf_error(err, "the page at 0x%llx", (unsigned long long)gpa);
		*sum += proto_digest(at / PAGE_SIZE,
				     origin_is_zero(page) ? zero : crc32c(0, page, PAGE_SIZE));
	}
	return 0;
}
