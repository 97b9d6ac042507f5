// SPDX-License-Identifier: GPL-2.0
/*
 * kuf pager, round by round: who is let in, who gets how much of it, and what is left when
 * somebody goes.  In one process with the VMs, which have no KVM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"
#include "client.h"
#include "guest.h"
#include "saved.h"

#define NOBODY		65534

/* Who says nothing, or goes, or talks nonsense, is in nobody's way for long. */
static void test_lobby(void)
{
	int before = fake_open_fds(), others[2 * PAGERD_LOBBY];
	struct packet packet;
	unsigned int i;
	bool ok = true;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		client_connect(&two);
		others[i] = two.socket;
		pager_rounds(1);
	}
	pager_rounds(2);
	/* Their time is over. */
	for (i = 0; i < d.nr_slots; i++)
		d.vms[i].came_ns = 0;
	pager_rounds(2);
	for (i = 0; i < d.nr_slots; i++)
		ok = ok && d.vms[i].state == PAGERD_FREE;
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		two.socket = others[i];
		ok = ok && client_heard(&two, &packet) < 0;
		close(others[i]);
	}
	ktap_result(ok && fake_open_fds() == before, "lobby-silent");

	ok = client_new(&one, 1);
	client_hello(&one);
	pager_rounds(3);
	ok = ok && client_heard(&one, &packet) == PACKET_READY;
	/* READY, and no GO: it is not served. */
	client_need(&one, 3, 1);
	pager_rounds(5);
	ok = ok && !fakevm_present(&one.f, 3);
	for (i = 0; i < d.nr_slots; i++)
		d.vms[i].came_ns = 0;
	pager_rounds(2);
	ok = ok && client_heard(&one, &packet) == -1;
	client_free(&one);
	pager_rounds(2);
	ktap_result(ok && fake_open_fds() == before, "lobby-no-go");

	ok = client_start(&one, 1);
	ok = ok && !packet_say(one.socket, PACKET_GO, 0, NULL);
	pager_rounds(2);
	ok = ok && client_dropped(&one, PACKET_FAILED);
	client_free(&one);
	ok = ok && client_start(&one, 1) && send(one.socket, "x", 1, 0) == 1;
	pager_rounds(2);
	ok = ok && client_dropped(&one, PACKET_FAILED);
	client_free(&one);
	pager_rounds(2);
	ktap_result(ok && fake_open_fds() == before, "nonsense");
}

static void test_too_many(void)
{
	struct packet packet;
	bool ok;

	pagerd_close(&d);
	ok = pager_open(0, 1) && client_start(&one, 1) && client_new(&two, 1);
	client_hello(&two);
	pager_rounds(3);
	ok = ok && client_heard(&two, &packet) == PACKET_REFUSED && packet.err == -EBUSY &&
	     strstr(packet.text, "there are 1 VMs already (kuf pager --max-vms)");
	client_need(&one, 7, 1);
	pager_rounds(2);
	ok = ok && fakevm_present(&one.f, 7);
	/* There is room again. */
	client_free(&one);
	client_free(&two);
	pager_rounds(2);
	ok = ok && client_start(&one, 1);
	client_free(&one);
	pagerd_close(&d);
	ktap_result(ok && pager_open(0, 8), "too-many");
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
	ok = client_new(&one, 1) && !chmod(SOCKET, 0666);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(one.socket);
		if (setuid(NOBODY))
			_exit(1);
		client_connect(&one);
		client_hello(&one);
		while (!client_heard(&one, &packet))
			usleep(1000);
		_exit(packet.head.type != PACKET_REFUSED || packet.err != -EPERM ||
		      !strstr(packet.text, "user 65534 is neither root nor this pager's (0)"));
	}
	while (!waitpid(pid, &status, WNOHANG))
		pagerd_round(&d, 10);
	client_free(&one);
	pager_rounds(2);
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
	ok = pagerd_open(&other, &o) == -EADDRINUSE && ok &&
	     strstr(fake_said(), "somebody else listens");
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

/*
 * One VM has everything fetched, or asks for all of it at once; the other one needs a page
 * now and then, and gets it before others got more than the header says.
 */
