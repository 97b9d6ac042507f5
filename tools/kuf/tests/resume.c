// SPDX-License-Identifier: GPL-2.0
/*
 * What a destination says that it has, when its source connects again: maps of absent and
 * poisoned pages.  Those that contradict themselves are refused, and nothing is lost.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"
#include "maps.h"
#include "random.h"
#include "world.h"

#define REAL	"unix:/tmp/kuf-resume"
#define FAKE	"unix:/tmp/kuf-resume-fake"
#define GIB	(1024ull << 20)

static struct world world;
static struct stream a, b;

static void open_two(struct stream *one, struct stream *other)
{
	int fds[2], size = 4 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)) {
		printf("Bail out! socketpair\n");
		exit(1);
	}
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	stream_open(one, fds[0], "one", 1, -1);
	stream_open(other, fds[1], "main", 1, -1);
	world_forget();
}

static void open_pair(void)
{
	open_two(&a, &b);
}

static void close_pair(void)
{
	stream_close(&a);
	stream_close(&b);
}

/* As it went in, with the gap below 4 GiB and without. */
static void test_sets(u64 size, const char *name)
{
	struct mem mem = { .size = size, .fd = -1 };
	u64 pages = size / PAGE_SIZE, page, n, sum;
	struct pageset in, out;
	unsigned int i, bad = 0;

	for (i = 0; i < 30; i++) {
		pageset_make(&in, pages);
		pageset_make(&out, pages);
		if (i == 1)
			pageset_add_all(&in);
		/* Runs, also those at both ends and around the gap. */
		for (n = 0; i > 1 && n < i * 100; n++) {
			page = next_random() % pages;
			if (n % 10 == 0)
				page = n % 20 ? 0 : pages - 1;
			if (n % 10 == 5)
				page = MEM_LOW_MAX / PAGE_SIZE - 2 + n % 4;
			for (sum = next_random() % 9; sum--; page++)
				pageset_add(&in, page);
		}
		open_pair();
		bad += !!maps_send(&in, &mem, &a, PROTO_ABSENT, 1000);
		bad += !!maps_receive(&out, &mem, &b, PROTO_ABSENT, in.count, 1000);
		bad += in.count != out.count || a.tx_sequence != b.rx_sequence;
		bad += !!memcmp(in.words, out.words, (pages + 63) / 64 * sizeof(u64));
		for (page = 0, sum = 0; pageset_next(&in, &page, &n); page += n)
			sum += n;
		bad += sum != in.count || (i == 1 && sum != pages);
		pageset_free(&in);
		pageset_free(&out);
		close_pair();
	}
	ktap_result(!bad, "sets-%s", name);
}

#define P	PAGE_SIZE

static const struct {
	const char *name, *says;
	u64 nr;			/* announced */
	struct proto_range ranges[4];
	u16 type;
	u32 cut;		/* bytes that are missing */
} bad_maps[] = {
	{ "beyond", "is not in memory", 9, { { 2 * GIB - P, 2 * P } } },
	{ "nowhere", "is not in memory", 9, { { 1ull << 50, P } } },
	{ "wraps", "is not in memory", 9, { { P, -P } } },
	{ "empty", "is not in memory", 9, { { P, 0 } } },
	{ "odd-address", "is not in memory", 9, { { P + 1, P } } },
	{ "odd-length", "is not in memory", 9, { { P, P + 1 } } },
	{ "unsorted", "not in order at 0x1000", 9, { { 4 * P, P }, { P, P } } },
	{ "overlap", "not in order at 0x2000", 9, { { P, 2 * P }, { 2 * P, P } } },
	{ "twice", "not in order at 0x1000", 9, { { P, P }, { P, P } } },
	{ "too-many", "more pages than", 3, { { P, 2 * P }, { 4 * P, 2 * P } } },
	{ "half-a-range", "bytes of ranges", 9, { { P, P }, { 4 * P, P } }, 0, 7 },
	{ "other-type", "POISONED instead of ABSENT", 9, { { P, P } }, PROTO_POISONED },
	{ "too-few", "waiting for ABSENT", 9, { { P, P } } },
};

