// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Everything at once, on a model of KVM: guests that fault and count in their pages,
 * a server, a device model, one who discards, one who poisons.  No count is ever lost
 * (a page filled again would lose it), and nobody sees a page without its content.
 */
#include "test.h"

#define NR_PAGES	48
#define SECONDS		3

static struct kuf *k;
static struct kuf_region r;
static bool stop;

/* Readers are accesses of guests, the writer is KVM while it unmaps. */
static pthread_rwlock_t mmu = PTHREAD_RWLOCK_INITIALIZER;
/* What the guests counted in a page since it was there, and was it ever discarded? */
static struct {
	pthread_mutex_t lock;
	uint64_t count;
	bool zeroed;
} shadow[NR_PAGES];

static uint64_t accesses, exits, discards, poisons, devices;

static int model_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_userfault_range *range = arg;
	uint64_t page;

	if (request != KVM_USERFAULT_RESCAN)
		return mock_ioctl(fd, request, arg);
	pthread_rwlock_wrlock(&mmu);
	for (page = (range->gpa - GPA) / PAGE; page < (range->gpa + range->size - GPA) / PAGE;
	     page++) {
		/* Only what is being taken from a guest that had it begins anew. */
		uint32_t word = kufi_load(word_of(k, GPA + page * PAGE));

		if (kufi_state(word) == KUF_TAKING && kufi_prev(word) == KUF_PRESENT) {
			shadow[page].count = 0;
			shadow[page].zeroed = true;
		}
	}
	pthread_rwlock_unlock(&mmu);
	range->gpa += range->size;
	range->size = 0;
	return 0;
}

/* A guest's access; false: it exits. */
static bool touch(uint64_t page)
{
	uint64_t *p = (uint64_t *)((char *)r.hva + page * PAGE), tag;
	bool ok;

	pthread_rwlock_rdlock(&mmu);
	ok = !(__atomic_load_n(&k->regions[0].bitmap[0], __ATOMIC_ACQUIRE) >> page & 1);
	if (ok) {
		pthread_mutex_lock(&shadow[page].lock);
		tag = shadow[page].zeroed ? 0 : GPA + page * PAGE;
		if (p[0] != tag && !(p[0] == 0 && !shadow[page].count))
			FAIL("page %lu: content %lx, not %lx", (unsigned long)page,
			     (unsigned long)p[0], (unsigned long)tag);
		/* Absent ones are discarded without KVM being asked. */
		if (!p[0])
			shadow[page].zeroed = true;
		if (p[PAGE / 8 - 1] != shadow[page].count)
			FAIL("page %lu: counted %lu, but it has %lu", (unsigned long)page,
			     (unsigned long)shadow[page].count, (unsigned long)p[PAGE / 8 - 1]);
		p[PAGE / 8 - 1] = ++shadow[page].count;
		pthread_mutex_unlock(&shadow[page].lock);
	}
	pthread_rwlock_unlock(&mmu);
	return ok;
}

static void *guest(void *arg)
{
	unsigned int seed = (uintptr_t)arg;
	struct kvm_run run = { .exit_reason = KUFI_EXIT_MEMORY_FAULT };
	struct kufi_memory_fault fault = { .flags = KVM_MEMORY_EXIT_FLAG_USERFAULT };
	struct kuf_exit ex = { .size = sizeof(ex) };
	uint64_t page;
	int ret;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		page = rand_r(&seed) % NR_PAGES;
		while (!touch(page)) {
			fault.gpa = GPA + page * PAGE;
			memcpy(&run.hw, &fault, sizeof(fault));
			ex.flags = rand_r(&seed) % 2 ? KUF_EXIT_SERVE : 0;
			EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), 0);
			__atomic_fetch_add(&exits, 1, __ATOMIC_RELAXED);
			if (ex.action == KUF_POISON_HIT)
				break;
			if (ex.action == KUF_RUN_AGAIN)
				continue;
			EQUAL(ex.action, KUF_WAIT);
			ret = kuf_wait(k, 0, ex.gpa, 20000000000ll, NULL);
			if (ret == -EHWPOISON)
				break;
			EQUAL(ret, 0);
		}
		__atomic_fetch_add(&accesses, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *server(void *arg)
{
	struct kuf_service s = { .size = sizeof(s), .budget = 8 };
	struct pollfd fds[4];
	struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 4 };

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		EQUAL(kuf_pollfds(k, &p), 0);
		poll(fds, p.used, p.timeout_ms ? 10 : 0);
		EQUAL(kuf_service(k, &s), 0);
	}
	return NULL;
}