static void test_fairness(bool urgent)
{
	u64 before, between, most = 0, page;
	unsigned int i, waits = 0;
	bool ok;

	ok = urgent ? client_start(&one, 1) : client_eager(&one, 1);
	ok = ok && client_start(&two, 1);
	if (urgent)
		client_need(&one, 0, SAVED_PAGES);
	for (i = 0; ok && client_filled(&one) < SAVED_PAGES - 4 * PAGERD_URGENT; i++) {
		/* Both kinds of need, and different moments. */
		page = 97 * i % SAVED_PAGES;
		pager_rounds(i % 3);
		if (fakevm_present(&two.f, page))
			break;
		client_need(&two, page, 1);
		before = client_filled(&one);
		while (!fakevm_present(&two.f, page) && waits < 1000000) {
			pager_rounds(1);
			waits++;
		}
		between = client_filled(&one) - before;
		most = between > most ? between : most;
	}
	ok = ok && i > 50 && most <= PAGERD_CHUNK + PAGERD_URGENT && waits <= 2 * i &&
	     !client_wrong_pages(&one) && !client_wrong_pages(&two);
	printf("# %u pages, each before %llu others, after %.2f rounds\n", i,
	       (unsigned long long)most, i ? (double)waits / i : 0.0);
	client_free(&one);
	client_free(&two);
	pager_rounds(2);
	ktap_result(ok, "fairness-%s", urgent ? "urgent" : "background");
}

/* Who needs pages all the time does not keep others from what nobody waits for, nor himself. */
static void test_fairness_background(void)
{
	u64 page = 0, a, b;
	unsigned int i;
	bool ok;

	ok = client_eager(&one, 1) && client_eager(&two, 1);
	a = client_filled(&one);
	b = client_filled(&two);
	for (i = 0; i < 200; i++)
		pager_rounds(1);
	a = client_filled(&one) - a;
	b = client_filled(&two) - b;
	printf("# %llu and %llu pages that nobody waited for\n", (unsigned long long)a,
	       (unsigned long long)b);
	ok = ok && a > 500 && b > 500 && a - b + 2 * PAGERD_CHUNK <= 4 * PAGERD_CHUNK;
	ktap_result(ok, "shared-evenly");

	/* One of them has something urgent in each round. */
	b = client_filled(&two);
	for (i = 0; i < 200; i++) {
		while (page < SAVED_PAGES && fakevm_present(&one.f, SAVED_PAGES - 1 - page))
			page++;
		client_need(&one, SAVED_PAGES - 1 - page, 1);
		pager_rounds(1);
	}
	b = client_filled(&two) - b;
	printf("# %llu pages beside one who always waits\n", (unsigned long long)b);
	ok = b > 500 && !client_wrong_pages(&one) && !client_wrong_pages(&two);
	client_free(&one);
	client_free(&two);
	pager_rounds(2);
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
	ok = pager_open(rate, 8);
	begin = pager_now();
	ok = ok && client_eager(&one, 1) && client_eager(&two, 1);
	do {
		pagerd_round(&d, 100);
		bytes = (client_filled(&one) + client_filled(&two)) * PAGE_SIZE;
		ns = pager_now() - begin;
	} while (ns < 1000000000 || (bytes < d.bucket.burst && ns < 60000000000));
	/* It is measured after it was served, so this can only be too long. */
	bytes = (client_filled(&one) + client_filled(&two)) * PAGE_SIZE;
	ns = pager_now() - begin;
	printf("# %llu bytes in %llu ms, at %llu a second\n", (unsigned long long)bytes,
	       (unsigned long long)ns / 1000000, (unsigned long long)rate);
	ok = ok && bytes <= d.bucket.burst + (u64)((double)rate * ns / 1e9) + IMAGE_BUFFER &&
	     bytes >= d.bucket.burst;
	/* All is spent. */
	pager_rounds(10);
	client_need(&one, page, 1);
	pager_rounds(2);
	ok = ok && fakevm_present(&one.f, page) && !client_wrong_pages(&one) &&
	     !client_wrong_pages(&two);
	client_free(&one);
	client_free(&two);
	pagerd_close(&d);
	ktap_result(ok && pager_open(0, 8), "bandwidth");
}

/*
 * VMs that do harm to themselves.
 */

