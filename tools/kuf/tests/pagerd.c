// SPDX-License-Identifier: GPL-2.0
/*
 * kuf pager, round by round: who is let in, what he may send, who gets how much of it, and
 * what is left when somebody goes.  In one process with the VMs, which have no KVM, so
 * that nothing depends on time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"
#include "control.h"
#include "fakevm.h"
#include "guest.h"
#include "packet.h"
#include "pagerd.h"
#include "saved.h"

#define SOCKET		"/tmp/kuf-pagerd-test"
#define FILE_NAME	"/tmp/kuf-pagerd-saved"
#define NOBODY		65534

static struct pagerd d;

static bool open_pager(u64 bandwidth, unsigned int max_vms)
{
	struct pagerd_options o = { .path = SOCKET, .bandwidth = bandwidth, .max_vms = max_vms };

	return !pagerd_open(&d, &o);
}

/* Without waiting, and some more than it takes. */
static void rounds(unsigned int n)
{
	while (n--)
		pagerd_round(&d, 0);
}

/*
 * A VM that speaks for itself: what it says can be wrong.
 */
struct client {
	struct fakevm f;
	struct kuf *k;
	int uffd, file, shared, socket;
	struct {
		struct packet_hello hello;
		u8 bytes[KUF_EXPORT_MAX_BYTES + 8];
	} packet;
	size_t size;
	int fds[256];
	unsigned int nr_fds;
	struct pager_shared *map;
};

static int sealed_file(u64 size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return ftruncate(fd, size) || fcntl(fd, F_ADD_SEALS, seals) ? -1 : fd;
}

static void connect_client(struct client *c)
{
	struct sockaddr_un address;

	c->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	control_address(&address, SOCKET);
	if (connect(c->socket, (struct sockaddr *)&address, sizeof(address)))
		perror(SOCKET);
}

