// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Contexts in other processes.  Nothing of what arrives is believed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define EXPORT_MAGIC	0x5846554bu	/* "KUFX" */
#define EXPORT_VERSION	1
#define EXPORT_UFFD	0x1u
#define EXPORT_FLAGS	(KUF_REGION_PRIVATE | KUF_REGION_PROC_MEM)

struct export_header {
	uint32_t magic;
	uint16_t version;
	uint16_t nr_regions;
	uint32_t page_size;
	uint32_t peer;
	uint32_t flags;
	uint32_t pad;
	uint64_t checksum;	/* of all bytes, with this one 0 */
};

struct export_region {
	uint64_t gpa, len;
	uint64_t offset;	/* in the file behind it */
	uint32_t id;
	uint32_t slot;
	uint32_t as_id;
	uint32_t flags;		/* KUF_REGION_PRIVATE, KUF_REGION_PROC_MEM, or 0 */
};

static_assert(sizeof(struct export_header) == 32, "the layout");
static_assert(sizeof(struct export_region) == 40, "the layout");
static_assert(sizeof(struct export_header) + KUF_MAX_REGIONS * sizeof(struct export_region) <=
	       KUF_EXPORT_MAX_BYTES, "room");

#define SEALS	(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int check_size(const struct kuf_export *ex)
{
	/* It is too large to be copied around, and has no older version. */
	return ex && ex->size == sizeof(*ex) ? 0 : -EINVAL;
}

/* Numbers of the dead are used again; 0: all are in use. */
static uint32_t new_peer(struct kuf *k)
{
	uint32_t peer;
	uint64_t bit;

	for (peer = 1; peer <= k->nr_peers; peer++) {
		bit = 1ull << peer % 64;
		if (__atomic_fetch_and(&k->free_peers[peer / 64], ~bit, __ATOMIC_SEQ_CST) & bit)
			return peer;
	}
	return k->nr_peers < KUFI_MAX_PEERS ? ++k->nr_peers : 0;
}

int kuf_export(struct kuf *k, int fd, struct kuf_export *ex)
{
	struct export_header *header;
	struct kufi_region *region;
	struct export_region *er;
	uint32_t peer;
	unsigned int i;

	if (check_size(ex) || fd < -1)
		return -EINVAL;
	if (k->imported)
		return -EPERM;
	for (i = 0; i < KUF_MAX_REGIONS; i++)
		if (k->regions[i].used && k->regions[i].backing_fd < 0)
			return -EOPNOTSUPP;
	peer = new_peer(k);
	if (!peer)
		return -ENOSPC;

	header = (struct export_header *)ex->bytes;
	er = (struct export_region *)(header + 1);
	memset(header, 0, sizeof(*header));
	header->magic = EXPORT_MAGIC;
	header->version = EXPORT_VERSION;
	header->page_size = k->page_size;
	header->flags = fd >= 0 ? EXPORT_UFFD : 0;
	header->peer = peer;
	ex->peer = peer;
	ex->nr_fds = 0;
	ex->fds[ex->nr_fds++] = k->bell;
	if (fd >= 0)
		ex->fds[ex->nr_fds++] = fd;
	for (i = 0; i < KUF_MAX_REGIONS; i++) {
		region = &k->regions[i];
		if (!region->used)
			continue;
		*er++ = (struct export_region){
			.gpa = region->r.gpa,
			.len = region->r.len,
			.offset = region->backing_offset,
			.id = region->id,
			.slot = region->r.slot,
			.as_id = region->r.as_id,
			.flags = region->r.flags & EXPORT_FLAGS,
		};
		ex->fds[ex->nr_fds++] = region->state_fd;
		ex->fds[ex->nr_fds++] = region->backing_fd;
		header->nr_regions++;
	}
	ex->nr_bytes = (uint8_t *)er - ex->bytes;
	header->checksum = kufi_checksum(ex->bytes, ex->nr_bytes);
	return 0;
}

/* The header, if the sizes and numbers are right. */
static int check_header(const struct kuf_export *ex, struct export_header *header)
{
	uint8_t bytes[KUF_EXPORT_MAX_BYTES];
	uint32_t nr_fds;

	if (ex->nr_bytes < sizeof(*header) || ex->nr_bytes > KUF_EXPORT_MAX_BYTES)
		return -EBADMSG;
	memcpy(header, ex->bytes, sizeof(*header));
	if (header->magic != EXPORT_MAGIC || header->version != EXPORT_VERSION ||
	    header->page_size != (uint64_t)sysconf(_SC_PAGESIZE) || header->pad ||
	    header->flags & ~EXPORT_UFFD || !header->peer || header->peer > KUFI_MAX_PEERS ||
	    header->nr_regions > KUF_MAX_REGIONS)
		return -EBADMSG;
	if (ex->nr_bytes != sizeof(*header) + header->nr_regions * sizeof(struct export_region))
		return -EBADMSG;
	nr_fds = 1 + !!(header->flags & EXPORT_UFFD) + 2 * header->nr_regions;
	if (ex->nr_fds != nr_fds)
		return -EBADMSG;
	memcpy(bytes, ex->bytes, ex->nr_bytes);
	memset(bytes + offsetof(struct export_header, checksum), 0, sizeof(header->checksum));
	return kufi_checksum(bytes, ex->nr_bytes) == header->checksum ? 0 : -EBADMSG;
}