static void test_bad_maps(void)
{
	struct mem mem = { .size = 2 * GIB, .fd = -1 };
	struct pageset set;
	unsigned int i, n;
	int err, want;

	for (i = 0; i < ARRAY_SIZE(bad_maps); i++) {
		for (n = 0; n < 4 && (bad_maps[i].ranges[n].gpa || bad_maps[i].ranges[n].len); n++)
			;
		pageset_make(&set, mem.size / PAGE_SIZE);
		open_pair();
		stream_send(&a, bad_maps[i].type ?: PROTO_ABSENT, bad_maps[i].ranges,
			    n * sizeof(struct proto_range) - bad_maps[i].cut, WORLD_PATIENCE_MS);
		err = maps_receive(&set, &mem, &b, PROTO_ABSENT, bad_maps[i].nr, 50);
		want = !strcmp(bad_maps[i].name, "too-few") ? -ETIMEDOUT : -EBADMSG;
		if (err != want)
			printf("# %d: %s", err, world_said);
		ktap_result(err == want && world_heard(bad_maps[i].says), "map-%s",
			    bad_maps[i].name);
		pageset_free(&set);
		close_pair();
	}
}

static void report(bool ok, const char *name)
{
	if (!ok)
		printf("# said: %s# source %d, service %d, phase %s, end %d\n", world_said,
		       world.source_err, world.service_err,
		       outgoing_phase_name(world.out.phase), world.ss.end);
	ktap_result(ok, "%s", name);
}

static void poison(u64 page)
{
	/* No KVM is to be told. */
	if (kuf_poison(world.k, 0, page * PAGE_SIZE, PAGE_SIZE) != -EOPNOTSUPP)
		printf("# page %llu was not poisoned\n", (unsigned long long)page);
}

/*
 * Both sides, until the connections are cut with some of memory at the destination: the
 * rest would take half a minute, before hurry().
 */
static int begin(const char *recover_at, unsigned int recovers)
{
	int err;

	world = (struct world){
		.listen = REAL, .recovers = recovers, .recover_at = recover_at,
		.policy = KUF_EAGER, .bandwidth = 1 << 20,
	};
	unlink(REAL + strlen("unix:"));
	world_listen(&world);
	err = world_start(&world);
	err = err ?: world_touch(&world, 2, WORLD_PATIENCE_MS);
	err = err ?: world_touch(&world, 5, WORLD_PATIENCE_MS);
	return err;
}

static void hurry(void)
{
	__atomic_store_n(&world.out.origin.bandwidth, 0, __ATOMIC_RELAXED);
}

static void cut(void)
{
	shutdown(world.in.main.fd, SHUT_RDWR);
	shutdown(world.in.urgent.fd, SHUT_RDWR);
}

static void wait_done(void)
{
	unsigned int ms = WORLD_PATIENCE_MS;

	while (!__atomic_load_n(&world.done, __ATOMIC_ACQUIRE) && ms--)
		usleep(1000);
}

/* Pages that are lost there are not had again, whatever became of them here. */
static void test_poison(void)
{
	const struct origin *o = &world.out.origin;
	enum kuf_state state;
	unsigned int ms;
	u64 sum;
	int err;

	err = begin(REAL, 3);
	poison(5);		/* came before */
	poison(16000);		/* did not come */
	poison(16001);
	cut();
	/* Said by the destination: it has the connections. */
	for (ms = WORLD_PATIENCE_MS;
	     !err && !world_heard("the source of the VM is there again"); ms--)
		err = ms ? usleep(1000) : -ETIMEDOUT;
	/* It takes them over. */
	for (ms = WORLD_PATIENCE_MS; !err && READ_ONCE(world.ss.end) != STREAM_SOURCE_SERVES; ms--)
		err = ms ? usleep(1000) : -ETIMEDOUT;
	poison(16200);		/* only told by DONE */
	hurry();
	err = err ?: world_touch(&world, 15000, WORLD_PATIENCE_MS);
	wait_done();
	kuf_page_state(world.k, 0, 16000 * PAGE_SIZE, &state);
	sum = world_present(&world);
	err = err ?: world_wrong(&world) ? -EILSEQ : 0;
	world_end(&world);
	printf("# %d, %llu present, %llu poisoned, %llu absent\n", err, (unsigned long long)sum,
	       (unsigned long long)o->poisoned.count, (unsigned long long)o->absent.count);
	report(!err && !world.source_err && world.out.phase == OUTGOING_DONE &&
	       world.ss.end == STREAM_SOURCE_COMPLETE && state == KUF_POISONED &&
	       sum == WORLD_PAGES - 4 && o->poisoned.count == 4 && o->absent.count == 0 &&
	       world_heard("3 poisoned") && !world_heard("nothing to compare"), "poison");
}