/* What kuf restore would say. */
static bool new_client(struct client *c, unsigned int number)
{
	struct fakevm_options o = { .number = number, .backing = MEM_SHMEM };
	struct kuf_export ex = { .size = sizeof(ex) };

	memset(c, 0, sizeof(*c));
	if (!fakevm_create(&c->f, &o))
		return false;
	c->k = fakevm_context(&c->f);
	if (!c->k || kuf_fd_create(c->k, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK |
				   KVM_USERFAULT_FD_STALL, &c->uffd) ||
	    kuf_export(c->k, c->uffd, &ex))
		return false;
	c->file = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
	c->shared = sealed_file(pager_shared_size(false),
				F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
	c->map = mmap(NULL, pager_shared_size(false), PROT_READ | PROT_WRITE, MAP_SHARED, c->shared,
		      0);
	c->map->stats.size = sizeof(c->map->stats);
	c->size = sizeof(c->packet.hello) + ex.nr_bytes;
	packet_head_init(&c->packet.hello.head, PACKET_HELLO, c->size);
	c->packet.hello.mem_size = MIN_MEM;
	saved_session(c->packet.hello.session, number);
	c->packet.hello.export_size = ex.nr_bytes;
	memcpy(c->packet.bytes, ex.bytes, ex.nr_bytes);
	c->fds[0] = c->file;
	c->fds[1] = c->shared;
	memcpy(c->fds + 2, ex.fds, ex.nr_fds * sizeof(int));
	c->nr_fds = 2 + ex.nr_fds;
	c->packet.hello.nr_fds = c->nr_fds;
	connect_client(c);
	return true;
}

static void free_client(struct client *c)
{
	if (c->socket >= 0)
		close(c->socket);
	if (c->uffd >= 0)
		close(c->uffd);
	close(c->file);
	close(c->shared);
	munmap(c->map, pager_shared_size(false));
	fakevm_let_go(&c->f);
	kuf_destroy(c->k);
	fakevm_destroy(&c->f);
}

/* The next packet; 0: there is none, -1: the end, or no packet. */
static int heard(struct client *c, struct packet *packet)
{
	unsigned int nr_fds = 0;
	size_t len;
	int err;

	err = packet_receive(c->socket, packet, sizeof(*packet), &len, NULL, &nr_fds);
	if (err)
		return err == -EAGAIN ? 0 : -1;
	return packet_check(packet, len) ? -1 : (int)packet->head.type;
}

static void say_hello(struct client *c)
{
	int err = packet_send(c->socket, &c->packet, c->size, NULL, 0, NULL, 0);

	if (err)
		printf("# HELLO: %s\n", strerror(-err));
}

/* packet_send() has limits that others need not have. */
static void send_hello(struct client *c)
{
	char control[CMSG_SPACE(sizeof(c->fds))] __attribute__((aligned(8))) = {};
	struct iovec iov = { .iov_base = &c->packet, .iov_len = c->size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;

	if (!c->nr_fds) {
		say_hello(c);
		return;
	}
	msg.msg_control = control;
	msg.msg_controllen = CMSG_SPACE(c->nr_fds * sizeof(int));
	h = CMSG_FIRSTHDR(&msg);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(c->nr_fds * sizeof(int));
	memcpy(CMSG_DATA(h), c->fds, c->nr_fds * sizeof(int));
	if (sendmsg(c->socket, &msg, MSG_NOSIGNAL) < 0)
		perror("HELLO");
}

static bool serves(struct client *c)
{
	struct packet packet;

	send_hello(c);
	rounds(3);
	if (heard(c, &packet) != PACKET_READY || packet_say(c->socket, PACKET_GO, 0, NULL))
		return false;
	rounds(2);
	return !heard(c, &packet);
}

/* Asks, as a device that does not wait. */
static void need(struct client *c, u64 page, u64 nr)
{
	kuf_access(c->k, page * PAGE_SIZE, nr * PAGE_SIZE, 0, 0, NULL);
}

static u64 filled(const struct client *c)
{
	return c->map->stats.installed + c->map->stats.zeroed;
}

static u64 wrong_pages(struct client *c)
{
	u64 page, wrong = 0;

	for (page = 0; page < SAVED_PAGES; page++) {
		if (fakevm_present(&c->f, page))
			wrong += !saved_page_is(c->f.number, page,
						c->f.vm.mem.area + page * PAGE_SIZE);
	}
	return wrong;
}

/*
 * HELLO.
 */
static struct client one, two;

static void swap_fd(struct client *c, unsigned int i, int fd)
{
	/* For recvmsg() in the same process it is open as long as the message is there. */
	c->fds[i] = fd;
}

static int extra = -1;

static int set_extra(int fd)
{
	extra = fd;
	return fd;
}

static void bad_magic(struct client *c) { c->packet.hello.head.magic[0] ^= 1; }
static void bad_version(struct client *c) { c->packet.hello.head.version++; }
static void bad_type(struct client *c) { c->packet.hello.head.type = PACKET_GO; }
static void bad_size(struct client *c) { c->packet.hello.head.size++; }
static void bad_reserved(struct client *c) { c->packet.hello.head.reserved = 1; }
static void too_short(struct client *c)
{
	c->size = sizeof(c->packet.hello) - 4;
	c->packet.hello.head.size = c->size;
}

static void only_head(struct client *c)
{
	c->size = sizeof(c->packet.hello.head);
	c->packet.hello.head.size = c->size;
}

static void one_byte(struct client *c) { c->size = 1; }
static void cut_export(struct client *c)
{
	c->size -= 8;
	c->packet.hello.head.size = c->size;
}

static void long_export(struct client *c)
{
	c->size = sizeof(c->packet);
	c->packet.hello.head.size = c->size;
	c->packet.hello.export_size = KUF_EXPORT_MAX_BYTES + 8;
}

static void huge_export(struct client *c) { c->packet.hello.export_size = ~0u; }
static void no_fds(struct client *c) { c->nr_fds = 0; }
static void no_fds_said(struct client *c) { c->packet.hello.nr_fds = c->nr_fds = 0; }
static void fewer_fds(struct client *c) { c->packet.hello.nr_fds = --c->nr_fds; }
static void more_fds(struct client *c)
{
	while (c->nr_fds < 200)
		c->fds[c->nr_fds++] = c->file;
	c->packet.hello.nr_fds = c->nr_fds;
}

static void bad_policy(struct client *c) { c->packet.hello.policy = KUF_RECORDED + 1; }
static void bad_flags(struct client *c) { c->packet.hello.flags = BIT(9); }
static void bad_session(struct client *c) { c->packet.hello.session[3] ^= 1; }
static void bad_mem_size(struct client *c) { c->packet.hello.mem_size += PAGE_SIZE; }
static void file_directory(struct client *c)
{
	swap_fd(c, 0, set_extra(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
}

static void file_write_only(struct client *c)
{
	swap_fd(c, 0, set_extra(open(FILE_NAME, O_WRONLY | O_CLOEXEC)));
}

static void file_other(struct client *c)
{
	swap_fd(c, 0, set_extra(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)));
}

static void file_socket(struct client *c) { swap_fd(c, 0, c->socket); }
static void shared_not_sealed(struct client *c)
{
	swap_fd(c, 1, set_extra(sealed_file(pager_shared_size(false), F_SEAL_GROW)));
}

static void shared_small(struct client *c)
{
	swap_fd(c, 1, set_extra(sealed_file(8, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)));
}

static void shared_file(struct client *c) { swap_fd(c, 1, c->file); }
static void shared_no_record(struct client *c) { c->packet.hello.flags = HELLO_RECORD; }
static void replay_missing(struct client *c)
{
	/* The bell is taken for it. */
	c->packet.hello.policy = KUF_RECORDED;
	c->packet.hello.flags = HELLO_REPLAY;
	c->packet.hello.nr_replay = 5;
}

static void uffd_regular(struct client *c) { swap_fd(c, 3, c->file); }
static void uffd_blocks(struct client *c)
{
	int ends[2];

	if (!pipe2(ends, O_CLOEXEC))
		close(ends[1]);
	swap_fd(c, 3, set_extra(ends[0]));
}

static void bell_file(struct client *c) { swap_fd(c, 2, c->file); }
static void state_file(struct client *c) { swap_fd(c, 4, c->file); }
static void memory_short(struct client *c)
{
	swap_fd(c, 5, set_extra(sealed_file(PAGE_SIZE, 0)));
}

static void export_flipped(struct client *c) { c->packet.bytes[40] ^= 1; }

static const struct {
	const char *name;
	void (*spoil)(struct client *c);
	const char *says;
} hellos[] = {
	{ "magic", bad_magic, "no HELLO of kuf restore's" },
	{ "version", bad_version, "version 2, this pager version 1: use the same kuf" },
	{ "type", bad_type, "no HELLO" },
	{ "size", bad_size, "no HELLO" },
	{ "reserved", bad_reserved, "no HELLO" },
	{ "too-short", too_short, "no HELLO" },
	{ "only-head", only_head, "no HELLO" },
	{ "one-byte", one_byte, "no HELLO" },
	{ "export-cut", cut_export, "bytes of HELLO instead of" },
	{ "export-long", long_export, "too long" },
	{ "export-huge", huge_export, "bytes of HELLO instead of" },
	{ "no-fds", no_fds, "0 files came of 6" },
	{ "no-fds-said", no_fds_said, "0 files came of 0" },
	{ "fewer-fds", fewer_fds, "memory and page states cannot be had" },
	{ "more-fds", more_fds, "too many files" },
	{ "policy", bad_policy, "policy 3" },
	{ "flags", bad_flags, "flags 0x200" },
	{ "session", bad_session, "another VM's" },
	{ "mem-size", bad_mem_size, "another VM's" },
	{ "file-directory", file_directory, "no saved VM" },
	{ "file-write-only", file_write_only, "cannot be read" },
	{ "file-other", file_other, "no saved VM" },
	{ "file-socket", file_socket, "no saved VM" },
	{ "shared-not-sealed", shared_not_sealed, "no sealed file" },
	{ "shared-small", shared_small, "no sealed file" },
	{ "shared-file", shared_file, "no sealed file" },
	{ "shared-no-record", shared_no_record, "no sealed file" },
	{ "replay-missing", replay_missing, "the recording is no sealed file of 5 pages" },
	{ "uffd-regular", uffd_regular, "no userfault fd" },
	{ "uffd-blocks", uffd_blocks, "no userfault fd, or one that blocks" },
	{ "bell-file", bell_file, "memory and page states cannot be had" },
	{ "state-file", state_file, "memory and page states cannot be had" },
	{ "memory-short", memory_short, "memory and page states cannot be had" },
	{ "export-flipped", export_flipped, "memory and page states cannot be had" },
};

static void test_hello(size_t i)
{
	struct packet packet = {};
	int before, said, end;
	bool ok;

	ok = new_client(&one, 1);
	before = fake_open_fds();
	extra = -1;
	hellos[i].spoil(&one);
	send_hello(&one);
	rounds(3);
	said = heard(&one, &packet);
	end = heard(&one, &(struct packet){});
	if (extra >= 0)
		close(extra);
	ok = ok && said == PACKET_REFUSED && end == -1 && packet.err < 0 &&
	     strstr(packet.text, hellos[i].says) && fake_open_fds() == before;
	if (!ok)
		printf("# %d '%s' (%d), then %d; %d files instead of %d\n", said, packet.text,
		       packet.err, end, fake_open_fds(), before);
	free_client(&one);
	ktap_result(ok, "hello-%s", hellos[i].name);
}

/* Who says nothing, or goes, or talks nonsense, is in nobody's way for long. */
static void test_lobby(void)
{
	int before = fake_open_fds(), others[2 * PAGERD_LOBBY];
	struct packet packet;
	unsigned int i;
	bool ok = true;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		connect_client(&two);
		others[i] = two.socket;
		rounds(1);
	}
	rounds(2);
	/* Their time is over. */
	for (i = 0; i < d.nr_slots; i++)
		d.vms[i].came_ns = 0;
	rounds(2);
	for (i = 0; i < d.nr_slots; i++)
		ok = ok && d.vms[i].state == PAGERD_FREE;
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		two.socket = others[i];
		ok = ok && heard(&two, &packet) < 0;
		close(others[i]);
	}
	ktap_result(ok && fake_open_fds() == before, "lobby-silent");

	ok = new_client(&one, 1);
	send_hello(&one);
	rounds(3);
	ok = ok && heard(&one, &packet) == PACKET_READY;
	/* READY, and no GO: it is not served. */
	need(&one, 3, 1);
	rounds(5);
	ok = ok && !fakevm_present(&one.f, 3);
	for (i = 0; i < d.nr_slots; i++)
		d.vms[i].came_ns = 0;
	rounds(2);
	ok = ok && heard(&one, &packet) == -1;
	free_client(&one);
	rounds(2);
	ktap_result(ok && fake_open_fds() == before, "lobby-no-go");

	ok = new_client(&one, 1) && serves(&one);
	ok = ok && !packet_say(one.socket, PACKET_GO, 0, NULL);
	rounds(2);
	ok = ok && heard(&one, &packet) == PACKET_FAILED && heard(&one, &packet) == -1;
	free_client(&one);
	ok = ok && new_client(&one, 1) && serves(&one) && send(one.socket, "x", 1, 0) == 1;
	rounds(2);
	ok = ok && heard(&one, &packet) == PACKET_FAILED && heard(&one, &packet) == -1;
	free_client(&one);
	rounds(2);
	ktap_result(ok && fake_open_fds() == before, "nonsense");
}

static void test_too_many(void)
{
	struct packet packet;
	bool ok;

	pagerd_close(&d);
	ok = open_pager(0, 1) && new_client(&one, 1) && serves(&one) && new_client(&two, 1);
	send_hello(&two);
	rounds(3);
	ok = ok && heard(&two, &packet) == PACKET_REFUSED && packet.err == -EBUSY &&
	     strstr(packet.text, "there are 1 VMs already (kuf pager --max-vms)");
	need(&one, 7, 1);
	rounds(2);
	ok = ok && fakevm_present(&one.f, 7);
	/* There is room again. */
	free_client(&one);
	free_client(&two);
	rounds(2);
	ok = ok && new_client(&one, 1) && serves(&one);
	free_client(&one);
	pagerd_close(&d);
	ktap_result(ok && open_pager(0, 8), "too-many");
}

/* Another user, who could open the socket. */
static void test_other_user(void)
{
	struct packet packet = {};
	int status = 0;
	pid_t pid;
	bool ok;

	if (geteuid()) {
		ktap_skip("not root", "other-user");
		return;
	}
	ok = new_client(&one, 1) && !chmod(SOCKET, 0666);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(one.socket);
		if (setuid(NOBODY))
			_exit(1);
		connect_client(&one);
		send_hello(&one);
		while (!heard(&one, &packet))
			usleep(1000);
		_exit(packet.head.type != PACKET_REFUSED || packet.err != -EPERM ||
		      !strstr(packet.text, "user 65534 is neither root nor this pager's (0)"));
	}
	while (!waitpid(pid, &status, WNOHANG))
		pagerd_round(&d, 10);
	free_client(&one);
	rounds(2);
	ktap_result(ok && !status, "other-user");
}