/* Only a sealed file of the right size cannot be taken from under us. */
static int check_state(const struct kuf *k, int fd, uint64_t len)
{
	struct stat st;
	int seals;

	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st))
		return -EBADMSG;
	return (uint64_t)st.st_size == kufi_state_size(k, len) ? 0 : -EBADMSG;
}

static int check_backing(int fd, const struct export_region *er)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return -EBADMSG;
	/* A process's memory has no size: what is not there cannot be written. */
	if (er->flags & KUF_REGION_PROC_MEM)
		return 0;
	if (er->offset > (uint64_t)st.st_size || er->len > (uint64_t)st.st_size - er->offset)
		return -EBADMSG;
	return 0;
}

static int import_region(struct kuf *k, const struct export_region *er, int state_fd,
			 int backing_fd)
{
	struct kufi_region *region = &k->regions[er->id];
	int ret, fd;

	region->id = er->id;
	region->r = (struct kuf_region){
		.size = sizeof(region->r),
		.slot = er->slot,
		.as_id = er->as_id,
		.gpa = er->gpa,
		.len = er->len,
		.gmem_fd = er->flags & KUF_REGION_PRIVATE ? backing_fd : -1,
		.fd = -1,
		.flags = er->flags,
		.id = er->id,
	};
	fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = kufi_region_map(k, region, fd);
	if (ret) {
		close(fd);
		return ret;
	}
	/* What follows is undone by kuf_destroy(). */
	region->used = true;
	region->backing_fd = fcntl(backing_fd, F_DUPFD_CLOEXEC, 0);
	region->backing_offset = er->offset;
	if (region->backing_fd < 0)
		return -errno;
	region->imported = true;
	if (er->flags)
		return 0;
	region->r.hva = mmap(NULL, er->len, PROT_READ | PROT_WRITE, MAP_SHARED,
			     region->backing_fd, er->offset);
	if (region->r.hva == MAP_FAILED) {
		region->r.hva = NULL;
		return -errno;
	}
	return 0;
}

static int check_region(struct kuf *k, const struct export_region *er, int state_fd,
			int backing_fd)
{
	struct kuf_region r = {
		.slot = er->slot,
		.as_id = er->as_id,
		.gpa = er->gpa,
		.len = er->len,
		.gmem_fd = er->flags & KUF_REGION_PRIVATE ? 0 : -1,
		.fd_offset = er->offset,
		.flags = er->flags,
	};

	/* Where it is there, or would be anywhere. */
	if (er->flags & KUF_REGION_PROC_MEM)
		r.hva = (void *)(uintptr_t)er->offset;
	else if (!er->flags)
		r.hva = (void *)(uintptr_t)k->page_size;
	if (er->flags & ~EXPORT_FLAGS || er->id >= KUF_MAX_REGIONS ||
	    k->regions[er->id].used || kufi_region_check(k, &r))
		return -EBADMSG;
	if (check_state(k, state_fd, er->len))
		return -EBADMSG;
	return check_backing(backing_fd, er);
}

int kuf_import(const struct kuf_export *ex, struct kuf **out, int *fd)
{
	struct export_header header;
	struct export_region er;
	const int *fds;
	struct kuf *k;
	unsigned int i;
	uint64_t n;
	int ret;

	if (check_size(ex) || !out || !fd)
		return -EINVAL;
	ret = check_header(ex, &header);
	if (ret)
		return ret;
	ret = kufi_alloc(&k);
	if (ret)
		return ret;
	k->imported = true;
	k->peer = header.peer;
	fds = ex->fds;
	k->bell = fcntl(*fds++, F_DUPFD_CLOEXEC, 0);
	ret = k->bell < 0 ? -errno : 0;
	/* An empty one must not make kuf_service() wait, whoever made it. */
	if (!ret && (!(fcntl(k->bell, F_GETFL) & O_NONBLOCK) ||
		     (read(k->bell, &n, sizeof(n)) != sizeof(n) && errno != EAGAIN)))
		ret = -EBADMSG;
	*fd = -1;
	if (header.flags & EXPORT_UFFD)
		*fd = *fds++;
	for (i = 0; !ret && i < header.nr_regions; i++, fds += 2) {
		memcpy(&er, ex->bytes + sizeof(header) + i * sizeof(er), sizeof(er));
		ret = check_region(k, &er, fds[0], fds[1]);
		if (!ret)
			ret = import_region(k, &er, fds[0], fds[1]);
	}
	if (ret) {
		kuf_destroy(k);
		*fd = -1;
		return ret == -EBADF ? -EBADMSG : ret;
	}
	/* It may have rung in vain just now. */
	kufi_ring(k);
	*out = k;
	return 0;
}
