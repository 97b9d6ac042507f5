// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Waiting, cancelling, and accesses of device models.
 */
#include "test.h"

#define FOREVER		(-1)
#define SECOND		1000000000ll

struct call {
	struct kuf *k;
	uint64_t gpa, len;
	int64_t timeout;
	struct kuf_waiter *waiter;
	int ret;
	pthread_t thread;
	bool running, done;
};

static void *wait_thread(void *arg)
{
	struct call *c = arg;

	__atomic_store_n(&c->running, true, __ATOMIC_SEQ_CST);
	c->ret = c->len ? kuf_access(c->k, c->gpa, c->len, 0, c->timeout, c->waiter) :
		 kuf_wait(c->k, 0, c->gpa, c->timeout, c->waiter);
	__atomic_store_n(&c->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void start(struct call *c)
{
	EQUAL(pthread_create(&c->thread, NULL, wait_thread, c), 0);
	while (!__atomic_load_n(&c->running, __ATOMIC_SEQ_CST))
		usleep(100);
}

/* Until it sleeps on its page. */
static void asleep(struct call *c)
{
	while (!(kufi_load(word_of(c->k, c->gpa)) & KUFI_SLEEPERS))
		usleep(100);
	usleep(2000);
}

static int result(struct call *c)
{
	pthread_join(c->thread, NULL);
	return c->ret;
}

static void present(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);

	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);
	EQUAL(kuf_wait(k, 0, GPA + 5, 0, NULL), 0);
	EQUAL(kuf_wait(k, 0, GPA - 1, 0, NULL), -ENOENT);
	EQUAL(kuf_access(k, GPA, PAGE, 0, 0, NULL), 0);
	EQUAL(stats_of(k).waits, 0);
	EQUAL(stats_of(k).accesses, 0);
	kuf_destroy(k);
	free_region(&r);
}