/* Its memory is cut off: the pager drops it, and serves the other one. */
static void test_sigbus(void)
{
	struct packet packet;
	bool ok;

	ok = client_start(&one, 1) && client_start(&two, 1) &&
	     !ftruncate(one.f.vm.mem.fd, 16 * PAGE_SIZE);
	client_need(&one, 5, 1);
	pager_rounds(2);
	ok = ok && fakevm_present(&one.f, 5) && !client_heard(&one, &packet);
	client_need(&one, 100, 1);
	client_need(&two, 100, 1);
	pager_rounds(3);
	ok = ok && client_dropped(&one, PACKET_FAILED) &&
	     fakevm_present(&two.f, 100) && !client_wrong_pages(&two);
	/* Again, as the signal must not stay blocked. */
	if (ftruncate(two.f.vm.mem.fd, 0))
		ok = false;
	client_need(&two, 101, 1);
	pager_rounds(3);
	ok = ok && client_heard(&two, &packet) == PACKET_FAILED;
	client_free(&one);
	client_free(&two);
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
	ok = client_start(&one, 1) && client_start(&two, 1);
	client_need(&one, 1233, 1);
	pager_rounds(2);
	ok = ok && fakevm_present(&one.f, 1233);
	fake_said_reset();
	client_need(&one, 1234, 1);
	client_need(&two, 1235, 1);
	pager_rounds(3);
	ok = ok && client_heard(&one, &packet) == PACKET_FAILED && packet.err == -EBADMSG &&
	     strstr(fake_said(), "offset 0x4d2000 is damaged (CRC32C)") &&
	     !fakevm_present(&one.f, 1234) && fakevm_present(&two.f, 1235);
	flip(1234);
	client_free(&one);
	client_free(&two);
	pager_rounds(2);
	ktap_result(ok, "damaged");
}

/* It says so, and has told all that it did; others may come to the same socket. */
static void test_close(void)
{
	struct packet packet;
	int before;
	u64 first;
	bool ok;

	ok = client_eager(&one, 1);
	before = fake_open_fds();
	pager_rounds(20);
	pagerd_close(&d);
	first = client_filled(&one);
	ok = ok && client_dropped(&one, PACKET_BYE) &&
	     first > 100 && access(SOCKET, F_OK);
	ok = ok && fake_open_fds() < before && pager_open(0, 8);
	/* The same VM, to another one; what was asked for of the first is asked again. */
	ok = ok && !kuf_recover(one.k, 1);
	close(one.socket);
	client_connect(&one);
	ok = ok && client_serves(&one);
	while (ok && first + client_filled(&one) < SAVED_PAGES && !client_heard(&one, &packet))
		pager_rounds(1);
	ok = ok && !packet_say(one.socket, PACKET_END, 0, NULL);
	pager_rounds(2);
	ok = ok && client_dropped(&one, PACKET_ENDED) &&
	     !client_wrong_pages(&one);
	client_free(&one);
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

	ok = client_new(&one, 1) && !pthread_create(&t.thread, NULL, touch, &t);
	while (ok && read(one.uffd, &event, sizeof(event)) < 0)
		usleep(100);
	ok = ok && event.gpa == t.page * PAGE_SIZE && client_serves(&one);
	pager_rounds(20);
	ok = ok && !fakevm_present(&one.f, t.page);
	close(one.socket);
	pager_rounds(2);
	/* Number 1 is dead; 2 says so. */
	ok = ok && !kuf_export(one.k, one.uffd, &ex) && ex.peer == 2;
	memcpy(one.packet.bytes, ex.bytes, ex.nr_bytes);
	one.packet.hello.flags = HELLO_SAME_FD;
	one.packet.hello.dead = 1;
	client_connect(&one);
	ok = ok && client_serves(&one);
	while (ok && !fakevm_present(&one.f, t.page) && !client_heard(&one, &packet))
		pagerd_round(&d, 10);
	fakevm_let_go(&one.f);
	pthread_join(t.thread, NULL);
	ok = ok && fakevm_present(&one.f, t.page) && !client_wrong_pages(&one);
	/* Nobody takes himself over. */
	close(one.socket);
	one.packet.hello.dead = 2;
	client_connect(&one);
	client_hello(&one);
	pager_rounds(3);
	ok = ok && client_heard(&one, &packet) == PACKET_READY &&
	     !packet_say(one.socket, PACKET_GO, 0, NULL);
	pager_rounds(2);
	ok = ok && client_heard(&one, &packet) == PACKET_FAILED;
	client_free(&one);
	pager_rounds(2);
	ktap_result(ok, "same-fd");
}

int main(int argc, char **argv)
{
	bool fairness = argc == 2 && !strcmp(argv[1], "fairness");
	unsigned int i;

	if (!saved_directory(DIRECTORY, SOCKET) || !saved_make(FILE_NAME, 1) ||
	    !pager_open(0, 8)) {
		printf("Bail out! %s\n", fake_said());
		return 1;
	}
	ktap_plan(fairness ? 4 : hello_tests() + 16);
	test_fairness(false);
	test_fairness(true);
	test_fairness_background();
	if (fairness)
		goto out;
	for (i = 0; i < hello_tests(); i++)
		hello_test(i);
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
	rmdir(DIRECTORY);
	return ktap_end();
}
