// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Waiting for pages.
 */
#include "internal.h"

static bool cancelled(struct kuf_waiter *waiter)
{
	return waiter && __atomic_exchange_n(&waiter->cancelled, 0, __ATOMIC_SEQ_CST);
}

/*
 * Whoever settles a page wakes afterwards, and may be killed in between, when nothing is
 * left of it that a successor could find: so sleepers look again by themselves.
 */
#define LOOK_AGAIN_NS	1000000000ull

static int nap(uint32_t *word, uint32_t now, uint64_t deadline)
{
	uint64_t until = kufi_now() + LOOK_AGAIN_NS;
	int ret;

	if (deadline <= until)
		return kufi_futex_wait(word, now, deadline);
	ret = kufi_futex_wait(word, now, until);
	return ret == -ETIMEDOUT ? 0 : ret;
}

/* Sleeps unless the page is settled. 0: look again. */
static int sleep_on(uint32_t *word, uint64_t deadline, struct kuf_waiter *waiter)
{
	uint32_t now;
	int ret = 0;

	/*
	 * Whoever cancels says so first and looks then whom to kick.  Here it is the
	 * other way round, so one of the two sees the other; and a kick changes the
	 * word, so that one between the look and the sleep is not missed.
	 */
	if (waiter)
		__atomic_store_n(&waiter->word, word, __ATOMIC_SEQ_CST);
	if (!kufi_page_sleep(word, &now)) {
		if (cancelled(waiter))
			ret = -ECANCELED;
		else if (deadline != ~0ull && kufi_now() >= deadline)
			ret = -ETIMEDOUT;
		else
			ret = nap(word, now, deadline);
	}
	if (waiter)
		__atomic_store_n(&waiter->word, NULL, __ATOMIC_SEQ_CST);
	return ret;
}

void kuf_wait_cancel(struct kuf_waiter *waiter)
{
	int saved = errno;
	uint32_t *word;

	__atomic_store_n(&waiter->cancelled, 1, __ATOMIC_SEQ_CST);
	word = __atomic_load_n(&waiter->word, __ATOMIC_SEQ_CST);
	if (word) {
		kufi_page_kick(word);
		kufi_futex_wake(word);
	}
	errno = saved;
}

int kufi_wait_claim(uint32_t *word, uint64_t deadline)
{
	int ret;

	for (;;) {
		uint32_t now = kufi_load(word);
		unsigned int state = kufi_state(now);

		if (state != KUF_FILLING && state != KUF_TAKING)
			return 0;
		ret = sleep_on(word, deadline, NULL);
		/* It is short, and half done is worse than late. */
		if (ret && ret != -EINTR)
			return ret;
	}
}

static int check_waiter(struct kuf_waiter *waiter)
{
	return waiter && waiter->size < sizeof(*waiter) ? -EINVAL : 0;
}

static int wait_page(struct kuf *k, struct kufi_region *region, uint64_t page, bool serve,
		     uint64_t deadline, struct kuf_waiter *waiter)
{
	uint64_t start = 0;
	int ret;

	for (;;) {
		ret = kufi_need_page(k, region, page, serve);
		if (ret != -EAGAIN)
			break;
		if (!start) {
			start = kufi_now();
			KUFI_COUNT(k, waits, 1);
		}
		ret = sleep_on(&region->words[page], deadline, waiter);
		if (ret)
			return ret;
	}
	if (!ret && start)
		kufi_latency(k, kufi_now() - start);
	return ret;
}

int kuf_wait(struct kuf *k, uint32_t as_id, uint64_t gpa, int64_t timeout_ns,
	     struct kuf_waiter *waiter)
{
	struct kufi_region *region = kufi_region_find(k, as_id, gpa);

	if (check_waiter(waiter))
		return -EINVAL;
	if (!region)
		return -ENOENT;
	return wait_page(k, region, (gpa - region->r.gpa) >> k->page_shift, false,
			 kufi_deadline(timeout_ns), waiter);
}

/* Calls kufi_need_page(), or waits with @deadline, for each page of the range. */
static int each_page(struct kuf *k, uint64_t gpa, uint64_t last, bool serve, bool wait,
		     uint64_t deadline, struct kuf_waiter *waiter)
{
	struct kufi_region *region;
	uint64_t page, end;
	int ret;

	for (;;) {
		region = kufi_region_next(k, 0, gpa);
		if (!region || region->r.gpa > last)
			return 0;
		if (gpa < region->r.gpa)
			gpa = region->r.gpa;
		end = region->r.gpa + (region->r.len - 1);
		if (end > last)
			end = last;
		for (page = (gpa - region->r.gpa) >> k->page_shift;
		     page <= (end - region->r.gpa) >> k->page_shift; page++) {
			if (kufi_state(kufi_load(&region->words[page])) == KUF_PRESENT)
				continue;
			if (wait) {
				ret = wait_page(k, region, page, serve, deadline, waiter);
			} else {
				KUFI_COUNT(k, accesses, 1);
				ret = kufi_need_page(k, region, page, serve);
				if (ret == -EAGAIN)
					ret = 0;
			}
			if (ret)
				return ret;
		}
		if (end == last)
			return 0;
		gpa = end + 1;
	}
}

int kuf_access(struct kuf *k, uint64_t gpa, uint64_t len, unsigned int flags,
	       int64_t timeout_ns, struct kuf_waiter *waiter)
{
	bool serve = flags & KUF_ACCESS_SERVE;
	uint64_t last = gpa + (len - 1);
	int ret;

	if (flags & ~(KUF_ACCESS_WRITE | KUF_ACCESS_SERVE) || check_waiter(waiter))
		return -EINVAL;
	if (!len)
		return 0;
	if (last < gpa)
		return -EINVAL;
	/* All at once, so that the source's answers overlap. */
	ret = each_page(k, gpa, last, serve, false, 0, NULL);
	if (ret)
		return ret;
	return each_page(k, gpa, last, serve, true, kufi_deadline(timeout_ns), waiter);
}