static void timeouts(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	uint64_t before = kufi_now();

	EQUAL(kuf_wait(k, 0, GPA, 0, NULL), -ETIMEDOUT);
	EQUAL(kuf_wait(k, 0, GPA, 30000000, NULL), -ETIMEDOUT);
	CHECK(kufi_now() - before >= 30000000);
	/* It was asked for, though. */
	EQUAL(state_of(k, GPA), KUF_REQUESTED);
	EQUAL(kuf_access(k, GPA + PAGE, 3 * PAGE, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(state_of(k, GPA + PAGE), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_ABSENT);
	EQUAL(stats_of(k).accesses, 3);
	EQUAL(stats_of(k).latency_count, 0);
	kuf_destroy(k);
	free_region(&r);
}

static void woken(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct call a = { .k = k, .gpa = GPA, .timeout = FOREVER }, b = a;
	struct call c = { .k = k, .gpa = GPA + PAGE, .len = 2 * PAGE, .timeout = 60 * SECOND };
	struct kuf_stats s;

	start(&a);
	asleep(&a);
	start(&b);
	/* Others sleep there already. */
	while (stats_of(k).waits < 2)
		usleep(100);
	start(&c);
	asleep(&c);
	EQUAL(kuf_install_zero(k, 0, GPA, 2 * PAGE, NULL), 0);
	EQUAL(result(&a), 0);
	EQUAL(result(&b), 0);
	c.gpa += PAGE;
	asleep(&c);
	EQUAL(kuf_install_zero(k, 0, GPA, 8 * PAGE, NULL), 0);
	EQUAL(result(&c), 0);
	s = stats_of(k);
	CHECK(s.waits >= 3 && s.latency_count >= 3 && s.latency_sum_ns);
	kuf_destroy(k);
	free_region(&r);
}

/* Discarded pages need nobody else. */
static void zero_on_need(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct call a = { .k = k, .gpa = GPA + PAGE, .timeout = FOREVER };

	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	memset(r.hva, 0x77, PAGE);
	EQUAL(kuf_wait(k, 0, GPA, 0, NULL), 0);
	CHECK(is_zero(r.hva));
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	/* Also if that happens while somebody waits. */
	start(&a);
	asleep(&a);
	EQUAL(kuf_discard(k, 0, GPA + PAGE, PAGE), 0);
	EQUAL(result(&a), 0);
	EQUAL(state_of(k, GPA + PAGE), KUF_PRESENT);
	kuf_destroy(k);
	free_region(&r);
}

static void poisoned_meanwhile(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct call a = { .k = k, .gpa = GPA, .timeout = FOREVER };

	start(&a);
	asleep(&a);
	EQUAL(kuf_poison(k, 0, GPA, PAGE), -EOPNOTSUPP);
	EQUAL(result(&a), -EHWPOISON);
	kuf_destroy(k);
	free_region(&r);
}

static void cancel(void)
{
	struct kuf_waiter waiter = { .size = sizeof(waiter) };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct call a = { .k = k, .gpa = GPA, .timeout = FOREVER, .waiter = &waiter };
	struct call b = { .k = k, .gpa = GPA, .timeout = FOREVER };
	uint32_t word;

	start(&b);
	asleep(&b);
	start(&a);
	usleep(20000);
	kuf_wait_cancel(&waiter);
	EQUAL(result(&a), -ECANCELED);
	/* The other one goes on, and this one's next wait is not concerned. */
	EQUAL(kuf_wait(k, 0, GPA, 0, &waiter), -ETIMEDOUT);
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);
	EQUAL(result(&b), 0);

	/* In advance. */
	kuf_wait_cancel(&waiter);
	EQUAL(kuf_wait(k, 0, GPA + PAGE, FOREVER, &waiter), -ECANCELED);
	EQUAL(kuf_access(k, GPA + PAGE, 1, 0, 0, &waiter), -ETIMEDOUT);
	/* Who looked and does not sleep yet would miss it, if the word were the same. */
	word = kufi_load(word_of(k, GPA + PAGE));
	waiter.word = word_of(k, GPA + PAGE);
	kuf_wait_cancel(&waiter);
	CHECK(kufi_load(word_of(k, GPA + PAGE)) != word);
	waiter.size = 0;
	EQUAL(kuf_wait(k, 0, GPA, 0, &waiter), -EINVAL);
	EQUAL(kuf_access(k, GPA, 1, 0, 0, &waiter), -EINVAL);
	kuf_destroy(k);
	free_region(&r);
}

/* At any moment of going to sleep: no cancellation is missed. */
static void cancel_race(void)
{
	struct kuf_waiter waiter = { .size = sizeof(waiter) };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	unsigned int i, seed = 3;

	for (i = 0; i < 500; i++) {
		struct call a = { .k = k, .gpa = GPA, .timeout = FOREVER, .waiter = &waiter };
		uint64_t until;

		start(&a);
		until = kufi_now() + rand_r(&seed) % 20000;
		while (kufi_now() < until)
			;
		kuf_wait_cancel(&waiter);
		EQUAL(result(&a), -ECANCELED);
	}
	kuf_destroy(k);
	free_region(&r);
}

static void on_signal(int signal)
{
	(void)signal;
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct call a = { .k = k, .gpa = GPA, .timeout = FOREVER };

	CHECK(!sigaction(SIGUSR1, &action, NULL));
	start(&a);
	asleep(&a);
	/* One that comes before it sleeps is for nothing. */
	while (!__atomic_load_n(&a.done, __ATOMIC_SEQ_CST)) {
		pthread_kill(a.thread, SIGUSR1);
		usleep(1000);
	}
	EQUAL(result(&a), -EINTR);
	kuf_destroy(k);
	free_region(&r);
}

static void access_ranges(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region b = new_region(k, GPA + 16 * PAGE, 4, 0);
	struct kuf_region a = new_region(k, GPA, 4, 0);
	struct kuf_region top = new_region(k, -4 * PAGE, 4, 0);

	EQUAL(kuf_access(k, GPA, 1, 4, 0, NULL), -EINVAL);
	EQUAL(kuf_access(k, -1ull, 2, 0, 0, NULL), -EINVAL);
	EQUAL(kuf_access(k, GPA, 0, 0, 0, NULL), 0);
	EQUAL(kuf_access(k, 0, PAGE, KUF_ACCESS_WRITE, 0, NULL), 0);
	EQUAL(kuf_access(k, GPA + 4 * PAGE, 12 * PAGE, 0, 0, NULL), 0);
	/* Two bytes in two pages. */
	EQUAL(kuf_access(k, GPA + PAGE - 1, 2, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(state_of(k, GPA), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + PAGE), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_ABSENT);
	/* Over a hole. */
	EQUAL(kuf_install_zero(k, 0, GPA, 4 * PAGE, NULL), 0);
	EQUAL(kuf_access(k, GPA, 17 * PAGE, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(state_of(k, GPA + 16 * PAGE), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 17 * PAGE), KUF_ABSENT);
	/* To the end of all addresses, over everything. */
	EQUAL(kuf_install_zero(k, 0, b.gpa, 4 * PAGE, NULL), 0);
	EQUAL(kuf_access(k, 0, -1ull, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(state_of(k, top.gpa + 3 * PAGE), KUF_REQUESTED);
	EQUAL(kuf_install_zero(k, 0, top.gpa, 4 * PAGE, NULL), 0);
	EQUAL(kuf_access(k, 0, -1ull, 0, 0, NULL), 0);
	kuf_destroy(k);
	free_region(&a);
	free_region(&b);
	free_region(&top);
}

/* Whoever settled the page died before he woke anybody. */
static void waker_dies(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct call waits[] = {
		{ .k = k, .gpa = GPA, .timeout = FOREVER },
		{ .k = k, .gpa = GPA, .timeout = 60 * SECOND },
		{ .k = k, .gpa = GPA, .len = PAGE, .timeout = FOREVER },
	};
	uint32_t old;
	int i;

	for (i = 0; i < 3; i++) {
		start(&waits[i]);
		asleep(&waits[i]);
	}
	EQUAL(kufi_page_claim(word_of(k, GPA), 3, false), 0);
	kufi_bit_clear(&k->regions[r.id], 0);
	EQUAL(kufi_page_settle(word_of(k, GPA), 3, &old), 0);
	CHECK(old & KUFI_SLEEPERS);
	EQUAL(kuf_recover(k, 3), 0);
	for (i = 0; i < 3; i++)
		EQUAL(result(&waits[i]), 0);
	kuf_destroy(k);
	free_region(&r);
}

static const struct test tests[] = {
	TEST(present), TEST(timeouts), TEST(woken), TEST(zero_on_need), TEST(poisoned_meanwhile),
	TEST(cancel), TEST(cancel_race), TEST(signals), TEST(access_ranges), TEST(waker_dies),
};

MAIN(tests)