static void *device(void *arg)
{
	unsigned int seed = (uintptr_t)arg;
	int ret;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t page = rand_r(&seed) % (NR_PAGES - 8);

		ret = kuf_access(k, GPA + page * PAGE + 100, 7 * PAGE,
				 rand_r(&seed) % 2 ? KUF_ACCESS_SERVE : 0, 20000000000ll, NULL);
		if (ret != -EHWPOISON)
			EQUAL(ret, 0);
		__atomic_fetch_add(&devices, 1, __ATOMIC_RELAXED);
		usleep(100);
	}
	return NULL;
}

static void *discarder(void *arg)
{
	unsigned int seed = (uintptr_t)arg;
	int ret;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t page = rand_r(&seed) % (NR_PAGES - 4);

		ret = kuf_discard(k, 0, GPA + page * PAGE, (1 + rand_r(&seed) % 4) * PAGE);
		if (ret != -EHWPOISON)
			EQUAL(ret, 0);
		__atomic_fetch_add(&discards, 1, __ATOMIC_RELAXED);
		usleep(50);
	}
	return NULL;
}

static void *poisoner(void *arg)
{
	unsigned int seed = (uintptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t gpa = GPA + rand_r(&seed) % NR_PAGES * PAGE;

		EQUAL(kuf_poison(k, 0, gpa, PAGE), -EOPNOTSUPP);
		usleep(300);
		EQUAL(kuf_unpoison(k, 0, gpa, PAGE), 0);
		__atomic_fetch_add(&poisons, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static bool enough(void)
{
	return __atomic_load_n(&accesses, __ATOMIC_RELAXED) > 100 &&
	       __atomic_load_n(&exits, __ATOMIC_RELAXED) > 100 &&
	       __atomic_load_n(&devices, __ATOMIC_RELAXED) > 100 &&
	       __atomic_load_n(&discards, __ATOMIC_RELAXED) > 100 &&
	       __atomic_load_n(&poisons, __ATOMIC_RELAXED) > 100;
}

static void all_at_once(void)
{
	static void *(*const what[])(void *) = { guest, guest, guest, server, device, discarder,
						 discarder, poisoner };
	struct kuf_file_range range = { .gpa = GPA, .len = NR_PAGES * PAGE };
	pthread_t threads[sizeof(what) / sizeof(what[0])];
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER, .depth = 4 };
	struct kuf_file_source *source;
	uint64_t page[PAGE / 8] = {};
	uintptr_t i;

	range.fd = memfd_create("source", MFD_CLOEXEC);
	for (i = 0; i < NR_PAGES; i++) {
		pthread_mutex_init(&shadow[i].lock, NULL);
		page[0] = GPA + i * PAGE;
		EQUAL(pwrite(range.fd, page, PAGE, i * PAGE), PAGE);
	}
	k = new_kuf(ALL_FEATURES);
	kufi_ioctl = model_ioctl;
	r = new_region(k, GPA, NR_PAGES, 0);
	EQUAL(kuf_arm(k, r.id), 0);
	EQUAL(kuf_file_source_create(&range, 1, 0, &source), 0);
	EQUAL(kuf_set_source(k, kuf_file_source_ops(), source), 0);
	EQUAL(kuf_set_policy(k, &policy), 0);

	for (i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		EQUAL(pthread_create(&threads[i], NULL, what[i], (void *)(i + 1)), 0);
	/* Longer, where others are busy; until alarm(). */
	do {
		sleep(SECONDS);
	} while (!enough());
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		pthread_join(threads[i], NULL);
	printf("# %lu accesses, %lu exits, %lu device accesses, %lu discards, %lu poisons\n",
	       (unsigned long)accesses, (unsigned long)exits, (unsigned long)devices,
	       (unsigned long)discards, (unsigned long)poisons);
	CHECK(enough());
	kuf_destroy(k);
	kuf_file_source_destroy(source);
	free_region(&r);
	close(range.fd);
}

static const struct test tests[] = { TEST(all_at_once), };

MAIN(tests)
