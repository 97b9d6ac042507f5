// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pages get content: claim, write, clear the bit, settle, wake; in this order.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

int kufi_punch(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr)
{
	uint64_t at = first << k->page_shift, len = nr << k->page_shift;
	int ret;

	if (region->backing_fd < 0)
		return madvise((char *)region->r.hva + at, len, MADV_DONTNEED) ? -errno : 0;
	do {
		ret = fallocate(region->backing_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				region->backing_offset + at, len);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

static int fetch(struct kuf *k, struct kufi_region *region, uint64_t page, void *to)
{
	struct kuf_request request = {
		.size = sizeof(request),
		.gpa = kufi_page_gpa(k, region, page),
		.len = k->page_size,
		.region = region->id,
		.as_id = region->r.as_id,
		.flags = KUF_REQUEST_URGENT,
	};

	return k->ops.fetch(k->source, &request, to);
}

/* guest_memfd that nobody can map. */
static int fill_private(struct kuf *k, struct kufi_region *region, uint64_t page,
			enum kufi_how how, const void *content)
{
	unsigned char buffer[4096];
	int ret;

	if (!region->r.install)
		return how == KUFI_ZERO ? kufi_punch(k, region, page, 1) : -EOPNOTSUPP;
	if (how == KUFI_FETCH) {
		if (k->page_size > sizeof(buffer))
			return -EOPNOTSUPP;
		ret = fetch(k, region, page, buffer);
		if (ret)
			return ret;
		content = buffer;
	}
	return region->r.install(region->r.opaque, kufi_page_gpa(k, region, page),
				 how == KUFI_ZERO ? NULL : content, k->page_size);
}

static int fill(struct kuf *k, struct kufi_region *region, uint64_t page, enum kufi_how how,
		const void *content)
{
	char *to = (char *)region->r.hva + (page << k->page_shift);

	if (region->r.flags & KUF_REGION_PRIVATE)
		return fill_private(k, region, page, how, content);
	switch (how) {
	case KUFI_COPY:
		memcpy(to, content, k->page_size);
		return 0;
	case KUFI_ZERO:
		memset(to, 0, k->page_size);
		return 0;
	default:
		return fetch(k, region, page, to);
	}
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
	kufi_count(how == KUFI_ZERO ? &k->stats.zeroed : &k->stats.installed, 1);
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
