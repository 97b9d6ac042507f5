// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory: what it is made of, and the memslots that it is plugged into.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "mem.h"

static const char * const names[NR_MEM_BACKINGS] = {
	[MEM_ANON] = "anon",
	[MEM_SHMEM] = "shmem",
	[MEM_GMEM] = "gmem",
};

const char *mem_backing_name(enum mem_backing backing)
{
	return names[backing];
}

int mem_backing_by_name(const char *name)
{
	int i;

	for (i = 0; i < NR_MEM_BACKINGS; i++) {
		if (!strcmp(names[i], name))
			return i;
	}
	return -EINVAL;
}

int mem_file(const char *name, u64 size, void **map)
{
	int fd, err;

	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return kuf_error(-errno, "memfd_create for %s", name);
	if (ftruncate(fd, size)) {
		err = kuf_error(-errno, "%llu bytes for %s", (unsigned long long)size, name);
		goto err_fd;
	}
	*map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*map == MAP_FAILED) {
		err = kuf_error(-errno, "mmap of %s", name);
		goto err_fd;
	}
	return fd;

err_fd:
	close(fd);
	return err;
}

static int create_gmem(struct mem *mem, int vm_fd)
{
	struct kuf_create_gmem args = {
		.size = mem->size,
		.flags = KUF_GMEM_MMAP | KUF_GMEM_INIT_SHARED,
	};
	int flags = ioctl(vm_fd, KVM_CHECK_EXTENSION, KUF_CAP_GUEST_MEMFD_FLAGS);

	if (flags < 0 || (flags & args.flags) != args.flags)
		return kuf_error(0, "--backing=gmem: no guest_memfd that can be mapped here");
	mem->fd = ioctl(vm_fd, KUF_CREATE_GUEST_MEMFD, &args);
	if (mem->fd < 0)
		return kuf_error(-errno, "KVM_CREATE_GUEST_MEMFD");
	return 0;
}

int mem_create(struct mem *mem, enum mem_backing backing, u64 size, int vm_fd)
{
	int flags = MAP_SHARED, err;
	void *area;

	*mem = (struct mem){ .backing = backing, .size = size, .fd = -1 };

	switch (backing) {
	case MEM_SHMEM:
		mem->fd = mem_file("kuf-memory", size, &area);
		if (mem->fd < 0)
			return mem->fd;
		mem->area = area;
		return 0;
	case MEM_GMEM:
		err = create_gmem(mem, vm_fd);
		if (err)
			return err;
		break;
	default:
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
		break;
	}
	area = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, mem->fd, 0);
	if (area == MAP_FAILED) {
		err = kuf_error(-errno, "mmap of the guest's memory");
		mem_destroy(mem);
		return err;
	}
	mem->area = area;
	return 0;
}

static int plug(struct mem *mem, int vm_fd, u32 slot, u64 gpa, u64 offset, u64 size)
{
	struct kuf_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem->area + offset,
	};

	if (mem->backing == MEM_GMEM) {
		region.flags |= KUF_MEM_GUEST_MEMFD;
		region.guest_memfd = mem->fd;
		region.guest_memfd_offset = offset;
	}
	if (ioctl(vm_fd, KUF_SET_USER_MEMORY_REGION2, &region))
		return kuf_error(-errno, "memslot %u at 0x%llx, %llu bytes of %s", slot,
				 (unsigned long long)gpa, (unsigned long long)size,
				 names[mem->backing]);
	return 0;
}

int mem_plug(struct mem *mem, int vm_fd)
{
	u64 low = mem->size < MEM_LOW_MAX ? mem->size : MEM_LOW_MAX;
	int err;

	err = plug(mem, vm_fd, 0, 0, 0, low);
	if (!err && mem->size > low)
		err = plug(mem, vm_fd, 1, MEM_HIGH_GPA, low, mem->size - low);
	return err;
}

void mem_destroy(struct mem *mem)
{
	if (mem->area)
		munmap(mem->area, mem->size);
	if (mem->fd >= 0)
		close(mem->fd);
	*mem = (struct mem){ .fd = -1 };
}

int64_t mem_offset(const struct mem *mem, u64 gpa, u64 len)
{
	u64 low = mem->size < MEM_LOW_MAX ? mem->size : MEM_LOW_MAX;
	u64 high = mem->size - low;

	if (gpa < low && len <= low - gpa)
		return gpa;
	if (gpa >= MEM_HIGH_GPA && gpa - MEM_HIGH_GPA < high &&
	    len <= high - (gpa - MEM_HIGH_GPA))
		return low + (gpa - MEM_HIGH_GPA);
	return -1;
}

u64 mem_gpa(const struct mem *mem, u64 offset)
{
	return offset < MEM_LOW_MAX ? offset : offset - MEM_LOW_MAX + MEM_HIGH_GPA;
}
