// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What KVM is told about memslots.
 */
#include "internal.h"

static int set_memslot(struct kuf *k, struct kufi_region *region, bool userfault)
{
	const struct kuf_region *r = &region->r;
	struct kufi_memslot slot = {
		.slot = r->as_id << 16 | r->slot,
		.flags = r->kvm_flags,
		.gpa = r->gpa,
		.len = r->len,
		.hva = (uintptr_t)r->hva,
	};

	if (r->gmem_fd >= 0) {
		slot.flags |= KUFI_MEM_GUEST_MEMFD;
		slot.gmem_fd = r->gmem_fd;
		slot.gmem_offset = r->gmem_offset;
	}
	if (userfault) {
		slot.flags |= KVM_MEM_USERFAULT;
		slot.bitmap = (uintptr_t)region->bitmap;
	}
	return kufi_ioctl(k->vm_fd, KUFI_SET_MEMSLOT, &slot);
}

static int find(struct kuf *k, uint32_t id, struct kufi_region **region)
{
	if (id >= KUF_MAX_REGIONS || !k->regions[id].used)
		return -ENOENT;
	*region = &k->regions[id];
	return k->vm_fd < 0 ? -EOPNOTSUPP : 0;
}

int kuf_arm(struct kuf *k, uint32_t id)
{
	struct kufi_region *region;
	int ret = find(k, id, &region);

	if (ret)
		return ret;
	/* From here on a page that goes has to be unmapped. */
	region->armed = true;
	ret = set_memslot(k, region, true);
	if (ret)
		region->armed = false;
	return ret;
}

int kuf_disarm(struct kuf *k, uint32_t id, unsigned int flags)
{
	struct kufi_region *region;
	int ret = find(k, id, &region);
	uint64_t page;

	if (ret)
		return ret;
	if (flags & ~KUF_DISARM_FORCE)
		return -EINVAL;
	if (!region->armed)
		return 0;
	for (page = 0; !(flags & KUF_DISARM_FORCE) && page < region->nr_pages; page++)
		if (kufi_state(kufi_load(&region->words[page])) != KUF_PRESENT)
			return -EBUSY;
	ret = set_memslot(k, region, false);
	if (!ret)
		region->armed = false;
	return ret;
}

int kufi_rescan(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr)
{
	struct kvm_userfault_range range = {
		.gpa = kufi_page_gpa(k, region, first),
		.size = nr << k->page_shift,
		.as_id = region->r.as_id,
	};
	int ret;

	if (k->imported)
		return -EOPNOTSUPP;
	if (!region->armed)
		return 0;
	if (!(k->features & KVM_USERFAULT_FEATURE_RESCAN))
		return -EOPNOTSUPP;
	/* Pending signals make it stop early; what is claimed must not stay so. */
	do {
		ret = kufi_ioctl(k->vm_fd, KVM_USERFAULT_RESCAN, &range);
	} while (ret == -EINTR || (!ret && range.size));
	return ret;
}
