// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Regions: where they are, and their shared memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* Adding one does not disturb those who look. */
static bool is_used(const struct kufi_region *region)
{
	return __atomic_load_n(&region->used, __ATOMIC_ACQUIRE);
}

struct kufi_region *kufi_region_find(struct kuf *k, uint32_t as_id, uint64_t gpa)
{
	struct kufi_region *region = kufi_region_next(k, as_id, gpa);

	return region && region->r.gpa <= gpa ? region : NULL;
}

struct kufi_region *kufi_region_next(struct kuf *k, uint32_t as_id, uint64_t gpa)
{
	struct kufi_region *region, *best = NULL;

	for (region = k->regions; region < k->regions + KUF_MAX_REGIONS; region++) {
		if (!is_used(region) || region->r.as_id != as_id)
			continue;
		if (region->r.gpa + (region->r.len - 1) < gpa)
			continue;
		if (!best || region->r.gpa < best->r.gpa)
			best = region;
	}
	return best;
}

int kufi_region_range(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len,
		      struct kufi_region **region, uint64_t *first, uint64_t *nr)
{
	if (!len || (gpa | len) & (k->page_size - 1))
		return -EINVAL;
	*region = kufi_region_find(k, as_id, gpa);
	if (!*region || len > (*region)->r.len - (gpa - (*region)->r.gpa))
		return -ENOENT;
	*first = (gpa - (*region)->r.gpa) >> k->page_shift;
	*nr = len >> k->page_shift;
	return 0;
}

/* What follows the bitmap begins on a page of its own. */
static size_t bitmap_size(const struct kuf *k, uint64_t nr_pages)
{
	return ((nr_pages + 63) / 64 * 8 + k->page_size - 1) & ~(k->page_size - 1);
}

static size_t words_size(uint64_t nr_pages)
{
	return (nr_pages * sizeof(uint32_t) + 7) & ~(size_t)7;
}

size_t kufi_state_size(const struct kuf *k, uint64_t len)
{
	uint64_t nr = len >> k->page_shift;
	size_t set = kufi_set_size(nr);

	if (!set)
		return 0;
	return (bitmap_size(k, nr) + words_size(nr) + set + k->page_size - 1) &
	       ~(k->page_size - 1);
}

int kufi_region_check(struct kuf *k, const struct kuf_region *r)
{
	uint64_t offsets = r->gmem_offset | r->fd_offset | (uintptr_t)r->hva;
	uint64_t last = r->gpa + (r->len - 1);
	struct kufi_region *region;

	if (!r->len || (r->gpa | r->len | offsets) & (k->page_size - 1) || last < r->gpa)
		return -EINVAL;
	if (r->gmem_offset + r->len < r->len || r->fd_offset + r->len < r->len)
		return -EINVAL;
	/* KVM has the two in one number. */
	if (r->slot > 0xffff || r->as_id > 0xffff)
		return -EINVAL;
	if (r->flags & ~(KUF_REGION_PRESENT | KUF_REGION_PRIVATE | KUF_REGION_PROC_MEM))
		return -EINVAL;
	if (r->flags & KUF_REGION_PROC_MEM &&
	    (r->flags & KUF_REGION_PRIVATE || r->gmem_fd >= 0 || r->fd < 0 ||
	     r->fd_offset != (uintptr_t)r->hva))
		return -EINVAL;
	if (r->kvm_flags & (KVM_MEM_USERFAULT | KVM_MEM_USERFAULT_WP | KUFI_MEM_GUEST_MEMFD))
		return -EINVAL;
	if (r->flags & KUF_REGION_PRIVATE ? r->gmem_fd < 0 : !r->hva || r->install)
		return -EINVAL;
	if (!kufi_state_size(k, r->len))
		return -EINVAL;
	region = kufi_region_next(k, r->as_id, r->gpa);
	if (region && region->r.gpa <= last)
		return -EEXIST;
	return 0;
}

int kufi_region_map(struct kuf *k, struct kufi_region *region, int state_fd)
{
	uint64_t nr = region->r.len >> k->page_shift;
	char *p;

	region->state_size = kufi_state_size(k, region->r.len);
	p = mmap(NULL, region->state_size, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	region->nr_pages = nr;
	region->state_fd = state_fd;
	region->state = p;
	region->bitmap = (uint64_t *)p;
	region->words = (uint32_t *)(p + bitmap_size(k, nr));
	kufi_set_init(&region->need, nr, p + bitmap_size(k, nr) + words_size(nr));
	return 0;
}

void kufi_region_unmap(struct kufi_region *region)
{
	if (!region->used)
		return;
	__atomic_store_n(&region->used, false, __ATOMIC_RELEASE);
	munmap(region->state, region->state_size);
	close(region->state_fd);
	if (!region->imported)
		return;
	if (region->r.hva)
		munmap(region->r.hva, region->r.len);
	if (region->backing_fd >= 0)
		close(region->backing_fd);
}

/* Sealed, so that no peer can take the memory from under the others. */
static int state_create(size_t size)
{
	int fd = memfd_create("kuf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* All bits for the pages that there are: what is beyond counts as nothing. */
static void all_absent(struct kufi_region *region)
{
	uint64_t tail = region->nr_pages % 64;

	memset(region->bitmap, 0xff, region->nr_pages / 64 * 8);
	if (tail)
		region->bitmap[region->nr_pages / 64] = (1ull << tail) - 1;
}

static void all_present(struct kufi_region *region)
{
	uint64_t page;

	for (page = 0; page < region->nr_pages; page++)
		region->words[page] = KUF_PRESENT;
}

int kuf_region_add(struct kuf *k, struct kuf_region *user)
{
	struct kufi_region *region = k->regions;
	struct kuf_region r;
	int fd, ret;

	ret = kufi_copy_in(&r, sizeof(r), user);
	if (!ret)
		ret = kufi_region_check(k, &r);
	if (ret)
		return ret;
	while (region->used)
		if (++region == k->regions + KUF_MAX_REGIONS)
			return -ENOSPC;

	fd = state_create(kufi_state_size(k, r.len));
	if (fd < 0)
		return fd;
	memset(region, 0, sizeof(*region));
	region->id = region - k->regions;
	r.id = region->id;
	region->r = r;
	region->backing_fd = r.gmem_fd >= 0 ? r.gmem_fd : r.fd;
	region->backing_offset = r.gmem_fd >= 0 ? r.gmem_offset : r.fd_offset;
	ret = kufi_region_map(k, region, fd);
	if (ret) {
		close(fd);
		return ret;
	}
	if (r.flags & KUF_REGION_PRESENT)
		all_present(region);
	else
		all_absent(region);
	__atomic_store_n(&region->used, true, __ATOMIC_RELEASE);
	kufi_ahead_restart(k);
	kufi_copy_out(user, &r);
	return 0;
}

int kuf_region_remove(struct kuf *k, uint32_t id)
{
	if (id >= KUF_MAX_REGIONS || !k->regions[id].used)
		return -ENOENT;
	if (k->regions[id].armed)
		return -EBUSY;
	kufi_ahead_restart(k);
	kufi_region_unmap(&k->regions[id]);
	return 0;
}
