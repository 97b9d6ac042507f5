/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_BUS_H
#define KUF_BUS_H

#include "kuf.h"

/*
 * Which device answers at which address; filled before the vCPUs run, only read
 * from then on.  Devices are called in the thread of the vCPU, without a lock.
 */
struct bus_range {
	u64 base;
	u64 size;
	void (*access)(void *dev, u64 offset, void *data, u32 len, bool write);
	void *dev;
};

#define BUS_MAX	8

struct bus {
	struct bus_range ranges[BUS_MAX];
	unsigned int nr;
};

/* -EBUSY when it overlaps another one, -ENOSPC when there are too many. */
int bus_add(struct bus *bus, const struct bus_range *range);
/* Where nobody answers reads are all ones, and writes are lost. */
void bus_access(const struct bus *bus, u64 addr, void *data, u32 len, bool write);

#endif /* KUF_BUS_H */
