// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Rounds of serving: events, requests, replies, in the right order.
 */
#include "test.h"

/* A source whose replies the test makes up. */
static struct {
	struct kuf_request requests[256];
	unsigned int nr;
	struct kuf_reply replies[256];
	unsigned int first, last;
	int request_error, receive_error;
	int nested;
	struct kuf *k;
	unsigned int event_at;		/* when so many replies were given, */
	unsigned int asked_at;		/* and so many when it was asked for */
} src;

static int do_request(void *source, const struct kuf_request *request)
{
	(void)source;
	if (src.request_error)
		return src.request_error;
	src.requests[src.nr++ % 256] = *request;
	src.asked_at = src.first;
	return 0;
}

static void event(uint64_t gpa);

static int do_receive(void *source, struct kuf_reply *reply)
{
	struct kuf_service again = { .size = sizeof(again) };

	(void)source;
	if (src.k)
		src.nested = kuf_service(src.k, &again);
	if (src.receive_error)
		return src.receive_error;
	if (src.first == src.last)
		return -EAGAIN;
	*reply = src.replies[src.first++];
	if (src.event_at && src.first == src.event_at)
		event(GPA + 63 * PAGE);
	return 0;
}

static int do_pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
		      int *timeout_ms)
{
	(void)source;
	(void)timeout_ms;
	if (*used == nr)
		return -ENOSPC;
	fds[(*used)++] = (struct pollfd){ .fd = 77, .events = POLLOUT };
	return 0;
}

static const struct kuf_source_ops ops = {
	.size = sizeof(ops), .request = do_request, .receive = do_receive, .pollfds = do_pollfds,
};

static char page_data[64 * PAGE];

static void reply(uint64_t gpa, uint64_t pages, int type, int error)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		pattern(page_data + i * PAGE, gpa + i * PAGE);
	src.replies[src.last++] = (struct kuf_reply){
		.size = sizeof(struct kuf_reply), .gpa = gpa, .len = pages * PAGE,
		.data = page_data, .type = type, .error = error,
	};
}

/* The far end of what the library takes for the userfault fd. */
static int kvm_end;

static struct kuf *server(struct kuf_region *r)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	int ends[2];

	memset(&src, 0, sizeof(src));
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends));
	*r = new_region(k, GPA, 64, 0);
	EQUAL(kuf_set_source(k, &ops, NULL), 0);
	EQUAL(kuf_set_fd(k, ends[0]), 0);
	kvm_end = ends[1];
	return k;
}

static void end_server(struct kuf *k, struct kuf_region *r)
{
	close(k->uffd);
	if (kvm_end >= 0)
		close(kvm_end);
	kuf_destroy(k);
	free_region(r);
}

static void event(uint64_t gpa)
{
	struct kvm_userfault_event e = {
		.gpa = gpa, .size = PAGE, .flags = KVM_MEMORY_EXIT_FLAG_USERFAULT,
		.time_ns = kufi_now() - 5000000,
	};

	EQUAL(write(kvm_end, &e, sizeof(e)), sizeof(e));
}

static struct kuf_service serve(struct kuf *k, uint64_t budget, int want)
{
	struct kuf_service s = { .size = sizeof(s), .budget = budget };

	EQUAL(kuf_service(k, &s), want);
	return s;
}

static void fault_to_wake(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);
	struct kuf_service s;
	struct kuf_stats stats;
	struct mock_call c;

	event(GPA + 3 * PAGE);
	event(GPA + 3 * PAGE);
	serve(k, 0, 0);
	/* Asked for once, urgently. */
	EQUAL(src.nr, 1);
	EQUAL(src.requests[0].gpa, GPA + 3 * PAGE);
	EQUAL(src.requests[0].len, PAGE);
	EQUAL(src.requests[0].flags, KUF_REQUEST_URGENT);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 0);
	reply(GPA + 3 * PAGE, 1, KUF_REPLY_DATA, 0);
	s = serve(k, 0, 0);
	EQUAL(s.done, 1);
	EQUAL(s.more, 0);
	CHECK(is_pattern((char *)r.hva + 3 * PAGE, GPA + 3 * PAGE));
	EQUAL(bit_of(k, GPA + 3 * PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 1);
	EQUAL(c.range.gpa, GPA + 3 * PAGE);
	EQUAL(c.range.size, PAGE);
	/* An event for a page that is there, late: only woken. */
	event(GPA + 3 * PAGE);
	serve(k, 0, 0);
	EQUAL(src.nr, 1);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 2);
	stats = stats_of(k);
	EQUAL(stats.events, 3);
	EQUAL(stats.requests_urgent, 1);
	EQUAL(stats.installed, 1);
	/* The wait had lasted 5 ms when the event was read. */
	EQUAL(stats.latency_count, 1);
	CHECK(stats.latency_sum_ns >= 5000000);
	end_server(k, &r);
}

