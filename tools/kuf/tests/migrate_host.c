// SPDX-License-Identifier: GPL-2.0
/*
 * Both sides of a migration, on any host, without KVM: what threads need is served, and
 * right; what goes wrong on purpose is noticed, and never ends with two owners.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"
#include "world.h"

#define TCP	"tcp:127.0.0.1:0"
#define UNIX	"unix:/tmp/kuf-migrate-host"

static struct world world;

static void report(bool ok, const char *name, const char *kind)
{
	if (!ok)
		printf("# said: %s# source %d, service %d, given up %d, resumed %d, end %d\n",
		       world_said, world.source_err, world.service_err, world.out.given_up,
		       world.resumed, world.ss.end);
	ktap_result(ok, "%s%s%s", name, *kind ? "-" : "", kind);
}

/*
 * Threads that need pages.
 */

struct guest {
	pthread_t thread;
	unsigned int nr, seed;
	unsigned int stride;	/* 0: any pages; else every so many, from @seed on */
	u64 waits_ns[512];
	unsigned int bad;
};

static void *touch_pages(void *arg)
{
	struct guest *g = arg;
	unsigned int i;
	u64 start, page;

	for (i = 0; i < g->nr; i++) {
		page = g->stride ? g->seed + i * g->stride : (unsigned int)rand_r(&g->seed);
		start = stream_now_ns();
		g->bad += !!world_touch(&world, page % WORLD_PAGES, WORLD_PATIENCE_MS);
		g->waits_ns[i] = stream_now_ns() - start;
	}
	return NULL;
}

