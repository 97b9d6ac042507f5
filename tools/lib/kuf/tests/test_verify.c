// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sources look at what was written before it is let go.
 */
#include "test.h"

/* A source that answers as it was asked, and remembers what it was shown. */
static struct {
	struct kuf *k;
	struct kuf_request asked;
	int type;		/* of replies */
	char content[PAGE] __attribute__((aligned(8)));	/* of the next reply */
	int verdict;
	unsigned int nr_asked, nr_verified;
} source;

static int source_request(void *opaque, const struct kuf_request *request)
{
	EQUAL((uintptr_t)opaque, 42);
	source.asked = *request;
	source.nr_asked++;
	return 0;
}

static int source_receive(void *opaque, struct kuf_reply *reply)
{
	EQUAL((uintptr_t)opaque, 42);
	if (!source.asked.len)
		return -EAGAIN;
	reply->gpa = source.asked.gpa;
	reply->len = source.asked.len;
	reply->as_id = source.asked.as_id;
	reply->type = source.type;
	reply->data = source.content;
	source.asked.len = 0;
	return 0;
}

static int source_fetch(void *opaque, const struct kuf_request *request, void *to)
{
	EQUAL((uintptr_t)opaque, 42);
	EQUAL(request->len, PAGE);
	memcpy(to, source.content, PAGE);
	return 0;
}

static int source_verify(void *opaque, const struct kuf_request *page, const void *content)
{
	EQUAL((uintptr_t)opaque, 42);
	EQUAL(page->size, sizeof(*page));
	EQUAL(page->len, PAGE);
	EQUAL(page->as_id, 0);
	/* It is in memory, and nobody has it yet. */
	EQUAL(state_of(source.k, page->gpa), KUF_FILLING);
	EQUAL(bit_of(source.k, page->gpa), 1);
	CHECK(source.type == KUF_REPLY_ZERO ? is_zero(content) :
	      !memcmp(content, source.content, PAGE));
	source.nr_verified++;
	return source.verdict;
}

static const struct kuf_source_ops ops = {
	.size = sizeof(ops),
	.request = source_request,
	.receive = source_receive,
	.fetch = source_fetch,
	.verify = source_verify,
};

static void begin(uint64_t gpa, int type, int verdict)
{
	memset(&source.asked, 0, sizeof(source.asked));
	source.type = type;
	source.verdict = verdict;
	source.nr_asked = 0;
	source.nr_verified = 0;
	pattern(source.content, gpa);
}

static struct kuf *new(void)
{
	source.k = new_kuf(ALL_FEATURES);
	EQUAL(kuf_set_source(source.k, &ops, (void *)42), 0);
	return source.k;
}

static int serve(struct kuf *k)
{
	struct kuf_service s = { .size = sizeof(s) };

	return kuf_service(k, &s);
}

static void replies(void)
{
	struct kuf *k = new();
	struct kuf_region r = new_region(k, GPA, 4, 0);

	begin(GPA, KUF_REPLY_DATA, 0);
	EQUAL(kuf_access(k, GPA, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k), 0);
	EQUAL(source.nr_verified, 1);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	CHECK(is_pattern(r.hva, GPA));

	begin(GPA + PAGE, KUF_REPLY_ZERO, 0);
	memset((char *)r.hva + PAGE, 0xee, PAGE);
	EQUAL(kuf_access(k, GPA + PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k), 0);
	EQUAL(source.nr_verified, 1);
	EQUAL(state_of(k, GPA + PAGE), KUF_PRESENT);
	EQUAL(stats_of(k).failed, 0);
	kuf_destroy(k);
	free_region(&r);
}

/* What is refused is absent, and stays so until somebody says otherwise. */
static void refused(int type)
{
	struct kuf *k = new();
	struct kuf_region r = new_region(k, GPA, 4, 0);

	begin(GPA, type, -EILSEQ);
	EQUAL(kuf_access(k, GPA, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k), -EILSEQ);
	EQUAL(source.nr_asked, 1);
	EQUAL(source.nr_verified, 1);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	EQUAL(bit_of(k, GPA), 1);
	EQUAL(stats_of(k).failed, 1);
	EQUAL(stats_of(k).installed + stats_of(k).zeroed, 0);
	EQUAL(serve(k), 0);
	EQUAL(source.nr_asked, 1);

	begin(GPA, type, 0);
	EQUAL(kuf_retry(k), 0);
	EQUAL(serve(k), 0);
	EQUAL(source.nr_verified, 1);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(bit_of(k, GPA), 0);
	EQUAL(kuf_access(k, GPA, 1, 0, 0, NULL), 0);
	kuf_destroy(k);
	free_region(&r);
}