/* Each kind of state that an event can meet. */
static void events_in_states(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);
	struct kuf_service s;
	struct mock_call c;
	uint32_t old;

	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	memset(r.hva, 0x77, PAGE);
	event(GPA);
	s = serve(k, 0, 0);
	EQUAL(s.done, 1);
	CHECK(is_zero(r.hva));
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 1);

	/* Whoever fills it wakes. */
	EQUAL(kufi_page_claim(word_of(k, GPA + PAGE), 0, false), 0);
	event(GPA + PAGE);
	serve(k, 0, 0);
	EQUAL(src.nr, 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 1);
	EQUAL(kufi_page_settle(word_of(k, GPA + PAGE), 0, &old), 0);
	CHECK(old & KUFI_EVENT);

	/* A wake would only make KVM repeat it: the VMM is told. */
	EQUAL(kuf_poison(k, 0, GPA + 2 * PAGE, PAGE), -EOPNOTSUPP);
	event(GPA + 2 * PAGE);
	s = serve(k, 0, 0);
	EQUAL(s.poison_hit, 1);
	EQUAL(s.poison_gpa, GPA + 2 * PAGE);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 2);
	EQUAL(c.range.flags, KVM_USERFAULT_WAKE_POISON);
	EQUAL(stats_of(k).poison_hits, 1);
	EQUAL(serve(k, 0, 0).poison_hit, 0);
	/* Unless KVM may be told by this file descriptor. */
	mock.may_poison = 1;
	event(GPA + 2 * PAGE);
	EQUAL(serve(k, 0, 0).poison_hit, 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 3);
	EQUAL(c.range.flags, KVM_USERFAULT_WAKE_POISON);
	EQUAL(c.range.gpa, GPA + 2 * PAGE);
	EQUAL(c.range.size, PAGE);
	/* Until it is none any more. */
	EQUAL(kuf_unpoison(k, 0, GPA + 2 * PAGE, PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 4);
	EQUAL(c.range.flags, 0);
	EQUAL(c.range.gpa, GPA + 2 * PAGE);

	/* Not ours. */
	event(GPA - PAGE);
	serve(k, 0, 0);
	EQUAL(src.nr, 0);
	*word_of(k, GPA + 5 * PAGE) = 7;
	event(GPA + 5 * PAGE);
	serve(k, 0, -EUCLEAN);
	end_server(k, &r);
}

static void other_types(void)
{
	struct kvm_userfault_event e = { .gpa = GPA, .type = 9 };
	struct kuf_region r;
	struct kuf *k = server(&r);

	EQUAL(write(kvm_end, &e, sizeof(e)), sizeof(e));
	serve(k, 0, 0);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	end_server(k, &r);
}

static void replies(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);
	struct kuf_service s;

	/* Unasked for, and several pages; of what was discarded nothing comes back. */
	EQUAL(kuf_discard(k, 0, GPA + PAGE, PAGE), 0);
	reply(GPA, 4, KUF_REPLY_DATA, 0);
	reply(GPA + 8 * PAGE, 2, KUF_REPLY_ZERO, 0);
	EQUAL(kuf_discard(k, 0, GPA + 9 * PAGE, PAGE), 0);
	s = serve(k, 0, 0);
	EQUAL(s.done, 4);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(state_of(k, GPA + PAGE), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 9 * PAGE), KUF_DISCARDED);
	EQUAL(stats_of(k).skipped, 2);
	EQUAL(stats_of(k).zeroed, 1);

	/* Lost; but what is present is not lost. */
	reply(GPA, 1, KUF_REPLY_POISON, 0);
	reply(GPA + 12 * PAGE, 1, KUF_REPLY_POISON, 0);
	serve(k, 0, 0);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(state_of(k, GPA + 12 * PAGE), KUF_POISONED);
	end_server(k, &r);
}

/* What cannot be right is refused, and the rest goes on. */
static void bad_replies(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);

	reply(GPA + 1, 1, KUF_REPLY_DATA, 0);
	reply(GPA + 63 * PAGE, 2, KUF_REPLY_DATA, 0);
	reply(GPA, 0, KUF_REPLY_DATA, 0);
	reply(GPA, 1, 4, 0);
	reply(GPA, 1, KUF_REPLY_DATA, 0);
	src.replies[src.last - 1].data = NULL;
	src.replies[src.last++] = src.replies[0];
	src.replies[src.last - 1].gpa = GPA;
	src.replies[src.last - 1].as_id = 3;
	reply(GPA + PAGE, 1, KUF_REPLY_DATA, 0);
	serve(k, 0, -EBADMSG);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	EQUAL(state_of(k, GPA + PAGE), KUF_PRESENT);
	end_server(k, &r);
}

