// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Who is told: sleepers on a page's word, in any process; whoever waits in KVM; and
 * whoever serves.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

int kufi_futex_wait(uint32_t *word, uint32_t value, uint64_t deadline)
{
	struct timespec at, *until = NULL;

	if (deadline != ~0ull) {
		at.tv_sec = deadline / 1000000000;
		at.tv_nsec = deadline % 1000000000;
		until = &at;
	}
	/* This one takes a point in time, the plain one a span. */
	if (!syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until, NULL,
		     FUTEX_BITSET_MATCH_ANY))
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

void kufi_futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void kufi_ring(struct kuf *k)
{
	uint64_t one = 1;

	/* It fails if it rang 2^64 - 1 times already, and then it does ring. */
	while (write(k->bell, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void kufi_need(struct kuf *k, struct kufi_region *region, uint64_t page)
{
	kufi_set_put(&region->need, page);
	kufi_ring(k);
}

void kufi_wake_flush(struct kufi_wake *wake)
{
	struct kvm_userfault_range range = {
		.gpa = kufi_page_gpa(wake->k, wake->region, wake->first),
		.size = wake->nr << wake->k->page_shift,
		.as_id = wake->region->r.as_id,
	};

	if (!wake->nr)
		return;
	wake->nr = 0;
	KUFI_COUNT(wake->k, wakes, 1);
	/* It can only fail at the end of the fd, and then a successor is told again. */
	kufi_ioctl(wake->k->uffd, KVM_USERFAULT_WAKE, &range);
}

void kufi_wake_page(struct kufi_wake *wake, uint64_t page, uint32_t old)
{
	if (old & KUFI_SLEEPERS)
		kufi_futex_wake(&wake->region->words[page]);
	if (!(old & KUFI_EVENT))
		return;
	if (wake->k->uffd < 0) {
		/* Whoever read the event can wake. */
		kufi_need(wake->k, wake->region, page);
		return;
	}
	if (wake->nr && page != wake->first + wake->nr)
		kufi_wake_flush(wake);
	if (!wake->nr)
		wake->first = page;
	wake->nr++;
}
