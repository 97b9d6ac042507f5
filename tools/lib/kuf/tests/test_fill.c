// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Installing content.
 */
#include "test.h"

static void install(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	char data[3 * PAGE];
	uint64_t done = 99;
	unsigned int i;

	for (i = 0; i < 3; i++)
		pattern(data + i * PAGE, GPA + (2 + i) * PAGE);
	EQUAL(kuf_install(k, 0, GPA + 2 * PAGE, 3 * PAGE, data, &done), 0);
	EQUAL(done, 3);
	for (i = 0; i < 8; i++) {
		bool there = i >= 2 && i < 5;

		EQUAL(state_of(k, GPA + i * PAGE), there ? KUF_PRESENT : KUF_ABSENT);
		EQUAL(bit_of(k, GPA + i * PAGE), !there);
		EQUAL(is_pattern((char *)r.hva + i * PAGE, GPA + i * PAGE), there);
	}
	EQUAL(stats_of(k).installed, 3);
	/* Nobody waits, so nobody is woken. */
	EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 0);

	/* Once only: what the guest wrote since is not undone. */
	memset(r.hva, 0x55, r.len);
	EQUAL(kuf_install(k, 0, GPA + 3 * PAGE, 2 * PAGE, data, &done), 0);
	EQUAL(done, 0);
	EQUAL(((unsigned char *)r.hva)[3 * PAGE], 0x55);
	EQUAL(stats_of(k).skipped, 2);
	EQUAL(kuf_install_zero(k, 0, GPA, 8 * PAGE, &done), 0);
	EQUAL(done, 5);
	EQUAL(stats_of(k).zeroed, 5);
	CHECK(is_zero(r.hva));
	EQUAL(((unsigned char *)r.hva)[3 * PAGE], 0x55);
	kuf_destroy(k);
	free_region(&r);
}

static void refused(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	char data[PAGE];
	uint64_t done = 99;

	EQUAL(kuf_install(k, 0, GPA, PAGE, NULL, NULL), -EINVAL);
	EQUAL(kuf_install(k, 0, GPA + 1, PAGE, data, NULL), -EINVAL);
	EQUAL(kuf_install(k, 0, GPA, 1, data, NULL), -EINVAL);
	EQUAL(kuf_install(k, 0, GPA, 0, data, &done), -EINVAL);
	EQUAL(done, 0);
	EQUAL(kuf_install(k, 0, GPA, 9 * PAGE, data, NULL), -ENOENT);
	EQUAL(kuf_install(k, 0, GPA - PAGE, PAGE, data, NULL), -ENOENT);
	EQUAL(kuf_install(k, 0, GPA + PAGE, -PAGE, data, NULL), -ENOENT);
	EQUAL(kuf_install(k, 1, GPA, PAGE, data, NULL), -ENOENT);
	*word_of(k, GPA) = 7;
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, NULL), -EUCLEAN);
	kuf_destroy(k);
	free_region(&r);
}

/* What an installer must leave alone. */
static void skipped(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	char data[5 * PAGE];
	uint64_t done;

	memset(data, 0x11, sizeof(data));
	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	EQUAL(kuf_poison(k, 0, GPA + PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(kufi_page_claim(word_of(k, GPA + 2 * PAGE), 9, false), 0);
	EQUAL(kufi_page_take(word_of(k, GPA + 3 * PAGE), 9), 0);
	EQUAL(kuf_install(k, 0, GPA, 5 * PAGE, data, &done), 0);
	EQUAL(done, 1);
	EQUAL(state_of(k, GPA), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + PAGE), KUF_POISONED);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_FILLING);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_TAKING);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_PRESENT);
	CHECK(is_zero(r.hva));
	EQUAL(bit_of(k, GPA + 2 * PAGE), 1);
	/* Zeroes are what a discarded page has. */
	EQUAL(kuf_install_zero(k, 0, GPA, 2 * PAGE, &done), 0);
	EQUAL(done, 1);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(state_of(k, GPA + PAGE), KUF_POISONED);
	kuf_destroy(k);
	free_region(&r);
}

/* The memory may have anything in it: all of it is overwritten. */
static void overwrites(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 2, 0);
	char data[PAGE];

	memset(r.hva, 0xee, r.len);
	pattern(data, GPA);
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, NULL), 0);
	CHECK(is_pattern(r.hva, GPA));
	EQUAL(kuf_install_zero(k, 0, GPA + PAGE, PAGE, NULL), 0);
	CHECK(is_zero((char *)r.hva + PAGE));
	kuf_destroy(k);
	free_region(&r);
}

/* Those who wait in KVM are woken after the bit is clear, adjoining pages at once. */
static void wakes(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 16, 0);
	struct mock_call c;
	bool fresh;
	int i;

	k->uffd = 55;
	for (i = 0; i < 16; i++)
		if (i != 4 && i < 7)
			kufi_page_request(word_of(k, GPA + i * PAGE), KUFI_URGENT | KUFI_EVENT,
					  &fresh);
	EQUAL(kuf_install_zero(k, 0, GPA, 4 * PAGE, NULL), 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 1);
	EQUAL(c.fd, 55);
	EQUAL(c.range.gpa, GPA);
	EQUAL(c.range.size, 4 * PAGE);
	EQUAL(c.range.as_id, 0);
	EQUAL(c.range.flags, 0);
	EQUAL(kuf_install_zero(k, 0, GPA + 4 * PAGE, 12 * PAGE, NULL), 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 2);
	EQUAL(c.range.gpa, GPA + 5 * PAGE);
	EQUAL(c.range.size, 2 * PAGE);
	EQUAL(stats_of(k).wakes, 2);

	/* At the end of the fd there is nobody to wake, and that is no error. */
	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	kufi_page_request(word_of(k, GPA), KUFI_URGENT | KUFI_EVENT, &fresh);
	mock_fail(KVM_USERFAULT_WAKE, EPIPE, 1);
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);

	/* Who has no fd tells whoever has. */
	k->uffd = -1;
	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	kufi_page_request(word_of(k, GPA), KUFI_URGENT | KUFI_EVENT, &fresh);
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 3);
	CHECK(!kufi_set_empty(&k->regions[r.id].need));
	kuf_destroy(k);
	free_region(&r);
}

