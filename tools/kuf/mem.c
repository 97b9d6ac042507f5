// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory: what it is made of, and the memslots that it is plugged into.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
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

static int map_file(struct mem *mem, int prot)
{
	mem->area = mmap(NULL, mem->size, prot, MAP_SHARED, mem->fd, 0);
	if (mem->area != MAP_FAILED)
		return 0;
	mem->area = NULL;
	return kuf_error(-errno, "--mem-path=%s: mmap", mem->path);
}

/* What it needs must be there before the guest writes; tmpfs has nothing to reserve. */
static int reserve(const struct mem *mem)
{
	struct statfs fs;

	if (ftruncate(mem->fd, mem->size))
		return kuf_error(-errno, "--mem-path=%s: %llu bytes", mem->path,
				 (unsigned long long)mem->size);
	if (fstatfs(mem->fd, &fs) || fs.f_type == TMPFS_MAGIC ||
	    !fallocate(mem->fd, 0, 0, mem->size) || errno == EOPNOTSUPP)
		return 0;
	return kuf_error(-errno, "--mem-path=%s: %llu bytes", mem->path,
			 (unsigned long long)mem->size);
}

static int create_file(struct mem *mem, const char *path)
{
	struct stat st;
	int err;

	mem->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (mem->fd < 0 || fstat(mem->fd, &st))
		return kuf_error(-errno, "--mem-path=%s", path);
	if (!S_ISREG(st.st_mode))
		return kuf_error(0, "--mem-path=%s: this is no file", path);
	/* It may be all that is left of a VM. */
	if (st.st_size)
		return kuf_error(-EEXIST, "--mem-path=%s: not empty: remove it, or name another",
				 path);
	mem->path = path;
	mem->file = st.st_ino;
	err = reserve(mem);
	return err ?: map_file(mem, PROT_READ | PROT_WRITE);
}

int mem_create_file(struct mem *mem, const char *path, u64 size)
{
	int err;

	*mem = (struct mem){ .backing = MEM_SHMEM, .size = size, .fd = -1 };
	err = create_file(mem, path);
	if (err)
		mem_destroy(mem);
	return err;
}

int mem_open(struct mem *mem, const char *path, u64 size, u64 file)
{
	struct stat st;
	int err;

	*mem = (struct mem){ .backing = MEM_SHMEM, .size = size, .path = path,
			     .keeps_file = true };
	mem->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (mem->fd < 0 || fstat(mem->fd, &st))
		err = kuf_error(-errno, "--mem-path=%s", path);
	else if (!S_ISREG(st.st_mode) || (u64)st.st_size != size || st.st_ino != file)
		err = kuf_error(0, "--mem-path=%s: not the file that the journal names", path);
	else
		err = map_file(mem, PROT_READ);
	if (err)
		mem_destroy(mem);
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
	if (mem->path && !mem->keeps_file)
		unlink(mem->path);
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
