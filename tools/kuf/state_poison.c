// SPDX-License-Identifier: GPL-2.0
/*
 * Which pages are poisoned.  They stay so wherever the VM goes: this is loaded with the
 * rest of its state, and told to KVM before any page has content and any vCPU runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

static int save(struct machine *m, u32 instance, void *data)
{
	struct poison_range *r = data;
	u64 gpa = 0, len;
	int n = 0;

	for (; m->vm.pager && !pager_next_poisoned(m->vm.pager, &gpa, &len); gpa += len) {
		if (n == POISON_RANGES_MAX)
			return kuf_error(-E2BIG, "poisoned pages in more than %u places",
					 POISON_RANGES_MAX);
		r[n++] = (struct poison_range){ .gpa = gpa, .len = len };
	}
	return n * sizeof(*r);
}

static int check(const struct machine *m, const struct poison_list *list)
{
	const struct poison_range *r;
	u64 end = 0;
	u32 i;

	for (i = 0; i < list->nr; i++) {
		r = &list->ranges[i];
		/* Those that adjoin would have been one. */
		if (r->gpa % PAGE_SIZE || r->len % PAGE_SIZE || !r->len || (i && r->gpa <= end) ||
		    mem_offset(&m->vm.mem, r->gpa, r->len) < 0)
			return kuf_error(0, "the poisoned range %u, at 0x%llx, does not make sense",
					 i, (unsigned long long)r->gpa);
		end = r->gpa + r->len;
	}
	return 0;
}

static int load(struct machine *m, u32 instance, const void *data, u32 length)
{
	struct poison_list *list;
	int err;

	if (length % sizeof(list->ranges[0]))
		return kuf_error(0, "poisoned pages with a length of %u", length);
	list = malloc(sizeof(*list) + length);
	if (!list)
		return kuf_error(-ENOMEM, "poisoned pages");
	list->nr = length / sizeof(list->ranges[0]);
	memcpy(list->ranges, data, length);
	err = check(m, list);
	if (err) {
		free(list);
		return err;
	}
	m->poisoned = list;
	return 0;
}

const struct state_group state_poison = {
	.type = STATE_POISON, .version = 1, .name = "poisoned pages", .optional = true,
	.min = sizeof(struct poison_range), .max = POISON_RANGES_MAX * sizeof(struct poison_range),
	.save = save, .load = load,
};