/* While content is written nobody may use it; when somebody is woken it is all there. */
static struct kuf *order_k;
static unsigned int order_writes, order_wakes;

static int order_install(void *opaque, uint64_t gpa, const void *data, size_t len)
{
	(void)opaque;
	(void)data;
	(void)len;
	EQUAL(state_of(order_k, gpa), KUF_FILLING);
	EQUAL(bit_of(order_k, gpa), 1);
	order_writes++;
	return 0;
}

static int order_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_userfault_range *range = arg;

	if (request == KVM_USERFAULT_WAKE) {
		EQUAL(state_of(order_k, range->gpa), KUF_PRESENT);
		EQUAL(bit_of(order_k, range->gpa), 0);
		order_wakes++;
	}
	return mock_ioctl(fd, request, arg);
}

static void order(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 4 * PAGE, .fd = -1, .gmem_fd = 99,
		.flags = KUF_REGION_PRIVATE, .install = order_install,
	};
	char data[PAGE];
	bool fresh;

	order_k = k;
	k->uffd = 55;
	kufi_ioctl = order_ioctl;
	EQUAL(kuf_region_add(k, &r), 0);
	kufi_page_request(word_of(k, GPA), KUFI_URGENT | KUFI_EVENT, &fresh);
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, NULL), 0);
	kufi_page_request(word_of(k, GPA + PAGE), KUFI_URGENT | KUFI_EVENT, &fresh);
	EQUAL(kuf_install_zero(k, 0, GPA + PAGE, PAGE, NULL), 0);
	EQUAL(order_writes, 2);
	EQUAL(order_wakes, 2);
	kuf_destroy(k);
}

static struct {
	uint64_t gpa;
	const void *data;
	size_t len;
	int ret, calls;
} installed;

static int installer(void *opaque, uint64_t gpa, const void *data, size_t len)
{
	EQUAL((uintptr_t)opaque, 42);
	installed.gpa = gpa;
	installed.data = data;
	installed.len = len;
	installed.calls++;
	return installed.ret;
}

static void private_memory(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 4 * PAGE, .fd = -1,
		.flags = KUF_REGION_PRIVATE, .install = installer, .opaque = (void *)42,
	};
	char data[2 * PAGE], back[PAGE];
	uint64_t done;

	r.gmem_fd = memfd_create("private", MFD_CLOEXEC);
	CHECK(!ftruncate(r.gmem_fd, r.len));
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, &done), 0);
	EQUAL(done, 1);
	EQUAL(installed.gpa, GPA);
	EQUAL(installed.len, PAGE);
	CHECK(installed.data == data);
	EQUAL(kuf_install_zero(k, 0, GPA + PAGE, PAGE, &done), 0);
	CHECK(!installed.data);

	/* A platform that has no way: nothing is present, the claim is free again. */
	installed.ret = -EOPNOTSUPP;
	EQUAL(kuf_install(k, 0, GPA + 2 * PAGE, 2 * PAGE, data, &done), -EOPNOTSUPP);
	EQUAL(done, 0);
	EQUAL(installed.calls, 3);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_ABSENT);
	EQUAL(bit_of(k, GPA + 2 * PAGE), 1);
	EQUAL(stats_of(k).failed, 1);
	kuf_destroy(k);

	/* Without a function zeroes still work, as holes. */
	k = new_kuf(ALL_FEATURES);
	r.install = NULL;
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(pwrite(r.gmem_fd, "x", 1, 0), 1);
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, &done), -EOPNOTSUPP);
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, &done), 0);
	EQUAL(done, 1);
	EQUAL(pread(r.gmem_fd, back, PAGE, 0), PAGE);
	CHECK(is_zero(back));
	kuf_destroy(k);
	close(r.gmem_fd);
}

/* Who asked while somebody tried in vain is served by the source. */
static struct kuf *hook_k;

static int asking_installer(void *opaque, uint64_t gpa, const void *data, size_t len)
{
	bool fresh;

	(void)opaque;
	(void)data;
	(void)len;
	EQUAL(kufi_page_request(word_of(hook_k, gpa), KUFI_URGENT, &fresh), -EBUSY);
	return -EIO;
}

static void asked_meanwhile(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 4 * PAGE, .fd = -1, .gmem_fd = 99,
		.flags = KUF_REGION_PRIVATE, .install = asking_installer,
	};
	char data[PAGE];
	uint64_t page;

	hook_k = k;
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_install(k, 0, GPA + PAGE, PAGE, data, NULL), -EIO);
	EQUAL(state_of(k, GPA + PAGE), KUF_REQUESTED);
	CHECK(kufi_set_take(&k->regions[r.id].need, &page));
	EQUAL(page, 1);
	kuf_destroy(k);
}

static const struct test tests[] = {
	TEST(install), TEST(refused), TEST(skipped), TEST(overwrites), TEST(wakes), TEST(order),
	TEST(private_memory), TEST(asked_meanwhile),
};

MAIN(tests)