static void test_listen(void)
{
	struct pagerd_options o = { .path = SOCKET, .max_vms = 1 };
	struct pagerd other;
	struct stat st;
	bool ok;

	ok = !stat(SOCKET, &st) && (st.st_mode & 0777) == 0600;
	fake_said_reset();
	ok = pagerd_open(&other, &o) == -EADDRINUSE && strstr(fake_said(), "somebody else listens") && ok;
	pagerd_close(&other);
	/* It is not taken away from the one that is there. */
	ok = ok && !stat(SOCKET, &st);
	o.path = "/tmp";
	ok = pagerd_open(&other, &o) == -EEXIST && ok;
	pagerd_close(&other);
	o.path = "/none/at/all";
	ok = pagerd_open(&other, &o) < 0 && ok;
	pagerd_close(&other);
	ktap_result(ok, "listen");
}

/*
 * Fairness.
 */

/* @c has all of its memory fetched, whether or not it is waited for. */
static bool eager(struct client *c, unsigned int number)
{
	bool ok = new_client(c, number);

	c->packet.hello.policy = KUF_EAGER;
	return ok && serves(c);
}

/*
 * One VM has everything fetched, or asks for all of it at once; the other one needs a page
 * now and then, and gets it before others got more than the header says.
 */
static void test_fairness(bool urgent)
{
	u64 before, between, most = 0, page;
	unsigned int i, waits = 0;
	bool ok;

	ok = urgent ? new_client(&one, 1) && serves(&one) : eager(&one, 1);
	ok = ok && new_client(&two, 1) && serves(&two);
	if (urgent)
		need(&one, 0, SAVED_PAGES);
	for (i = 0; ok && filled(&one) < SAVED_PAGES - 4 * PAGERD_URGENT; i++) {
		/* Both kinds of need, and different moments. */
		page = 97 * i % SAVED_PAGES;
		rounds(i % 3);
		if (fakevm_present(&two.f, page))
			break;
		need(&two, page, 1);
		before = filled(&one);
		while (!fakevm_present(&two.f, page) && waits < 1000000) {
			rounds(1);
			waits++;
		}
		between = filled(&one) - before;
		most = between > most ? between : most;
	}
	ok = ok && i > 50 && most <= PAGERD_CHUNK + PAGERD_URGENT && waits <= 2 * i &&
	     !wrong_pages(&one) && !wrong_pages(&two);
	printf("# %u pages, each before %llu others, after %.2f rounds\n", i,
	       (unsigned long long)most, i ? (double)waits / i : 0.0);
	free_client(&one);
	free_client(&two);
	rounds(2);
	ktap_result(ok, "fairness-%s", urgent ? "urgent" : "background");
}

