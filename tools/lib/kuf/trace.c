// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Recordings as bytes.
 */
#include <string.h>

#include "internal.h"

/* All of it little endian, as this machine is. */
struct trace_header {
	char magic[8];
	uint32_t version;
	uint32_t entry_size;
	uint64_t nr;
	uint64_t checksum;	/* of the entries */
};

static const char magic[8] = "KUFTRACE";

static_assert(sizeof(struct trace_header) == 32, "the file's layout");
static_assert(sizeof(struct kuf_trace_entry) == 16, "the file's layout");

uint64_t kufi_checksum(const void *bytes, size_t size)
{
	const unsigned char *p = bytes;
	uint64_t hash = 0xcbf29ce484222325;	/* FNV-1a */

	while (size--)
		hash = (hash ^ *p++) * 0x100000001b3;
	return hash;
}

int kuf_trace_pack(const struct kuf_trace_entry *entries, uint64_t nr, void *bytes,
		   size_t size, size_t *used)
{
	struct trace_header header = { .version = 1, .entry_size = sizeof(*entries), .nr = nr };
	char *p = bytes;

	if ((!entries && nr) || !used || (!bytes && size))
		return -EINVAL;
	if (nr > (SIZE_MAX - sizeof(header)) / sizeof(*entries))
		return -EINVAL;
	*used = sizeof(header) + nr * sizeof(*entries);
	if (size < *used)
		return -ENOSPC;
	memcpy(header.magic, magic, sizeof(magic));
	header.checksum = kufi_checksum(entries, nr * sizeof(*entries));
	memcpy(p, &header, sizeof(header));
	if (nr)
		memcpy(p + sizeof(header), entries, nr * sizeof(*entries));
	return 0;
}

int kuf_trace_parse(const void *bytes, size_t size, struct kuf_trace_entry *entries,
		    uint64_t max, uint64_t *nr)
{
	const char *p = bytes;
	struct trace_header header;

	if (!bytes || !nr || (!entries && max))
		return -EINVAL;
	if (size < sizeof(header))
		return -EBADMSG;
	memcpy(&header, p, sizeof(header));
	size -= sizeof(header);
	if (memcmp(header.magic, magic, sizeof(magic)) || header.version != 1 ||
	    header.entry_size != sizeof(*entries) || header.nr != size / sizeof(*entries) ||
	    size % sizeof(*entries))
		return -EBADMSG;
	if (kufi_checksum(p + sizeof(header), size) != header.checksum)
		return -EBADMSG;
	*nr = header.nr;
	if (header.nr > max)
		return -ENOSPC;
	if (size)
		memcpy(entries, p + sizeof(header), size);
	return 0;
}
