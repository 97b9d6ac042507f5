// SPDX-License-Identifier: GPL-2.0
/*
 * Ports and memory mapped registers.
 */
#include <errno.h>
#include <string.h>

#include "bus.h"

int bus_add(struct bus *bus, const struct bus_range *range)
{
	unsigned int i;

	for (i = 0; i < bus->nr; i++) {
		const struct bus_range *r = &bus->ranges[i];

		if (range->base < r->base + r->size && r->base < range->base + range->size)
			return -EBUSY;
	}
	if (bus->nr == BUS_MAX)
		return -ENOSPC;
	bus->ranges[bus->nr++] = *range;
	return 0;
}

void bus_access(const struct bus *bus, u64 addr, void *data, u32 len, bool write)
{
	unsigned int i;

	for (i = 0; i < bus->nr; i++) {
		const struct bus_range *r = &bus->ranges[i];

		if (addr >= r->base && addr + len <= r->base + r->size) {
			r->access(r->dev, addr - r->base, data, len, write);
			return;
		}
	}
	if (!write)
		memset(data, 0xff, len);
}