/* An origin alone: who asks for a page that is poisoned is told so. */
static struct stream its_main, its_urgent;

static void *serve_alone(void *arg)
{
	origin_serve(arg, &its_main, &its_urgent, -1);
	return NULL;
}

static int map(void *opaque, u64 gpa, u64 len, void **ptr)
{
	*ptr = (u8 *)opaque + gpa;
	return 0;
}

static int ask(struct stream *s, const struct proto_range *want, u64 *gpa, u64 *len, s32 *why)
{
	static const u16 types[] = { PROTO_ZERO, PROTO_FAILED, PROTO_ZERO };
	struct proto_failed failed;
	struct stream_frame f;
	int err, i;

	err = stream_send(s, PROTO_REQUEST, want, sizeof(*want), WORLD_PATIENCE_MS);
	for (i = 0; !err && i < 3; i++) {
		err = stream_receive(s, types[i], &f, WORLD_PATIENCE_MS);
		if (err)
			break;
		memcpy(&failed, f.data, f.length < sizeof(failed) ? f.length : sizeof(failed));
		gpa[i] = failed.gpa;
		len[i] = failed.len;
		*why = i == 1 ? failed.err : *why;
	}
	return err;
}

static void test_refused_page(void)
{
	static u8 area[16 * PAGE_SIZE];
	struct mem mem = { .size = sizeof(area), .area = area, .fd = -1 };
	struct origin o = { .mem = &mem, .map = map, .opaque = area };
	struct proto_range want = { 0, 8 * PAGE_SIZE };
	struct pageset absent, poisoned;
	struct stream main, urgent;
	u64 gpa[3] = {}, len[3] = {};
	pthread_t thread;
	s32 why = 0;
	int err;

	origin_begin(&o);
	pageset_make(&absent, 16);
	pageset_make(&poisoned, 16);
	pageset_add(&absent, 7);
	pageset_add(&poisoned, 3);
	pageset_add(&poisoned, 4);
	origin_resume(&o, &absent, &poisoned);
	open_two(&main, &its_main);
	open_two(&urgent, &its_urgent);
	pthread_create(&thread, NULL, serve_alone, &o);
	err = ask(&main, &want, gpa, len, &why);
	stream_close(&main);
	stream_close(&urgent);
	pthread_join(thread, NULL);
	stream_close(&its_main);
	stream_close(&its_urgent);
	ktap_result(!err && len[0] == 3 * PAGE_SIZE && gpa[1] == 3 * PAGE_SIZE &&
		    len[1] == 2 * PAGE_SIZE && why == -EHWPOISON && gpa[2] == 5 * PAGE_SIZE &&
		    o.absent.count == 0, "refused-page");
	origin_end(&o);
	pageset_free(&poisoned);
}

/* What somebody who listens says in place of the destination. */
static const struct lie {
	const char *name, *says;
	struct { u64 pages, absent, poisoned; u32 started, reserved; u64 epoch; } resume;
	struct proto_range absent[2], poisoned[2];
} lies[] = {
	{ "pages", "RESUME of another VM", { WORLD_PAGES - 1, 0, 0, 1, 0, 8 } },
	{ "epoch", "RESUME of another VM", { WORLD_PAGES, 0, 0, 1, 0, 7 } },
	{ "started", "RESUME of another VM", { WORLD_PAGES, 0, 0, 2, 0, 8 } },
	{ "reserved", "RESUME of another VM", { WORLD_PAGES, 0, 0, 1, 1, 8 } },
	{ "absent", "absent and 0 poisoned pages", { WORLD_PAGES, WORLD_PAGES + 1, 0, 1, 0, 8 } },
	{ "poisoned", "and 2 poisoned pages",
	  { WORLD_PAGES, WORLD_PAGES - 1, 2, 1, 0, 8 } },
	{ "huge", "poisoned pages of", { WORLD_PAGES, 2, -1, 1, 0, 8 } },
	{ "not-started", "absent and 0 poisoned pages", { WORLD_PAGES, 5, 0, 0, 0, 8 } },
	{ "sum", "more pages than", { WORLD_PAGES, 2, 0, 1, 0, 8 }, { { P, 3 * P } } },
	{ "order", "not in order", { WORLD_PAGES, 9, 0, 1, 0, 8 }, { { 2 * P, P }, { P, P } } },
	{ "outside", "is not in memory", { WORLD_PAGES, 9, 0, 1, 0, 8 },
	  { { WORLD_MEM, P } } },
	{ "both", "page 3 is absent and poisoned", { WORLD_PAGES, 2, 1, 1, 0, 8 },
	  { { 2 * P, 2 * P } }, { { 3 * P, P } } },
};