/* Who needs pages all the time does not keep others from what nobody waits for, nor himself. */
static void test_fairness_background(void)
{
	u64 page = 0, a, b;
	unsigned int i;
	bool ok;

	ok = eager(&one, 1) && eager(&two, 1);
	a = filled(&one);
	b = filled(&two);
	for (i = 0; i < 200; i++)
		rounds(1);
	a = filled(&one) - a;
	b = filled(&two) - b;
	printf("# %llu and %llu pages that nobody waited for\n", (unsigned long long)a,
	       (unsigned long long)b);
	ok = ok && a > 500 && b > 500 && a - b + 2 * PAGERD_CHUNK <= 4 * PAGERD_CHUNK;
	ktap_result(ok, "shared-evenly");

	/* One of them has something urgent in each round. */
	b = filled(&two);
	for (i = 0; i < 200; i++) {
		while (page < SAVED_PAGES && fakevm_present(&one.f, SAVED_PAGES - 1 - page))
			page++;
		need(&one, SAVED_PAGES - 1 - page, 1);
		rounds(1);
	}
	b = filled(&two) - b;
	printf("# %llu pages beside one who always waits\n", (unsigned long long)b);
	ok = b > 500 && !wrong_pages(&one) && !wrong_pages(&two);
	free_client(&one);
	free_client(&two);
	rounds(2);
	ktap_result(ok, "no-starvation");
}

