// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pages get content: claim, write, clear the bit, settle, wake; in this order.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

int kufi_punch(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr)
{
	uint64_t at = first << k->page_shift, len = nr << k->page_shift;
	int ret;

	if (region->backing_fd < 0 || region->r.flags & KUF_REGION_PROC_MEM)
		return madvise((char *)region->r.hva + at, len, MADV_DONTNEED) ? -errno : 0;
	do {
		ret = fallocate(region->backing_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				region->backing_offset + at, len);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

static struct kuf_request request_for(struct kuf *k, struct kufi_region *region, uint64_t page)
{
	return (struct kuf_request){
		.size = sizeof(struct kuf_request),
		.gpa = kufi_page_gpa(k, region, page),
		.len = k->page_size,
		.region = region->id,
		.as_id = region->r.as_id,
		.flags = KUF_REQUEST_URGENT,
	};
}

static int fetch(struct kuf *k, struct kufi_region *region, uint64_t page, void *to)
{
	struct kuf_request request = request_for(k, region, page);

	return k->ops.fetch(k->source, &request, to);
}

static bool is_zero(enum kufi_how how)
{
	return how == KUFI_ZERO || how == KUFI_REPLY_ZERO;
}

/* guest_memfd that nobody can map. */
static int fill_private(struct kuf *k, struct kufi_region *region, uint64_t page,
			enum kufi_how how, const void *content)
{
	unsigned char buffer[4096];
	int ret;

	if (!region->r.install)
		return is_zero(how) ? kufi_punch(k, region, page, 1) : -EOPNOTSUPP;
	if (how == KUFI_FETCH) {
		if (k->page_size > sizeof(buffer))
			return -EOPNOTSUPP;
		ret = fetch(k, region, page, buffer);
		if (ret)
			return ret;
		content = buffer;
	}
	return region->r.install(region->r.opaque, kufi_page_gpa(k, region, page),
				 is_zero(how) ? NULL : content, k->page_size);
}

static bool verifies(const struct kuf *k, enum kufi_how how)
{
	return k->ops.verify && how != KUFI_COPY && how != KUFI_ZERO;
}

/* @content: what is in memory now, not what was to be written there. */
static int verify(struct kuf *k, struct kufi_region *region, uint64_t page, const void *content)
{
	struct kuf_request request = request_for(k, region, page);

	return k->ops.verify(k->source, &request, content);
}

/* Where another process has its memory. */
static int write_all(const struct kufi_region *region, uint64_t at, const char *from, size_t len)
{
	ssize_t n;

	for (; len; at += n, from += n, len -= n) {
		n = pwrite(region->backing_fd, from, len, region->backing_offset + at);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int read_all(const struct kufi_region *region, uint64_t at, char *to, size_t len)
{
	ssize_t n;

	for (; len; at += n, to += n, len -= n) {
		n = pread(region->backing_fd, to, len, region->backing_offset + at);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int fill_remote(struct kuf *k, struct kufi_region *region, uint64_t page,
		       enum kufi_how how, const void *content)
{
	uint64_t at = page << k->page_shift;
	char buffer[4096] = {};
	int ret = 0;

	if (k->page_size > sizeof(buffer))
		return -EOPNOTSUPP;
	if (how == KUFI_FETCH)
		ret = fetch(k, region, page, buffer);
	if (!ret)
		ret = write_all(region, at, is_zero(how) || how == KUFI_FETCH ? buffer : content,
				k->page_size);
	if (ret || !verifies(k, how))
		return ret;
	ret = read_all(region, at, buffer, k->page_size);
	return ret ? ret : verify(k, region, page, buffer);
}

static int fill(struct kuf *k, struct kufi_region *region, uint64_t page, enum kufi_how how,
		const void *content)
{
	int ret = 0;
	char *to;

	if (region->r.flags & KUF_REGION_PRIVATE)
		return fill_private(k, region, page, how, content);
	if (region->imported && region->r.flags & KUF_REGION_PROC_MEM)
		return fill_remote(k, region, page, how, content);
	to = (char *)region->r.hva + (page << k->page_shift);
	if (is_zero(how))
		memset(to, 0, k->page_size);
	else if (how == KUFI_FETCH)
		ret = fetch(k, region, page, to);
	else
		memcpy(to, content, k->page_size);
	if (ret || !verifies(k, how))
		return ret;
	return verify(k, region, page, to);
}

int kufi_fill_page(struct kufi_wake *wake, uint64_t page, enum kufi_how how,
		   const void *content, bool *filled)
{
	struct kufi_region *region = wake->region;
	uint32_t *word = &region->words[page], old;
	struct kuf *k = wake->k;
	bool ask;
	int ret;

	*filled = false;
	/* What the source has of a discarded page, zeroes included, is out of date. */
	ret = kufi_page_claim(word, k->peer, how == KUFI_ZERO);
	if (ret == -EUCLEAN)
		return ret;
	if (ret) {
		KUFI_COUNT(k, skipped, 1);
		return 0;
	}
	ret = fill(k, region, page, how, content);
	if (ret) {
		KUFI_COUNT(k, failed, 1);
		if (!kufi_page_release(word, k->peer, &old, &ask)) {
			kufi_wake_page(wake, page, old);
			if (ask)
				kufi_need(k, region, page);
		}
		return ret;
	}
	kufi_bit_clear(region, page);
	ret = kufi_page_settle(word, k->peer, &old);
	if (ret)
		return ret;
	*filled = true;
	kufi_count(is_zero(how) ? &k->stats.zeroed : &k->stats.installed, 1);
	if (how == KUFI_FETCH || old & KUFI_URGENT)
		KUFI_COUNT(k, demanded, 1);
	kufi_wake_page(wake, page, old);
	return 0;
}

static int install(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len,
		   enum kufi_how how, const void *data, uint64_t *done)
{
	struct kufi_wake wake = { .k = k };
	uint64_t first, nr, i, n = 0;
	bool filled;
	int ret;

	ret = kufi_region_range(k, as_id, gpa, len, &wake.region, &first, &nr);
	for (i = 0; !ret && i < nr; i++) {
		ret = kufi_fill_page(&wake, first + i, how,
				     data ? (const char *)data + (i << k->page_shift) : NULL,
				     &filled);
		n += filled;
	}
	if (wake.region)
		kufi_wake_flush(&wake);
	if (done)
		*done = n;
	return ret;
}

int kuf_install(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len, const void *data,
		uint64_t *done)
{
	if (!data)
		return -EINVAL;
	return install(k, as_id, gpa, len, KUFI_COPY, data, done);
}

int kuf_install_zero(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len,
		     uint64_t *done)
{
	return install(k, as_id, gpa, len, KUFI_ZERO, NULL, done);
}
