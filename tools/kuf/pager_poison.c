// SPDX-License-Identifier: GPL-2.0
/*
 * Poison: told to KVM and kept in libkuf's account of pages, whether or not any page of
 * the VM is ever absent.
 */
#include <errno.h>
#include <time.h>

#include "abi.h"
#include "pager.h"
#include "poison.h"
#include "vm.h"

/* KVM may use a page for a moment, or another thread copy into it. */
#define ATTEMPTS	50
#define ATTEMPT_NS	20000000

#define FEATURES	(KVM_USERFAULT_FEATURE_ACCESS | KVM_USERFAULT_FEATURE_POISON | \
			 KVM_USERFAULT_FEATURE_POISON_INJECT)

u64 pager_poison_features(u64 offered)
{
	return (offered & FEATURES) == FEATURES ? FEATURES : 0;
}

/* Without absent pages: all are present, and KVM is not to look at any bitmap. */
static int create_context(struct pager *p, struct kuf **out)
{
	struct kuf_params params = { .size = sizeof(params), .vm_fd = p->vm->fd };
	struct kuf_probe probe = { .size = sizeof(probe), .vm_fd = p->vm->fd };
	int err;

	*out = NULL;
	/* A kernel that is too old for it is none for poison, and will do otherwise. */
	if (kuf_probe(&probe))
		return 0;
	params.features = pager_poison_features(probe.have);
	if (!params.features)
		return 0;
	err = kuf_create(&params, out);
	if (err)
		return kuf_error(err, "KVM userfault, for poison");
	return pager_add_regions(p, *out, KUF_REGION_PRESENT);
}

static bool offers_poison(const struct vm *vm)
{
	struct kuf_probe probe = { .size = sizeof(probe), .vm_fd = vm->fd };

	return !kuf_probe(&probe) && pager_poison_features(probe.have);
}

static int poison_list(struct pager *p)
{
	const struct poison_list *list = p->poisoned;
	const struct poison_range *r;
	u32 i;
	int err;

	if (!list || !list->nr)
		return 0;
	if (!p->poison)
		return kuf_error(-EOPNOTSUPP, "poisoned pages need KVM_USERFAULT_FEATURE_POISON");
	for (i = 0; i < list->nr; i++) {
		r = &list->ranges[i];
		err = pager_poison(p, r->gpa, r->len);
		if (err)
			return kuf_error(err, "the pages at 0x%llx cannot be poisoned",
					 (unsigned long long)r->gpa);
	}
	return 0;
}

int pager_poison_start(struct pager *p, struct kuf *k)
{
	struct kuf *own = NULL;
	int err = 0;

	if (!k)
		err = create_context(p, &own);
	else if (offers_poison(p->vm))
		own = k;
	p->poison = own;
	return err ?: poison_list(p);
}

/* Those that will not come. */
void pager_note_poison(struct pager *p)
{
	struct kuf_stats stats = { .size = sizeof(stats) };

	if (!p->k || !p->poison || kuf_get_stats(p->k, &stats))
		return;
	__atomic_store_n(&p->shared->never, stats.poisoned - stats.lost, __ATOMIC_RELAXED);
	if (p->armed_ns)
		pager_note_populated(p);
}

static bool is_busy(int err)
{
	return err == -EBUSY || err == -ETIMEDOUT;
}

int pager_poison(struct pager *p, u64 gpa, u64 len)
{
	const struct timespec moment = { .tv_nsec = ATTEMPT_NS };
	int err, i;

	if (!p->poison)
		return -EOPNOTSUPP;
	for (i = 0; i < ATTEMPTS; i++) {
		err = kuf_poison(p->poison, 0, gpa, len);
		if (!is_busy(err))
			break;
		nanosleep(&moment, NULL);
	}
	pager_note_poison(p);
	return err;
}

int pager_unpoison(struct pager *p, u64 gpa, u64 len)
{
	return p->poison ? kuf_unpoison(p->poison, 0, gpa, len) : -EOPNOTSUPP;
}

int pager_next_poisoned(struct pager *p, u64 *gpa, u64 *len)
{
	struct kuf_cursor c = { .size = sizeof(c), .gpa = *gpa };
	int err;

	if (!p->poison)
		return -ENOENT;
	err = kuf_next_poisoned(p->poison, &c);
	*gpa = c.gpa;
	*len = c.len;
	return err;
}
