// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Somebody needs a page: vCPUs, device models, waiters.
 */
#include <string.h>

#include "internal.h"

/* 0: the state may be another one now. */
static int fill_here(struct kuf *k, struct kufi_region *region, uint64_t page,
		     enum kufi_how how)
{
	struct kufi_wake wake = { .k = k, .region = region };
	uint64_t start = kufi_now();
	bool filled;
	int ret;

	ret = kufi_fill_page(&wake, page, how, NULL, &filled);
	kufi_wake_flush(&wake);
	if (filled) {
		kufi_latency(k, kufi_now() - start);
		if (how == KUFI_FETCH)
			kufi_record(k, region, page);
	}
	return ret;
}

int kufi_need_page(struct kuf *k, struct kufi_region *region, uint64_t page, bool serve)
{
	uint32_t *word = &region->words[page];
	bool fresh;
	int ret;

	for (;;) {
		switch (kufi_state(kufi_load(word))) {
		case KUF_ABSENT:
		case KUF_REQUESTED:
			if (!serve || !k->ops.fetch)
				break;
			ret = fill_here(k, region, page, KUFI_FETCH);
			if (ret)
				return ret;
			continue;
		case KUF_DISCARDED:
			ret = fill_here(k, region, page, KUFI_ZERO);
			if (ret)
				return ret;
			continue;
		default:
			break;
		}
		ret = kufi_page_request(word, KUFI_URGENT, &fresh);
		switch (ret) {
		case 0:
			if (fresh)
				kufi_need(k, region, page);
			return -EAGAIN;
		case -EEXIST:
			return 0;
		case -EBUSY:
			return -EAGAIN;
		case -ESTALE:
			continue;
		case -EHWPOISON:
			KUFI_COUNT(k, poison_hits, 1);
			return ret;
		default:
			return ret;
		}
	}
}

/* KVM's own words for what the exit is. */
static bool is_userfault(const struct kvm_run *run, int error,
			 struct kufi_memory_fault *fault)
{
	if (error != EFAULT && error != EHWPOISON)
		return false;
	if (run->exit_reason != KUFI_EXIT_MEMORY_FAULT)
		return false;
	memcpy(fault, &run->hw, sizeof(*fault));
	return fault->flags & (KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_POISON);
}

static int act(struct kuf *k, struct kufi_region *region, struct kuf_exit *ex)
{
	int ret;

	if (ex->access & KVM_MEMORY_EXIT_FLAG_POISON) {
		KUFI_COUNT(k, poison_hits, 1);
		ex->action = KUF_POISON_HIT;
		return 0;
	}
	if (ex->access & KVM_MEMORY_EXIT_FLAG_BITMAP)
		return -EFAULT;
	KUFI_COUNT(k, exits, 1);
	kufi_count_fault(k, ex->access);
	ret = kufi_need_page(k, region, (ex->gpa - region->r.gpa) >> k->page_shift,
			     ex->flags & KUF_EXIT_SERVE);
	switch (ret) {
	case 0:
		ex->action = KUF_RUN_AGAIN;
		return 0;
	case -EAGAIN:
		ex->action = KUF_WAIT;
		return 0;
	case -EHWPOISON:
		ex->action = KUF_POISON_HIT;
		return 0;
	default:
		return ret;
	}
}

int kuf_vcpu_exit(struct kuf *k, const struct kvm_run *run, int error, struct kuf_exit *user)
{
	struct kufi_memory_fault fault;
	struct kufi_region *region;
	struct kuf_exit ex;
	int ret;

	ret = kufi_copy_in(&ex, sizeof(ex), user);
	if (ret)
		return ret;
	if (!run || ex.flags & ~KUF_EXIT_SERVE)
		return -EINVAL;
	ex.action = KUF_NOT_MINE;
	if (is_userfault(run, error, &fault)) {
		ex.as_id = run->flags & KUFI_RUN_X86_SMM ? 1 : 0;
		region = kufi_region_find(k, ex.as_id, fault.gpa);
		if (region) {
			ex.gpa = fault.gpa & ~(k->page_size - 1);
			ex.len = k->page_size;
			ex.access = fault.flags;
			ret = act(k, region, &ex);
		}
	}
	kufi_copy_out(user, &ex);
	return ret;
}