static void test_bucket(void)
{
	u64 now = 1000, taken = 0, ns;
	struct bucket b;
	bool ok = true;
	int i;

	bucket_init(&b, 0, now);
	ok = bucket_ready(&b, now) && !bucket_wait_ms(&b, now);
	/* Odd numbers, and small steps: nothing is lost by rounding, and no more is given. */
	bucket_init(&b, 1234567, now);
	for (i = 0; i < 3000000; i++) {
		now += 333;
		if (!bucket_ready(&b, now))
			continue;
		bucket_take(&b, 5000);
		taken += 5000;
	}
	ns = 333ull * 3000000;
	ok = ok && taken <= b.burst + 1234567 * ns / 1000000000 + 5000 &&
	     taken + 5000 >= 1234567 * ns / 1000000000;
	/* A long pause is worth a burst. */
	now += 3600 * 1000000000ull;
	for (taken = 0; bucket_ready(&b, now); taken += 4096)
		bucket_take(&b, 4096);
	ok = ok && taken <= b.burst + 4096;
	i = bucket_wait_ms(&b, now);
	ok = ok && i > 0 && i <= 1000 && bucket_ready(&b, now + i * 1000000ull);
	ktap_result(ok, "bucket");
}

/* Of what nobody waits for; the rest is not held up. */
static void test_bandwidth(void)
{
	const u64 rate = 8 << 20;
	u64 begin, ns, bytes, page = SAVED_PAGES - 1;
	bool ok;

	pagerd_close(&d);
	ok = open_pager(rate, 8);
	begin = pager_now();
	ok = ok && eager(&one, 1) && eager(&two, 1);
	while (pager_now() - begin < 1000000000)
		pagerd_round(&d, 100);
	/* It is measured after it was served, so this can only be too long. */
	bytes = (filled(&one) + filled(&two)) * PAGE_SIZE;
	ns = pager_now() - begin;
	printf("# %llu bytes in %llu ms, at %llu a second\n", (unsigned long long)bytes,
	       (unsigned long long)ns / 1000000, (unsigned long long)rate);
	ok = ok && bytes <= d.bucket.burst + (u64)((double)rate * ns / 1e9) + IMAGE_BUFFER &&
	     bytes >= d.bucket.burst;
	/* All is spent. */
	rounds(10);
	need(&one, page, 1);
	rounds(2);
	ok = ok && fakevm_present(&one.f, page) && !wrong_pages(&one) && !wrong_pages(&two);
	free_client(&one);
	free_client(&two);
	pagerd_close(&d);
	ktap_result(ok && open_pager(0, 8), "bandwidth");
}

