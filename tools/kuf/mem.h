/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_MEM_H
#define KUF_MEM_H

#include "kuf.h"

/*
 * Guest memory: one area of the VMM's, of @size bytes, that the guest sees from
 * address 0 on, with what is beyond MEM_LOW_MAX from 4 GiB on.  An offset is one
 * into the area, which is also one into the file behind it.
 */
#define MEM_LOW_MAX	(3ull << 30)
#define MEM_HIGH_GPA	(4ull << 30)

#define MIN_MEM		(64ull << 20)
#define MAX_MEM		(64ull << 30)

enum mem_backing {
	MEM_ANON,
	MEM_SHMEM,
	MEM_GMEM,
	NR_MEM_BACKINGS,
};

struct mem {
	enum mem_backing backing;
	u64 size;
	u8 *area;
	int fd;			/* -1: anon */
	const char *path;	/* of a file in place of a memfd, or NULL */
	u64 file;		/* its inode */
	bool keeps_file;	/* mem_destroy() does not remove it */
};

const char *mem_backing_name(enum mem_backing backing);
/* -EINVAL if there is none of that name. */
int mem_backing_by_name(const char *name);

/* A memfd of @size bytes, mapped; its file descriptor, or -errno. */
int mem_file(const char *name, u64 size, void **map);

/* @vm_fd is only needed for guest_memfd. */
int mem_create(struct mem *mem, enum mem_backing backing, u64 size, int vm_fd);
/* MEM_SHMEM in a new file in place of a memfd, which outlives the process if it is killed. */
int mem_create_file(struct mem *mem, const char *path, u64 size);
/* Only to be read: what is left of a process that was killed. */
int mem_open(struct mem *mem, const char *path, u64 size, u64 file);
/* Makes the memslots. */
int mem_plug(struct mem *mem, int vm_fd);
void mem_destroy(struct mem *mem);

/*
 * The offset of [gpa, gpa + len), which is in one piece below or above the hole;
 * -1 if it is not all memory.
 */
int64_t mem_offset(const struct mem *mem, u64 gpa, u64 len);
u64 mem_gpa(const struct mem *mem, u64 offset);

#endif /* KUF_MEM_H */
