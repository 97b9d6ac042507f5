// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The file source, and the policies.
 */
#include "test.h"

/* A file in which each page says where in the file it is. */
static int pattern_file(unsigned int pages)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	char page[PAGE];
	unsigned int i;

	for (i = 0; i < pages; i++) {
		pattern(page, i * PAGE);
		EQUAL(pwrite(fd, page, PAGE, i * PAGE), PAGE);
	}
	return fd;
}

static struct kuf_request ask(uint64_t gpa, uint64_t len, uint32_t flags)
{
	return (struct kuf_request){ .size = sizeof(struct kuf_request), .gpa = gpa,
				     .len = len, .flags = flags };
}

static void refused(void)
{
	struct kuf_file_range r[2] = {
		{ .gpa = GPA, .len = 4 * PAGE, .fd = 0 },
		{ .gpa = GPA + 3 * PAGE, .len = PAGE, .fd = 0 },
	};
	struct kuf_file_source *s;

	EQUAL(kuf_file_source_create(NULL, 1, 0, &s), -EINVAL);
	EQUAL(kuf_file_source_create(r, 0, 0, &s), -EINVAL);
	EQUAL(kuf_file_source_create(r, 1, 65537, &s), -EINVAL);
	EQUAL(kuf_file_source_create(r, 2, 0, &s), -ERANGE);
	r[1].as_id = 1;
	EQUAL(kuf_file_source_create(r, 2, 0, &s), 0);
	kuf_file_source_destroy(s);
	r[0].fd = -1;
	EQUAL(kuf_file_source_create(r, 1, 0, &s), -EINVAL);
	r[0].fd = 0;
	r[0].len = 0;
	EQUAL(kuf_file_source_create(r, 1, 0, &s), -EINVAL);
	r[0].len = -PAGE;
	EQUAL(kuf_file_source_create(r, 1, 0, &s), -EINVAL);
	r[0].len = PAGE;
	r[0].offset = 1ull << 63;
	EQUAL(kuf_file_source_create(r, 1, 0, &s), -EINVAL);
	kuf_file_source_destroy(NULL);
}

static void replies(void)
{
	int a = pattern_file(4), b = pattern_file(40);
	struct kuf_file_range ranges[2] = {
		{ .gpa = GPA, .len = 6 * PAGE, .fd = a },
		{ .gpa = GPA + 6 * PAGE, .len = 34 * PAGE, .fd = b, .offset = 6 * PAGE },
	};
	const struct kuf_source_ops *ops = kuf_file_source_ops();
	struct kuf_reply reply = { .size = sizeof(reply) };
	struct kuf_file_source *s;
	struct kuf_request q;
	char data[3 * PAGE];
	int timeout = -1;
	unsigned int used = 0;

	EQUAL(kuf_file_source_create(ranges, 2, 2, &s), 0);
	EQUAL(ops->receive(s, &reply), -EAGAIN);
	EQUAL(ops->pollfds(s, NULL, 0, &used, &timeout), 0);
	EQUAL(timeout, -1);

	/* What is urgent is first; there is no room for a third of a kind. */
	q = ask(GPA + 6 * PAGE, 20 * PAGE, 0);
	EQUAL(ops->request(s, &q), 0);
	q = ask(GPA + PAGE, PAGE, 0);
	EQUAL(ops->request(s, &q), 0);
	EQUAL(ops->request(s, &q), -EAGAIN);
	q = ask(GPA + 2 * PAGE, PAGE, KUF_REQUEST_URGENT);
	EQUAL(ops->request(s, &q), 0);
	EQUAL(ops->pollfds(s, NULL, 0, &used, &timeout), 0);
	EQUAL(timeout, 0);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.gpa, GPA + 2 * PAGE);
	EQUAL(reply.len, PAGE);
	EQUAL(reply.type, KUF_REPLY_DATA);
	CHECK(is_pattern(reply.data, 2 * PAGE));
	/* A long one is interrupted. */
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.gpa, GPA + 6 * PAGE);
	EQUAL(reply.len, 16 * PAGE);
	CHECK(is_pattern((char *)reply.data + 15 * PAGE, 21 * PAGE));
	EQUAL(ops->request(s, &q), 0);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.gpa, GPA + 2 * PAGE);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.gpa, GPA + 22 * PAGE);
	EQUAL(reply.len, 4 * PAGE);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.gpa, GPA + PAGE);
	EQUAL(ops->receive(s, &reply), -EAGAIN);

	/* Beyond the end of the file; beyond all ranges. */
	q = ask(GPA + 3 * PAGE, 2 * PAGE, 0);
	EQUAL(ops->request(s, &q), 0);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.type, KUF_REPLY_DATA);
	EQUAL(reply.len, PAGE);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.type, KUF_REPLY_FAILED);
	EQUAL(reply.gpa, GPA + 4 * PAGE);
	EQUAL(reply.error, -ENODATA);
	q = ask(GPA + 40 * PAGE, PAGE, 0);
	EQUAL(ops->request(s, &q), 0);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.error, -ENOENT);
	close(a);
	q = ask(GPA, PAGE, 0);
	EQUAL(ops->request(s, &q), 0);
	EQUAL(ops->receive(s, &reply), 0);
	EQUAL(reply.error, -EBADF);

	/* At once, over the border of two files. */
	q = ask(GPA + 6 * PAGE, 3 * PAGE, KUF_REQUEST_URGENT);
	EQUAL(ops->fetch(s, &q, data), 0);
	CHECK(is_pattern(data + 2 * PAGE, 8 * PAGE));
	kuf_file_source_destroy(s);
	close(b);
}