/*
 * VMs that do harm to themselves.
 */

/* Its memory is cut off: the pager drops it, and serves the other one. */
static void test_sigbus(void)
{
	struct packet packet;
	bool ok;

	ok = new_client(&one, 1) && serves(&one) && new_client(&two, 1) && serves(&two) &&
	     !ftruncate(one.f.vm.mem.fd, 16 * PAGE_SIZE);
	need(&one, 5, 1);
	rounds(2);
	ok = ok && fakevm_present(&one.f, 5) && !heard(&one, &packet);
	need(&one, 100, 1);
	need(&two, 100, 1);
	rounds(3);
	ok = ok && heard(&one, &packet) == PACKET_FAILED && heard(&one, &packet) == -1 &&
	     fakevm_present(&two.f, 100) && !wrong_pages(&two);
	/* Again, as the signal must not stay blocked. */
	if (ftruncate(two.f.vm.mem.fd, 0))
		ok = false;
	need(&two, 101, 1);
	rounds(3);
	ok = ok && heard(&two, &packet) == PACKET_FAILED;
	free_client(&one);
	free_client(&two);
	ktap_result(ok, "memory-taken-away");
}

static void flip(u64 page)
{
	off_t at = saved_page_at(FILE_NAME, page) + 77;
	int fd = open(FILE_NAME, O_RDWR);
	u8 byte = 0;

	if (pread(fd, &byte, 1, at) == 1) {
		byte ^= 0x10;
		if (pwrite(fd, &byte, 1, at) != 1)
			perror(FILE_NAME);
	}
	close(fd);
}

static void test_damaged(void)
{
	struct packet packet;
	bool ok;

	flip(1234);
	ok = new_client(&one, 1) && serves(&one) && new_client(&two, 1) && serves(&two);
	need(&one, 1233, 1);
	rounds(2);
	ok = ok && fakevm_present(&one.f, 1233);
	fake_said_reset();
	need(&one, 1234, 1);
	need(&two, 1235, 1);
	rounds(3);
	ok = ok && heard(&one, &packet) == PACKET_FAILED && packet.err == -EBADMSG &&
	     strstr(fake_said(), "offset 0x4d2000 is damaged (CRC32C)") &&
	     !fakevm_present(&one.f, 1234) && fakevm_present(&two.f, 1235);
	flip(1234);
	free_client(&one);
	free_client(&two);
	rounds(2);
	ktap_result(ok, "damaged");
}