static void refused_data(void)
{
	refused(KUF_REPLY_DATA);
}

static void refused_zeroes(void)
{
	refused(KUF_REPLY_ZERO);
}

/* Whoever serves himself is told. */
static void fetched(void)
{
	struct kuf *k = new();
	struct kuf_region r = new_region(k, GPA, 4, 0);
	struct kuf_exit ex = { .size = sizeof(ex), .flags = KUF_EXIT_SERVE };
	struct kvm_run run = { .exit_reason = KUFI_EXIT_MEMORY_FAULT };
	struct kufi_memory_fault fault = {
		.flags = KVM_MEMORY_EXIT_FLAG_USERFAULT, .gpa = GPA, .size = PAGE,
	};

	memcpy(&run.hw, &fault, sizeof(fault));
	begin(GPA, KUF_REPLY_DATA, -EILSEQ);
	EQUAL(kuf_access(k, GPA, 1, KUF_ACCESS_SERVE, -1, NULL), -EILSEQ);
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), -EILSEQ);
	EQUAL(source.nr_verified, 2);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	EQUAL(bit_of(k, GPA), 1);
	EQUAL(stats_of(k).failed, 2);
	source.verdict = 0;
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), 0);
	EQUAL(ex.action, KUF_RUN_AGAIN);
	EQUAL(source.nr_verified, 3);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	kuf_destroy(k);
	free_region(&r);
}

/* Content that is not the source's is none of its business. */
static void not_asked(void)
{
	struct kuf *k = new();
	struct kuf_region r = new_region(k, GPA, 4, 0);
	char data[PAGE];

	begin(GPA, KUF_REPLY_DATA, -EILSEQ);
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, NULL), 0);
	EQUAL(kuf_install_zero(k, 0, GPA + PAGE, PAGE, NULL), 0);
	EQUAL(kuf_discard(k, 0, GPA + 2 * PAGE, PAGE), 0);
	EQUAL(kuf_access(k, GPA + 2 * PAGE, 1, 0, 0, NULL), 0);
	EQUAL(source.nr_verified, 0);
	EQUAL(stats_of(k).failed, 0);
	kuf_destroy(k);
	free_region(&r);
}

/* A reply that comes after the page was discarded is not even looked at. */
static void discarded(void)
{
	struct kuf *k = new();
	struct kuf_region r = new_region(k, GPA, 4, 0);

	begin(GPA, KUF_REPLY_ZERO, -EILSEQ);
	source.asked = (struct kuf_request){ .gpa = GPA, .len = PAGE };
	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	EQUAL(serve(k), 0);
	EQUAL(source.nr_verified, 0);
	EQUAL(state_of(k, GPA), KUF_DISCARDED);
	EQUAL(stats_of(k).skipped, 1);
	kuf_destroy(k);
	free_region(&r);
}

/* What cannot be read cannot be verified. */
static void private_memory(void)
{
	struct kuf *k = new();
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 4 * PAGE, .fd = -1,
		.flags = KUF_REGION_PRIVATE,
	};

	r.gmem_fd = memfd_create("private", MFD_CLOEXEC);
	CHECK(!ftruncate(r.gmem_fd, r.len));
	EQUAL(kuf_region_add(k, &r), 0);
	begin(GPA, KUF_REPLY_ZERO, -EILSEQ);
	EQUAL(kuf_access(k, GPA, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k), 0);
	EQUAL(source.nr_verified, 0);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	kuf_destroy(k);
	close(r.gmem_fd);
}

static const struct test tests[] = {
	TEST(replies), TEST(refused_data), TEST(refused_zeroes), TEST(fetched), TEST(not_asked),
	TEST(discarded), TEST(private_memory),
};

MAIN(tests)