/* A source that only takes notes, and answers when it is told to. */
static struct {
	struct kuf_request requests[1024];
	unsigned int nr, room;
	int error;
} notes;

static int note_request(void *source, const struct kuf_request *request)
{
	(void)source;
	if (notes.error)
		return notes.error;
	if (!notes.room)
		return -EAGAIN;
	notes.room--;
	notes.requests[notes.nr++] = *request;
	return 0;
}

static int note_receive(void *source, struct kuf_reply *reply)
{
	(void)source;
	(void)reply;
	return -EAGAIN;
}

static const struct kuf_source_ops note_ops = {
	.size = sizeof(note_ops), .request = note_request, .receive = note_receive,
};

static struct kuf *with_notes(const struct kuf_policy *policy)
{
	struct kuf *k = new_kuf(ALL_FEATURES);

	memset(&notes, 0, sizeof(notes));
	notes.room = 1024;
	EQUAL(kuf_set_source(k, &note_ops, NULL), 0);
	EQUAL(kuf_set_policy(k, policy), 0);
	return k;
}

static int serve(struct kuf *k, uint64_t budget)
{
	struct kuf_service s = { .size = sizeof(s), .budget = budget };

	return kuf_service(k, &s);
}

static void bad_policies(void)
{
	struct kuf_trace_entry e[1];
	uint64_t nr = 2;
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_policy p = { .size = sizeof(p), .kind = 3 };
	struct kuf_source_ops ops = note_ops;

	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	p.kind = -1;
	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	p.kind = KUF_EAGER;
	p.depth = 257;
	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	p.depth = 0;
	p.flags = 2;
	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	p.flags = 0;
	p.kind = KUF_RECORDED;
	p.nr_replay = 1;
	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	p.nr_replay = 0;
	p.record = e;
	p.max_record = 1;
	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	p.nr_recorded = &nr;
	EQUAL(kuf_set_policy(k, &p), -EINVAL);
	nr = 0;
	EQUAL(kuf_set_policy(k, &p), 0);
	EQUAL(kuf_set_policy(k, NULL), -EINVAL);
	ops.receive = NULL;
	EQUAL(kuf_set_source(k, &ops, NULL), -EINVAL);
	ops.size = 0;
	EQUAL(kuf_set_source(k, &ops, NULL), -EINVAL);
	EQUAL(kuf_set_source(k, NULL, NULL), 0);
	kuf_destroy(k);
}

static void lazy(void)
{
	struct kuf_policy p = { .size = sizeof(p), .kind = KUF_LAZY };
	struct pollfd fds[2];
	struct kuf_poll poll = { .size = sizeof(poll), .fds = fds, .nr = 2 };
	struct kuf *k = with_notes(&p);
	struct kuf_region r = new_region(k, GPA, 64, 0);

	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 0);
	EQUAL(kuf_pollfds(k, &poll), 0);
	EQUAL(poll.timeout_ms, -1);
	kuf_destroy(k);
	free_region(&r);
}