static void failed_replies(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);

	event(GPA);
	serve(k, 0, 0);
	reply(GPA, 1, KUF_REPLY_FAILED, -ENODATA);
	serve(k, 0, -ENODATA);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	EQUAL(stats_of(k).failed, 1);
	/* Not asked for again before somebody says so; then yes, and it is served. */
	serve(k, 0, 0);
	EQUAL(src.nr, 1);
	EQUAL(kuf_retry(k), 0);
	serve(k, 0, 0);
	EQUAL(src.nr, 2);
	reply(GPA, 1, KUF_REPLY_DATA, 0);
	serve(k, 0, 0);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 1);
	/* An error must not look like success. */
	reply(GPA + PAGE, 1, KUF_REPLY_FAILED, 0);
	serve(k, 0, -EIO);
	src.receive_error = -ECONNRESET;
	serve(k, 0, -ECONNRESET);
	src.receive_error = 0;
	src.request_error = -ENOTCONN;
	event(GPA + 7 * PAGE);
	serve(k, 0, -ENOTCONN);
	EQUAL(state_of(k, GPA + 7 * PAGE), KUF_ABSENT);
	src.request_error = 0;
	EQUAL(kuf_retry(k), 0);
	serve(k, 0, 0);
	EQUAL(state_of(k, GPA + 7 * PAGE), KUF_REQUESTED);
	end_server(k, &r);
}

static void no_room(void)
{
	struct pollfd fds[3];
	struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 3 };
	struct kuf_region r;
	struct kuf *k = server(&r);

	src.request_error = -EAGAIN;
	event(GPA);
	EQUAL(kuf_access(k, GPA + PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	serve(k, 0, 0);
	EQUAL(src.nr, 0);
	/* The source says when to try again, and then nothing is forgotten. */
	EQUAL(kuf_pollfds(k, &p), 0);
	EQUAL(p.timeout_ms, -1);
	src.request_error = 0;
	serve(k, 0, 0);
	EQUAL(src.nr, 2);
	end_server(k, &r);
}

/* Requests of device models, of this and of other processes. */
static void accesses(void)
{
	struct pollfd fds[3];
	struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 3 };
	struct kuf_region r;
	struct kuf *k = server(&r);
	struct pollfd *fd = p.fds;
	unsigned int i;

	EQUAL(kuf_pollfds(k, &p), 0);
	EQUAL(p.used, 3);
	EQUAL(p.timeout_ms, -1);
	EQUAL(p.fds[1].fd, k->uffd);
	EQUAL(p.fds[2].fd, 77);
	EQUAL(poll(fd, 2, 0), 0);
	EQUAL(kuf_access(k, GPA + 5 * PAGE, 10 * PAGE, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(poll(fd, 2, 0), 1);
	EQUAL(fd[0].revents, POLLIN);
	EQUAL(kuf_pollfds(k, &p), 0);
	EQUAL(p.timeout_ms, 0);
	/* The budget bounds a round, and what is left is not lost. */
	EQUAL(serve(k, 4, 0).more, 1);
	EQUAL(src.nr, 4);
	EQUAL(kuf_pollfds(k, &p), 0);
	EQUAL(p.timeout_ms, 0);
	EQUAL(serve(k, 0, 0).more, 0);
	EQUAL(src.nr, 10);
	for (i = 0; i < 10; i++)
		EQUAL(src.requests[i].gpa, GPA + (5 + i) * PAGE);
	EQUAL(poll(fd, 2, 0), 0);
	EQUAL(kuf_pollfds(k, &p), 0);
	EQUAL(p.timeout_ms, -1);
	p.nr = 2;
	EQUAL(kuf_pollfds(k, &p), -ENOSPC);
	p.nr = 1;
	EQUAL(kuf_pollfds(k, &p), -ENOSPC);
	end_server(k, &r);
}

/* Somebody needs a page while the replies of what is fetched ahead come in. */
static void urgent_overtakes(void)
{
	struct kuf_policy p = { .size = sizeof(p), .kind = KUF_EAGER, .depth = 32 };
	struct kuf_region r;
	struct kuf *k = server(&r);

	EQUAL(kuf_set_policy(k, &p), 0);
	serve(k, 0, 0);
	EQUAL(src.nr, 2);
	reply(GPA, 1, KUF_REPLY_DATA, 0);
	event(GPA + 20 * PAGE);
	serve(k, 0, 0);
	/* Already asked for, but not urgently; and before anything new. */
	EQUAL(src.requests[2].gpa, GPA + 20 * PAGE);
	EQUAL(src.requests[2].flags, KUF_REQUEST_URGENT);
	EQUAL(src.requests[3].flags, 0);
	EQUAL(src.requests[3].gpa, GPA + 32 * PAGE);
	end_server(k, &r);
}

/* Somebody needs a page while many replies are there: it does not wait for them all. */
static void looks_up_meanwhile(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);
	unsigned int i;

	for (i = 0; i < 40; i++)
		reply(GPA + i * PAGE, 1, KUF_REPLY_DATA, 0);
	src.event_at = 3;
	serve(k, 0, 0);
	EQUAL(src.nr, 1);
	CHECK(src.asked_at >= 3 && src.asked_at <= 11);
	end_server(k, &r);
}

static void one_at_a_time(void)
{
	struct kuf_service s = { .size = 1 };
	struct kuf_region r;
	struct kuf *k = server(&r);

	src.k = k;
	serve(k, 0, 0);
	EQUAL(src.nested, -EBUSY);
	src.k = NULL;
	EQUAL(kuf_service(k, &s), -EINVAL);
	end_server(k, &r);
}

static void end_of_fd(void)
{
	struct pollfd fds[3];
	struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 3 };
	struct kuf_region r;
	struct kuf *k = server(&r);

	close(kvm_end);
	kvm_end = -1;
	EQUAL(serve(k, 0, 0).end, 1);
	/* It would always be ready. */
	EQUAL(kuf_pollfds(k, &p), 0);
	EQUAL(p.used, 2);
	/* Device models are served on. */
	EQUAL(kuf_access(k, GPA, 1, 0, 0, NULL), -ETIMEDOUT);
	serve(k, 0, 0);
	EQUAL(src.nr, 1);
	end_server(k, &r);
}