static void *recover(void *arg)
{
	struct net_address at;

	net_parse(&at, FAKE);
	*(int *)arg = outgoing_recover(&world.out, &at);
	return NULL;
}

static int hear_hello(int listen_fd, struct stream *s, enum proto_role role)
{
	struct stream_frame f;
	struct proto_hello hello;
	int err = net_wait(listen_fd, POLLIN, WORLD_PATIENCE_MS, -1);

	if (err)
		return err;
	stream_open(s, net_accept(listen_fd), "fake", 0, -1);
	err = stream_receive(s, PROTO_HELLO, &f, WORLD_PATIENCE_MS);
	if (err)
		return err;
	memcpy(&hello, f.data, sizeof(hello));
	memset(hello.token, 0x77, sizeof(hello.token));
	err = hello.role == role ? stream_send(s, PROTO_HELLO, &hello, sizeof(hello),
					       WORLD_PATIENCE_MS) : -1;
	s->epoch = 8;
	return err;
}

static void send_ranges(struct stream *s, u16 type, const struct proto_range *r)
{
	u32 nr = !!r[0].len + !!r[1].len;

	if (nr)
		stream_send(s, type, r, nr * sizeof(*r), WORLD_PATIENCE_MS);
}

/* It is refused, and says why; the destination itself is still accepted. */
static int lie(const struct lie *l, int listen_fd)
{
	struct proto_resume resume = {
		.pages = l->resume.pages, .absent = l->resume.absent,
		.poisoned = l->resume.poisoned, .started = l->resume.started,
		.reserved = l->resume.reserved, .epoch = l->resume.epoch,
	};
	struct stream main = { .fd = -1 }, urgent = { .fd = -1 };
	struct stream_frame f;
	pthread_t thread;
	int err, refused = 0;

	memset(resume.session, 0xab, sizeof(resume.session));
	world_forget();
	pthread_create(&thread, NULL, recover, &refused);
	err = hear_hello(listen_fd, &main, PROTO_MAIN_AGAIN);
	err = err ?: hear_hello(listen_fd, &urgent, PROTO_URGENT);
	err = err ?: stream_send(&main, PROTO_RESUME, &resume, sizeof(resume), WORLD_PATIENCE_MS);
	if (!err) {
		send_ranges(&main, PROTO_ABSENT, l->absent);
		send_ranges(&main, PROTO_POISONED, l->poisoned);
		err = stream_receive(&main, PROTO_GO, &f, WORLD_PATIENCE_MS);
		err = err == -ECONNABORTED ? 0 : -EIO;
	}
	stream_close(&main);
	stream_close(&urgent);
	pthread_join(thread, NULL);
	return err ?: refused == -EBADMSG && world.out.phase == OUTGOING_CUT &&
		      world_heard(l->says) && world_heard("the other side gives up") ? 0 : -EIO;
}

static void test_lies(void)
{
	struct net_address at;
	unsigned int i;
	int err, fd;

	err = begin(NULL, 0);
	cut();
	wait_done();
	net_parse(&at, FAKE);
	unlink(FAKE + strlen("unix:"));
	fd = net_listen(&at);
	for (i = 0; i < ARRAY_SIZE(lies); i++) {
		err = err ?: lie(&lies[i], fd);
		report(!err, lies[i].name);
		err = 0;
	}
	net_unlisten(&at, fd);
	/* All of it comes. */
	hurry();
	err = outgoing_recover(&world.out, &world.to);
	err = err ?: world_present(&world) == WORLD_PAGES && !world_wrong(&world) ? 0 : -EIO;
	world_end(&world);
	report(!err && world.out.phase == OUTGOING_DONE, "after-lies");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(2 + ARRAY_SIZE(bad_maps) + 2 + ARRAY_SIZE(lies) + 1);
	test_sets(64 << 20, "small");
	test_sets(5 * GIB, "gap");
	test_bad_maps();
	test_refused_page();
	test_poison();
	test_lies();
	return ktap_end();
}
