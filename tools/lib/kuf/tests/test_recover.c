// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Somebody died.
 */
#include "test.h"

#define DEAD	3

static void claims(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 16, 0);
	uint64_t page;
	bool fresh;

	/* Before and after its bit was cleared; asked for meanwhile; zeroes. */
	kufi_page_claim(word_of(k, GPA), DEAD, false);
	kufi_page_claim(word_of(k, GPA + PAGE), DEAD, false);
	kufi_bit_clear(&k->regions[r.id], 1);
	kufi_page_claim(word_of(k, GPA + 2 * PAGE), DEAD, false);
	kufi_page_request(word_of(k, GPA + 2 * PAGE), KUFI_URGENT, &fresh);
	EQUAL(kuf_discard(k, 0, GPA + 3 * PAGE, PAGE), 0);
	kufi_page_claim(word_of(k, GPA + 3 * PAGE), DEAD, true);
	kufi_page_take(word_of(k, GPA + 4 * PAGE), DEAD);
	EQUAL(kuf_install_zero(k, 0, GPA + 5 * PAGE, PAGE, NULL), 0);
	kufi_page_take(word_of(k, GPA + 5 * PAGE), DEAD);
	kufi_bit_set(&k->regions[r.id], 5);
	/* Somebody else's, who lives. */
	kufi_page_claim(word_of(k, GPA + 6 * PAGE), DEAD + 1, false);
	kufi_page_claim(word_of(k, GPA + 7 * PAGE), 0, false);

	EQUAL(kuf_recover(k, DEAD), 0);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	EQUAL(bit_of(k, GPA), 1);
	EQUAL(state_of(k, GPA + PAGE), KUF_PRESENT);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_ABSENT);
	EQUAL(state_of(k, GPA + 5 * PAGE), KUF_PRESENT);
	EQUAL(bit_of(k, GPA + 5 * PAGE), 0);
	EQUAL(state_of(k, GPA + 6 * PAGE), KUF_FILLING);
	EQUAL(state_of(k, GPA + 7 * PAGE), KUF_FILLING);
	EQUAL(stats_of(k).recovered, 6);
	CHECK(kufi_set_take(&k->regions[r.id].need, &page));
	EQUAL(page, 2);
	CHECK(!kufi_set_take(&k->regions[r.id].need, &page));
	EQUAL(kuf_recover(k, DEAD), 0);
	EQUAL(stats_of(k).recovered, 6);
	kuf_destroy(k);
	free_region(&r);
}

static void refused(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);

	EQUAL(kuf_recover(k, 0), -EINVAL);
	EQUAL(kuf_recover(k, 255), -EINVAL);
	kuf_destroy(k);
}

/* What had been asked of him is asked again; what was fetched ahead is absent. */
static void requests(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 16, 0);
	uint64_t page;
	bool fresh;

	kufi_page_request(word_of(k, GPA), KUFI_URGENT, &fresh);
	kufi_page_request(word_of(k, GPA + PAGE), KUFI_URGENT | KUFI_EVENT, &fresh);
	kufi_page_fail(word_of(k, GPA + PAGE));
	kufi_page_request(word_of(k, GPA + 2 * PAGE), 0, &fresh);
	k->uffd = 44;
	EQUAL(kuf_recover(k, DEAD), 0);
	EQUAL(mock_count(KVM_USERFAULT_REPLAY, NULL), 1);
	EQUAL(state_of(k, GPA), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + PAGE), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_ABSENT);
	CHECK(kufi_set_take(&k->regions[r.id].need, &page) && page == 0);
	CHECK(kufi_set_take(&k->regions[r.id].need, &page) && page == 1);
	CHECK(!kufi_set_take(&k->regions[r.id].need, &page));
	mock_fail(KVM_USERFAULT_REPLAY, EPIPE, 1);
	EQUAL(kuf_recover(k, DEAD), 0);
	mock_fail(KVM_USERFAULT_REPLAY, EINVAL, 1);
	EQUAL(kuf_recover(k, DEAD), -EINVAL);
	kuf_destroy(k);
	free_region(&r);
}

#define NR_PAGES	256
#define ROUNDS		12

/* Serves until it is killed, wherever it is then. */
static void serve(struct kuf_export *ex, int source_fd)
{
	struct kuf_file_range range = { .gpa = GPA, .len = NR_PAGES * PAGE, .fd = source_fd };
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER };
	struct kuf_service s = { .size = sizeof(s), .budget = 4 };
	struct pollfd fds[4];
	struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 4 };
	struct kuf_file_source *source;
	struct kuf *k;
	int fd;

	if (kuf_import(ex, &k, &fd) || kuf_file_source_create(&range, 1, 0, &source) ||
	    kuf_set_source(k, kuf_file_source_ops(), source) || kuf_set_policy(k, &policy))
		_exit(1);
	for (;;) {
		kuf_pollfds(k, &p);
		poll(fds, p.used, p.timeout_ms);
		if (kuf_service(k, &s))
			_exit(2);
	}
}

/* A handler killed at random steps: with a successor all pages come, and are right. */
static void killed(void)
{
	static struct kuf_export ex = { .size = sizeof(ex) };
	int source = memfd_create("source", MFD_CLOEXEC), status, i, round;
	unsigned int seed = 11, after = 0;
	char page[PAGE];

	for (i = 0; i < NR_PAGES; i++) {
		pattern(page, GPA + i * PAGE);
		EQUAL(pwrite(source, page, PAGE, i * PAGE), PAGE);
	}
	for (round = 0; round < ROUNDS; round++) {
		struct kuf *k = new_kuf(ALL_FEATURES);
		struct kuf_region r = new_region(k, GPA, NR_PAGES, 0);
		int life, need = round * 7 % NR_PAGES;
		struct kuf_cursor c;
		pid_t pid;

		k->claim_timeout_ns = 10000000000ll;
		for (life = 0;; life++) {
			EQUAL(kuf_export(k, -1, &ex), 0);
			pid = fork();
			if (!pid)
				serve(&ex, source);
			/* Some lives are short, in the end one is long enough. */
			if (life < 4) {
				usleep(rand_r(&seed) % 3000);
				kill(pid, SIGKILL);
			}
			if (life >= 4)
				break;
			EQUAL(waitpid(pid, &status, 0), pid);
			CHECK(WIFSIGNALED(status));
			/* Somebody asks while nobody serves. */
			kuf_access(k, GPA + need * PAGE, 1, 0, 0, NULL);
			EQUAL(kuf_recover(k, ex.peer), 0);
		}
		EQUAL(kuf_access(k, GPA, NR_PAGES * PAGE, 0, 60000000000ll, NULL), 0);
		for (i = 0; i < NR_PAGES; i++)
			CHECK(is_pattern((char *)r.hva + i * PAGE, GPA + i * PAGE));
		c = (struct kuf_cursor){ .size = sizeof(c) };
		EQUAL(kuf_next_absent(k, &c), -ENOENT);
		after += stats_of(k).recovered;
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		kuf_destroy(k);
		free_region(&r);
	}
	printf("# %d rounds of 5 lives, %u claims taken from the dead\n", ROUNDS, after);
	close(source);
}

static const struct test tests[] = { TEST(claims), TEST(refused), TEST(requests), TEST(killed), };

MAIN(tests)