static unsigned int run_guests(struct guest *guests, unsigned int nr, unsigned int touches,
			       unsigned int stride)
{
	unsigned int i, bad = 0;

	for (i = 0; i < nr; i++) {
		guests[i] = (struct guest){ .nr = touches, .seed = i + 1, .stride = stride };
		pthread_create(&guests[i].thread, NULL, touch_pages, &guests[i]);
	}
	for (i = 0; i < nr; i++) {
		pthread_join(guests[i].thread, NULL);
		bad += guests[i].bad;
	}
	return bad;
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* In microseconds, of those that waited at all. */
static u64 median(struct guest *g, unsigned int permille)
{
	unsigned int i, n = 0;

	for (i = 0; i < g->nr; i++) {
		if (g->waits_ns[i] > 5000)
			g->waits_ns[n++] = g->waits_ns[i];
	}
	qsort(g->waits_ns, n, sizeof(g->waits_ns[0]), compare);
	return n ? g->waits_ns[(u64)(n - 1) * permille / 1000] / 1000 : 0;
}

static void begin(struct world w)
{
	world = w;
	world_listen(&world);
}

/* All of memory, by background and demand. */
static void test_all(const char *address, const char *kind)
{
	static struct guest guests[4];
	u64 start, sum, wrong;
	unsigned int bad;
	int err;

	begin((struct world){ .listen = address, .policy = KUF_EAGER });
	start = stream_now_ns();
	err = world_start(&world);
	bad = err ? 1 : run_guests(guests, ARRAY_SIZE(guests), 400, 0);
	world_wait(&world, WORLD_PATIENCE_MS);
	printf("# %s: %llu ms, %llu demand, %llu background, %llu zero, %llu repeated\n", kind,
	       (unsigned long long)(stream_now_ns() - start) / 1000000,
	       (unsigned long long)world.ss.counts.demand_pages,
	       (unsigned long long)world.ss.counts.background_pages,
	       (unsigned long long)world.ss.counts.zero_pages,
	       (unsigned long long)world.ss.counts.repeated_pages);
	sum = world.ss.counts.demand_pages + world.ss.counts.background_pages +
	      world.ss.counts.zero_pages;
	wrong = err ? 1 : world_wrong(&world);
	err = err ?: world_present(&world) == WORLD_PAGES ? 0 : -EIO;
	err |= world_end(&world);
	report(!err && !bad && !wrong && sum == WORLD_PAGES && world.out.given_up &&
	       !world.resumed && world.ss.end == STREAM_SOURCE_COMPLETE &&
	       world.out.origin.done.kind == PROTO_DONE_ALL && world.out.origin.started_ns,
	       "all", kind);
}

/* Nobody needs more than a few pages, and then nobody is there. */
static void test_lazy(void)
{
	static struct guest guest;
	unsigned int bad;
	u64 present;
	int err;

	begin((struct world){ .listen = TCP });
	err = world_start(&world);
	bad = err ? 1 : run_guests(&guest, 1, 100, 0);
	present = world_present(&world);
	err |= world_end(&world);
	report(!err && !bad && present > 50 && present <= 100 &&
	       world.out.origin.done.kind == PROTO_DONE_ENDED, "lazy", "");
}

/*
 * Urgent pages while the background fills all the bandwidth that it may use, which is so
 * little that a page in its queue would come seconds later: after 32 others.
 */
static void test_overtake(void)
{
	static struct guest guest;
	u64 urgent, background;
	unsigned int bad;
	int err;

	begin((struct world){ .listen = TCP, .policy = KUF_EAGER, .bandwidth = 64 << 10 });
	err = world_start(&world);
	bad = err ? 1 : run_guests(&guest, 1, 100, 163);
	urgent = world.ss.counts.demand_pages;
	background = world.ss.counts.background_pages;
	printf("# beside %llu urgent pages %llu in the background, median %llu us, 99%% %llu us\n",
	       (unsigned long long)urgent, (unsigned long long)background,
	       (unsigned long long)median(&guest, 500), (unsigned long long)median(&guest, 990));
	err |= world_end(&world);
	report(!err && !bad && urgent > 20 && background < 8 * urgent, "overtake", "");
}

/* Late each, but not one after the other. */
static void test_latency(void)
{
	enum { THREADS = 16, PAGES_EACH = 20, LATENCY_MS = 20 };
	static struct guest guests[THREADS];
	u64 start, took, half;
	unsigned int bad;
	int err;

	begin((struct world){ .listen = UNIX, .latency_ns = LATENCY_MS * 1000000 });
	err = world_start(&world);
	start = stream_now_ns();
	bad = err ? 1 : run_guests(guests, THREADS, PAGES_EACH, THREADS);
	took = (stream_now_ns() - start) / 1000000;
	half = median(&guests[0], 500);
	err |= world_end(&world);
	printf("# %d ms of latency: %d threads, %d pages each: %llu ms, median %llu us\n",
	       LATENCY_MS, THREADS, PAGES_EACH, (unsigned long long)took, (unsigned long long)half);
	/* No two have the same page: one after the other takes at least that long. */
	report(!err && !bad && took >= PAGES_EACH * LATENCY_MS &&
	       took < THREADS * PAGES_EACH * LATENCY_MS && half >= LATENCY_MS * 1000,
	       "latency", "");
}

/* Until the destination may run any error leaves the VM where it is. */
static void test_early(enum world_error error, const char *kind)
{
	int err, source;

	begin((struct world){ .listen = TCP, .error = error });
	err = world_start(&world);
	source = world_end(&world);
	report(err && source && world.paused && world.resumed && !world.out.given_up &&
	       !world.in.went, "stays", kind);
}

static void test_nobody(void)
{
	begin((struct world){ .listen = TCP, .connect = "unix:/tmp/kuf-nobody" });
	world_start(&world);
	world_end(&world);
	report(world.source_err && !world.paused && !world.resumed, "nobody-listens", "");
}

/* The origin dies: the guest waits, and is not lied to. */
static void test_cut(bool urgent)
{
	int err, after = 0, before;
	u64 wrong;

	begin((struct world){ .listen = TCP });
	err = world_start(&world);
	before = err ?: world_touch(&world, 0, WORLD_PATIENCE_MS);
	shutdown(urgent ? world.in.urgent.fd : world.in.main.fd, SHUT_RDWR);
	world_wait(&world, WORLD_PATIENCE_MS);
	if (!err)
		after = world_touch(&world, 9, 100);
	wrong = world_wrong(&world);
	world_end(&world);
	report(!before && after == -ETIMEDOUT && !wrong && world.ss.end == STREAM_SOURCE_CUT &&
	       !world.service_err && world.source_err && world.out.given_up && !world.resumed &&
	       world_heard("the source of the VM is gone"), "cut", urgent ? "urgent" : "main");
}

/* Whoever needs that page waits; others are served. */
static void test_failed_page(void)
{
	int err, bad, after;

	begin((struct world){ .listen = TCP, .bad_page = 300 });
	err = world_start(&world);
	/* Until that is known; and still then. */
	bad = err ? 0 : world_touch(&world, 300, WORLD_PATIENCE_MS);
	after = err ? 0 : world_touch(&world, 300, 100);
	world_end(&world);
	report(!err && bad == -ETIMEDOUT && after == -ETIMEDOUT && world.service_err == -EIO &&
	       world_heard("the source cannot give the page at 0x12c000"), "failed-page", "");
}

/* It is a middle one, and its own source does not come up with a page: only that one is late. */
static void test_absent_there(void)
{
	bool ok;
	int i;

	/* However long it takes, nobody is to think that nothing comes any more. */
	begin((struct world){ .listen = TCP, .policy = KUF_EAGER });
	world.absent_page = 42;
	world.timeout_ms = 600000;
	ok = !world_start(&world) && world_touch(&world, 42, 100) == -ETIMEDOUT &&
	     !world_touch(&world, 41, 60000) && !world_touch(&world, 43, 60000);
	for (i = 0; ok && i < 12000 && world_present(&world) < WORLD_PAGES - 1; i++)
		usleep(5000);
	ok = ok && world_present(&world) == WORLD_PAGES - 1 &&
	     world_touch(&world, 42, 50) == -ETIMEDOUT;
	__atomic_store_n(&world.absent_page, 0, __ATOMIC_RELAXED);
	ok = ok && !world_touch(&world, 42, 60000);
	world_wait(&world, 60000);
	ok = ok && !world_wrong(&world) && world.ss.end == STREAM_SOURCE_COMPLETE;
	ok &= !world_end(&world);
	report(ok && !world.out.origin.counts.failed, "absent-there", "");
}

/* Whoever claims to have what is not even there is not believed. */
static void test_done_early(void)
{
	bool ok;

	begin((struct world){ .listen = TCP, .policy = KUF_EAGER, .absent_page = 42 });
	ok = !world_start(&world) &&
	     !kuf_install_zero(world.k, 0, 42 * PAGE_SIZE, PAGE_SIZE, NULL);
	world_wait(&world, 30000);
	world_end(&world);
	report(ok && world.source_err == -EBADMSG && !world.resumed &&
	       world_heard("a DONE, but pages did not come here yet"), "done-early", "");
}

/* It ends while it looks for a page: that is a cut, and no news of the page. */
static void test_source_ends(enum kuf_policy_kind policy, const char *kind)
{
	int touched;
	bool ok;

	begin((struct world){ .listen = TCP, .policy = policy, .bad_page = 300 });
	world.bad_error = -ECANCELED;
	ok = !world_start(&world);
	touched = ok ? world_touch(&world, 300, 20000) : 0;
	world_wait(&world, 5000);
	world_end(&world);
	report(touched == -ETIMEDOUT && !world.service_err && !world.resumed &&
	       world.source_err == -ECANCELED && world.ss.end == STREAM_SOURCE_CUT &&
	       world_heard("the source of the VM is gone") &&
	       !world_heard("cannot give the page"), "source-ends", kind);
}

/* Somebody still writes to the source's memory: after the page was sent. */
static void test_digest(void)
{
	int err;

	begin((struct world){ .listen = TCP, .policy = KUF_EAGER, .changing_page = 3 });
	err = world_start(&world);
	world_wait(&world, WORLD_PATIENCE_MS);
	world_end(&world);
	report(!err && world.source_err && world.service_err && !world.resumed &&
	       world_heard("is not what is here (digest)"), "digest", "");
}

static void test_break(enum break_kind fault, int want, const char *says)
{
	/* That a page does not come is told by time alone. */
	int timeout_ms = fault == BREAK_DROP ? 3000 : 0;
	int err, touched = 0;
	u64 wrong;

	begin((struct world){ .listen = UNIX, .fault = fault, .timeout_ms = timeout_ms });
	err = world_start(&world);
	/* A page with content. */
	if (!err)
		touched = world_touch(&world, 42, WORLD_PATIENCE_MS);
	world_wait(&world, WORLD_PATIENCE_MS);
	wrong = world_wrong(&world);
	world_end(&world);
	report(!err && touched && world.service_err == want && world_heard(says) &&
	       world.ss.counts.wrong_pages == 1 &&
	       wrong == (fault == BREAK_EARLY_CLEAR) && world.source_err, "break",
	       break_name(fault));
}

/*
 * Strangers.
 */

static int stranger(const char *bytes, size_t size)
{
	int fd = net_connect(&world.to, WORLD_PATIENCE_MS, -1);

	if (fd >= 0 && send(fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
		printf("# a stranger cannot speak\n");
	return fd;
}

/* Is told off, or just closed. */
static bool is_refused(int fd)
{
	char buf[512];
	ssize_t n;

	do {
		if (net_wait(fd, POLLIN, WORLD_PATIENCE_MS, -1))
			return false;
		n = recv(fd, buf, sizeof(buf), 0);
	} while (n > 0);
	close(fd);
	return true;
}

static int hello(enum proto_role role, const u8 *token, struct stream *s)
{
	struct proto_hello hello = { .required = PROTO_REQUIRED, .role = role, .epoch = 7 };
	int fd = net_connect(&world.to, WORLD_PATIENCE_MS, -1);

	memset(hello.session, 0xab, sizeof(hello.session));
	memcpy(hello.token, token, sizeof(hello.token));
	stream_open(s, fd, "test", 0, -1);
	return stream_send(s, PROTO_HELLO, &hello, sizeof(hello), WORLD_PATIENCE_MS);
}

static void test_strangers(void)
{
	static const char garbage[4096] = "GET / HTTP/1.0\r\n";
	static const u8 token[PROTO_ID_SIZE];
	int fds[3], refused = 0, err, i;
	struct stream urgent;

	begin((struct world){ .listen = TCP });
	net_parse(&world.to, world.to_text);
	fds[0] = stranger(garbage, 60);
	fds[1] = stranger(garbage, sizeof(garbage));
	fds[2] = stranger(garbage, 0);
	hello(PROTO_URGENT, token, &urgent);
	err = world_start(&world);
	for (i = 0; i < 3; i++)
		refused += fds[i] >= 0 && is_refused(fds[i]);
	refused += is_refused(dup(urgent.fd));
	stream_close(&urgent);
	err = err ?: world_touch(&world, 8, WORLD_PATIENCE_MS);
	err |= world_end(&world);
	report(!err && refused == 4 && world_heard("no HELLO") &&
	       world_heard("no VM is on its way here"), "strangers", "");
}

static void *accept_vm(void *arg)
{
	*(int *)arg = incoming_accept(&world.in, WORLD_PATIENCE_MS);
	return NULL;
}

/* The urgent connection is who knows what the main one was told. */
static void test_token(void)
{
	struct stream main, other, bad, good;
	struct stream_frame frame;
	struct proto_hello answer;
	pthread_t thread;
	int err = -1, ok;
	u8 token[PROTO_ID_SIZE] = {};

	begin((struct world){ .listen = UNIX });
	net_parse(&world.to, world.to_text);
	incoming_init(&world.in, world.listen_fd, -1);
	pthread_create(&thread, NULL, accept_vm, &err);
	ok = !hello(PROTO_MAIN, token, &main) &&
	     !stream_receive(&main, PROTO_HELLO, &frame, WORLD_PATIENCE_MS);
	memcpy(&answer, frame.data, sizeof(answer));
	ok &= !hello(PROTO_MAIN, token, &other) &&
	      stream_receive(&other, PROTO_HELLO, &frame, WORLD_PATIENCE_MS) == -ECONNABORTED;
	memcpy(token, answer.token, sizeof(token));
	token[PROTO_ID_SIZE - 1] ^= 1;
	ok &= !hello(PROTO_URGENT, token, &bad) &&
	      stream_receive(&bad, PROTO_HELLO, &frame, WORLD_PATIENCE_MS) == -ECONNABORTED;
	ok &= !hello(PROTO_URGENT, answer.token, &good) &&
	      !stream_receive(&good, PROTO_HELLO, &frame, WORLD_PATIENCE_MS);
	pthread_join(thread, NULL);
	stream_close(&main);
	stream_close(&other);
	stream_close(&bad);
	stream_close(&good);
	incoming_free(&world.in);
	net_unlisten(&world.at, world.listen_fd);
	report(ok && !err && world_heard("another VM is on its way") &&
	       world_heard("it does not belong to the VM"), "token", "");
}

#define TEN	"xxxxxxxxxx"

static const struct {
	const char *text;
	bool good;
} addresses[] = {
	{ "tcp:127.0.0.1:4444", true }, { "tcp:[::1]:0", true }, { "tcp:localhost:1", true },
	{ "tcp:::1:65535", true }, { "unix:a", true }, { "unix:", false }, { "tcp:", false },
	{ "tcp:127.0.0.1", false }, { "tcp:127.0.0.1:", false }, { "tcp:127.0.0.1:65536", false },
	{ "tcp:127.0.0.1:-1", false }, { "tcp:127.0.0.1:1x", false }, { "tcp::1", false },
	{ "tcp:example.org:1", false }, { "tcp:[]:1", false }, { "tcp:300.0.0.1:1", false },
	{ "127.0.0.1:1", false }, { "", false },
	{ "unix:" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "xxxxxxx", true },
	{ "unix:" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "xxxxxxxx", false },
};

static void test_addresses(void)
{
	struct net_address a;
	unsigned int i, bad = 0;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		if (!net_parse(&a, addresses[i].text) == addresses[i].good)
			continue;
		printf("# %s\n", addresses[i].text);
		bad++;
	}
	report(!bad, "addresses", "");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(25);
	test_addresses();
	test_all(TCP, "tcp");
	test_all("tcp:[::1]:0", "tcp6");
	test_all(UNIX, "unix");
	test_lazy();
	test_overtake();
	test_latency();
	test_early(WORLD_NO_SAVE, "no-state");
	test_early(WORLD_NO_LOAD, "not-loaded");
	test_early(WORLD_VANISH, "vanished");
	test_early(WORLD_NO_GIVE_UP, "not-given-up");
	test_nobody();
	test_cut(false);
	test_cut(true);
	test_failed_page();
	test_absent_there();
	test_done_early();
	test_source_ends(KUF_LAZY, "urgent");
	test_source_ends(KUF_EAGER, "main");
	test_digest();
	test_break(BREAK_EARLY_CLEAR, -EBADMSG, "was let go before its content came");
	test_break(BREAK_FLIP, -EBADMSG, "is not in memory as it was sent (CRC32C)");
	test_break(BREAK_DROP, -ETIMEDOUT, "its reply is lost, or its source waits for it");
	test_strangers();
	test_token();
	return ktap_end();
}