/* It says so, and has told all that it did; others may come to the same socket. */
static void test_close(void)
{
	struct packet packet;
	int before;
	u64 first;
	bool ok;

	ok = eager(&one, 1);
	before = fake_open_fds();
	rounds(20);
	pagerd_close(&d);
	first = filled(&one);
	ok = ok && heard(&one, &packet) == PACKET_BYE && heard(&one, &packet) == -1 &&
	     first > 100 && access(SOCKET, F_OK);
	ok = ok && fake_open_fds() < before && open_pager(0, 8);
	/* The same VM, to another one; what was asked for of the first is asked again. */
	ok = ok && !kuf_recover(one.k, 1);
	close(one.socket);
	connect_client(&one);
	ok = ok && serves(&one);
	while (ok && first + filled(&one) < SAVED_PAGES && !heard(&one, &packet))
		rounds(1);
	ok = ok && !packet_say(one.socket, PACKET_END, 0, NULL);
	rounds(2);
	ok = ok && heard(&one, &packet) == PACKET_ENDED && heard(&one, &packet) == -1 &&
	     !wrong_pages(&one);
	free_client(&one);
	ktap_result(ok, "close");
}

struct toucher {
	pthread_t thread;
	u64 page;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	fakevm_touch(&one.f, 0, t->page);
	return NULL;
}

/*
 * The VMM kept the userfault fd, and the pager died with an event that nobody else was
 * told of: its successor on the same fd has to have it repeated.
 */
static void test_same_fd(void)
{
	struct kuf_export ex = { .size = sizeof(ex) };
	struct kvm_userfault_event event;
	struct toucher t = { .page = 4711 };
	struct packet packet;
	bool ok;

	ok = new_client(&one, 1) && !pthread_create(&t.thread, NULL, touch, &t);
	while (ok && read(one.uffd, &event, sizeof(event)) < 0)
		usleep(100);
	ok = ok && event.gpa == t.page * PAGE_SIZE && serves(&one);
	rounds(20);
	ok = ok && !fakevm_present(&one.f, t.page);
	close(one.socket);
	rounds(2);
	/* Number 1 is dead; 2 says so. */
	ok = ok && !kuf_export(one.k, one.uffd, &ex) && ex.peer == 2;
	memcpy(one.packet.bytes, ex.bytes, ex.nr_bytes);
	one.packet.hello.flags = HELLO_SAME_FD;
	one.packet.hello.dead = 1;
	connect_client(&one);
	ok = ok && serves(&one);
	while (ok && !fakevm_present(&one.f, t.page) && !heard(&one, &packet))
		pagerd_round(&d, 10);
	fakevm_let_go(&one.f);
	pthread_join(t.thread, NULL);
	ok = ok && fakevm_present(&one.f, t.page) && !wrong_pages(&one);
	/* Nobody takes himself over. */
	close(one.socket);
	one.packet.hello.dead = 2;
	connect_client(&one);
	send_hello(&one);
	rounds(3);
	ok = ok && heard(&one, &packet) == PACKET_READY && !packet_say(one.socket, PACKET_GO, 0, NULL);
	rounds(2);
	ok = ok && heard(&one, &packet) == PACKET_FAILED;
	free_client(&one);
	rounds(2);
	ktap_result(ok, "same-fd");
}

int main(int argc, char **argv)
{
	bool fairness = argc == 2 && !strcmp(argv[1], "fairness");
	size_t i;

	unlink(SOCKET);
	if (!saved_make(FILE_NAME, 1) || !open_pager(0, 8)) {
		printf("Bail out! %s\n", fake_said());
		return 1;
	}
	ktap_plan(fairness ? 4 : ARRAY_SIZE(hellos) + 16);
	test_fairness(false);
	test_fairness(true);
	test_fairness_background();
	if (fairness)
		goto out;
	for (i = 0; i < ARRAY_SIZE(hellos); i++)
		test_hello(i);
	test_lobby();
	test_too_many();
	test_listen();
	test_other_user();
	test_bucket();
	test_bandwidth();
	test_sigbus();
	test_damaged();
	test_same_fd();
	test_close();
out:
	pagerd_close(&d);
	unlink(FILE_NAME);
	return ktap_end();
}