/* By ascending address, no more outstanding than allowed, what is there is left out. */
static void eager(void)
{
	struct kuf_policy p = { .size = sizeof(p), .kind = KUF_EAGER, .depth = 24 };
	struct pollfd fds[2];
	struct kuf_poll poll = { .size = sizeof(poll), .fds = fds, .nr = 2 };
	struct kuf *k = with_notes(&p);
	struct kuf_region b = new_region(k, GPA + 64 * PAGE, 32, 0);
	struct kuf_region a = new_region(k, GPA, 32, 0);

	EQUAL(kuf_install_zero(k, 0, GPA + 20 * PAGE, 2 * PAGE, NULL), 0);
	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 3);
	EQUAL(notes.requests[0].gpa, GPA);
	EQUAL(notes.requests[0].len, 16 * PAGE);
	EQUAL(notes.requests[0].flags, 0);
	EQUAL(notes.requests[0].region, a.id);
	EQUAL(notes.requests[1].gpa, GPA + 16 * PAGE);
	EQUAL(notes.requests[1].len, 4 * PAGE);
	EQUAL(notes.requests[2].gpa, GPA + 22 * PAGE);
	EQUAL(notes.requests[2].len, 4 * PAGE);
	EQUAL(stats_of(k).requests_background, 24);
	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 3);
	EQUAL(kuf_pollfds(k, &poll), 0);
	EQUAL(poll.timeout_ms, -1);

	/* As answers come it goes on, into the next region, to the end. */
	EQUAL(kuf_install_zero(k, 0, GPA, 20 * PAGE, NULL), 0);
	EQUAL(kuf_pollfds(k, &poll), 0);
	EQUAL(poll.timeout_ms, 0);
	EQUAL(serve(k, 7), 0);
	EQUAL(notes.requests[3].gpa, GPA + 26 * PAGE);
	EQUAL(notes.requests[3].len, 6 * PAGE);
	EQUAL(notes.requests[4].gpa, b.gpa);
	EQUAL(notes.requests[4].len, PAGE);
	EQUAL(kuf_install_zero(k, 0, GPA, 32 * PAGE, NULL), 0);
	EQUAL(serve(k, 100), 0);
	EQUAL(kuf_install_zero(k, 0, b.gpa, 32 * PAGE, NULL), 0);
	EQUAL(serve(k, 100), 0);
	EQUAL(kuf_pollfds(k, &poll), 0);
	EQUAL(poll.timeout_ms, -1);
	kuf_destroy(k);
	free_region(&a);
	free_region(&b);
}

static void no_room(void)
{
	struct kuf_policy p = { .size = sizeof(p), .kind = KUF_EAGER };
	struct kuf *k = with_notes(&p);
	struct kuf_region r = new_region(k, GPA, 32, 0);

	notes.room = 1;
	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 1);
	EQUAL(state_of(k, GPA), KUF_REQUESTED);
	EQUAL(state_of(k, GPA + 16 * PAGE), KUF_ABSENT);
	notes.room = 9;
	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 2);
	EQUAL(notes.requests[1].gpa, GPA + 16 * PAGE);
	/* An error is passed on, and nothing is taken for requested. */
	EQUAL(kuf_install_zero(k, 0, GPA, 32 * PAGE, NULL), 0);
	kuf_destroy(k);
	free_region(&r);
	k = with_notes(&p);
	r = new_region(k, GPA, 32, 0);
	notes.error = -ECONNRESET;
	EQUAL(serve(k, 0), -ECONNRESET);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	kuf_destroy(k);
	free_region(&r);
}

static void recorded(void)
{
	struct kuf_trace_entry order[] = {
		{ .gpa = GPA + 9 * PAGE }, { .gpa = GPA + 2 * PAGE },
		{ .gpa = GPA + 99 * PAGE }, { .gpa = GPA + 2 * PAGE, .as_id = 1 },
		{ .gpa = GPA + 2 * PAGE }, { .gpa = GPA + 5 * PAGE },
	};
	struct kuf_trace_entry seen[2];
	uint64_t nr = 0;
	struct kuf_policy p = {
		.size = sizeof(p), .kind = KUF_RECORDED, .flags = KUF_POLICY_THEN_EAGER,
		.depth = 4, .replay = order, .nr_replay = 6, .record = seen, .max_record = 2,
		.nr_recorded = &nr,
	};
	struct kuf *k = with_notes(&p);
	struct kuf_region r = new_region(k, GPA, 16, 0);

	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 4);
	EQUAL(notes.requests[0].gpa, GPA + 9 * PAGE);
	EQUAL(notes.requests[1].gpa, GPA + 2 * PAGE);
	EQUAL(notes.requests[2].gpa, GPA + 5 * PAGE);
	EQUAL(notes.requests[3].gpa, GPA);
	EQUAL(nr, 0);
	/* What is needed is recorded, in order, as long as there is room. */
	EQUAL(kuf_access(k, GPA + 7 * PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k, 0), 0);
	EQUAL(kuf_access(k, GPA + 5 * PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k, 0), 0);
	EQUAL(kuf_access(k, GPA + 15 * PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(serve(k, 0), 0);
	EQUAL(nr, 2);
	EQUAL(seen[0].gpa, GPA + 7 * PAGE);
	EQUAL(seen[1].gpa, GPA + 5 * PAGE);
	EQUAL(seen[1].as_id, 0);
	EQUAL(notes.requests[5].gpa, GPA + 5 * PAGE);
	EQUAL(notes.requests[5].flags, KUF_REQUEST_URGENT);
	EQUAL(stats_of(k).requests_urgent, 3);

	/* Alone it ends with the recording. */
	p.flags = 0;
	kuf_destroy(k);
	free_region(&r);
	k = with_notes(&p);
	r = new_region(k, GPA, 16, 0);
	EQUAL(serve(k, 0), 0);
	EQUAL(notes.nr, 3);
	kuf_destroy(k);
	free_region(&r);
}

static const struct test tests[] = {
	TEST(refused), TEST(replies), TEST(bad_policies), TEST(lazy), TEST(eager), TEST(no_room),
	TEST(recorded),
};

MAIN(tests)
