/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A userfault bitmap that a test can take away, in every way there is: wholly,
 * or so that the bits up to some page stay readable and those behind it do not.
 */
#ifndef SELFTEST_KVM_USERFAULT_MAP_H
#define SELFTEST_KVM_USERFAULT_MAP_H

#include "kvm_util.h"

/* A file of two pages, mapped; the bitmap is somewhere in it. */
struct userfault_map {
	u8 *area;
	size_t page_size;
	int fd;
	u8 saved[1024];
};

/* How it becomes unreadable from byte @start of the area on, and readable. */
struct userfault_breakage {
	const char *name;
	void (*do_break)(struct userfault_map *m, size_t start);
	void (*mend)(struct userfault_map *m, size_t start);
	/* mend() brings the content back. */
	bool keeps;
};

#define NR_USERFAULT_BREAKAGES	4

extern const struct userfault_breakage userfault_breakages[NR_USERFAULT_BREAKAGES];

void userfault_map_alloc(struct userfault_map *m);
void userfault_map_free(struct userfault_map *m);

/* The bitmap whose first @bytes bytes are in front of the page boundary. */
static inline u64 *userfault_map_split(struct userfault_map *m, size_t bytes)
{
	return (u64 *)(m->area + m->page_size - bytes);
}

/*
 * Break and mend it, with the content (of half a kilobyte on each side of the
 * boundary) as it was before.  Where do_break() was called on its own, keeps
 * says whether that is so.
 */
void userfault_map_break(struct userfault_map *m,
			 const struct userfault_breakage *b, size_t start);
void userfault_map_mend(struct userfault_map *m,
			const struct userfault_breakage *b, size_t start);

#endif /* SELFTEST_KVM_USERFAULT_MAP_H */