/* What another process filled, whose waiters only this one can wake. */
static void wakes_for_others(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);
	struct mock_call c;

	kufi_need(k, kufi_region_find(k, 0, GPA), 6);
	EQUAL(kuf_install_zero(k, 0, GPA + 6 * PAGE, PAGE, NULL), 0);
	serve(k, 0, 0);
	EQUAL(mock_count(KVM_USERFAULT_WAKE, &c), 1);
	EQUAL(c.range.gpa, GPA + 6 * PAGE);
	end_server(k, &r);
}

/* Whoever has it look at pages that need nothing does not get more than a round. */
static void looks_cost(void)
{
	struct kuf_region r;
	struct kuf *k = server(&r);
	struct kufi_region *region = kufi_region_find(k, 0, GPA);
	int i;

	EQUAL(kuf_install_zero(k, 0, GPA, r.len, NULL), 0);
	for (i = 0; i < 64; i++)
		kufi_need(k, region, i);
	for (i = 1; i <= 4; i++) {
		EQUAL(serve(k, 16, 0).more, 1);
		EQUAL(mock_count(KVM_USERFAULT_WAKE, NULL), 16 * i);
		EQUAL(kufi_set_empty(&region->need), i == 4);
	}
	EQUAL(serve(k, 16, 0).more, 0);
	end_server(k, &r);
}

/* What was fetched ahead comes while KVM is told of poison, and finds no room for that. */
static struct kuf *taken;

static int late_ioctl(int fd, unsigned long request, void *arg)
{
	if (request != KVM_USERFAULT_POISON)
		return mock_ioctl(fd, request, arg);
	reply(GPA + 3 * PAGE, 1, KUF_REPLY_DATA, 0);
	serve(taken, 0, 0);
	EQUAL(state_of(taken, GPA + 3 * PAGE), KUF_TAKING);
	return -ENOSPC;
}

static void comes_while_taken(void)
{
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER };
	struct kuf_region r;
	struct kuf *k = server(&r);
	unsigned int i, asked = 0;

	taken = k;
	k->features |= KVM_USERFAULT_FEATURE_POISON;
	EQUAL(kuf_set_policy(k, &policy), 0);
	serve(k, 0, 0);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_REQUESTED);
	src.nr = 0;
	kufi_ioctl = late_ioctl;
	EQUAL(kuf_poison(k, 0, GPA + 3 * PAGE, PAGE), -ENOSPC);
	kufi_ioctl = mock_ioctl;
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_REQUESTED);
	serve(k, 0, 0);
	for (i = 0; i < src.nr; i++)
		asked += src.requests[i].gpa == GPA + 3 * PAGE;
	EQUAL(asked, 1);
	reply(GPA + 3 * PAGE, 1, KUF_REPLY_DATA, 0);
	serve(k, 0, 0);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_PRESENT);
	end_server(k, &r);
}

static const struct test tests[] = {
	TEST(fault_to_wake), TEST(events_in_states), TEST(other_types), TEST(replies),
	TEST(bad_replies), TEST(failed_replies), TEST(no_room), TEST(accesses),
	TEST(urgent_overtakes), TEST(looks_up_meanwhile),
	TEST(one_at_a_time), TEST(end_of_fd), TEST(wakes_for_others), TEST(looks_cost),
	TEST(comes_while_taken),
};

MAIN(tests)
