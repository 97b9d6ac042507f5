// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Contexts in other processes.
 */
#include "test.h"

#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

static struct kuf_export ex, got;
static struct kuf *other_k;

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void close_got(void)
{
	while (got.nr_fds)
		close(got.fds[--got.nr_fds]);
}

static void refused(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	struct kuf_region r = new_region(k, GPA, 4, 0);
	struct kuf_region anon = {
		.size = sizeof(anon), .gpa = GPA + r.len, .len = PAGE, .hva = (void *)0x100000,
		.fd = -1, .gmem_fd = -1,
	};
	unsigned int i;
	int fd;

	ex.size = 1;
	EQUAL(kuf_export(k, -1, &ex), -EINVAL);
	EQUAL(kuf_import(&ex, &other, &fd), -EINVAL);
	EQUAL(kuf_send(&ex, 0), -EINVAL);
	EQUAL(kuf_recv(&ex, 0), -EINVAL);
	EQUAL(kuf_export(k, -1, NULL), -EINVAL);
	ex.size = sizeof(ex);
	EQUAL(kuf_export(k, -2, &ex), -EINVAL);
	EQUAL(kuf_region_add(k, &anon), 0);
	/* No other process can serve it. */
	EQUAL(kuf_export(k, -1, &ex), -EOPNOTSUPP);
	EQUAL(kuf_region_remove(k, anon.id), 0);
	EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(ex.peer, 1);
	EQUAL(kuf_import(&ex, NULL, &fd), -EINVAL);
	EQUAL(kuf_import(&ex, &other, NULL), -EINVAL);
	EQUAL(kuf_import(&ex, &other, &fd), 0);
	EQUAL(fd, -1);
	got.size = sizeof(got);
	EQUAL(kuf_export(other, -1, &got), -EPERM);
	/* What needs the VM. */
	EQUAL(kuf_arm(other, r.id), -EOPNOTSUPP);
	EQUAL(kuf_fd_create(other, 0, &fd), -EOPNOTSUPP);
	kuf_destroy(other);
	for (i = 2; i <= KUFI_MAX_PEERS; i++)
		EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(kuf_export(k, -1, &ex), -ENOSPC);
	/* The numbers of the dead, each once. */
	EQUAL(kuf_recover(k, 7), 0);
	EQUAL(kuf_recover(k, KUFI_MAX_PEERS), 0);
	EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(ex.peer, 7);
	EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(ex.peer, KUFI_MAX_PEERS);
	EQUAL(kuf_export(k, -1, &ex), -ENOSPC);
	kuf_destroy(k);
	free_region(&r);
}

/* Both see the same pages, and memory; what only one can do the other asks for. */
static void shared(void)
{
	int before = open_fds(), fd = 5, ends[2];
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	struct kuf_region r = new_region(k, GPA, 200, 0);
	char data[PAGE];

	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends));
	EQUAL(kuf_export(k, ends[0], &ex), 0);
	EQUAL(ex.nr_fds, 4);
	EQUAL(kuf_import(&ex, &other, &fd), 0);
	EQUAL(fd, ends[0]);
	pattern(data, GPA + 100 * PAGE);
	EQUAL(kuf_install(other, 0, GPA + 100 * PAGE, PAGE, data, NULL), 0);
	CHECK(is_pattern((char *)r.hva + 100 * PAGE, GPA + 100 * PAGE));
	EQUAL(state_of(k, GPA + 100 * PAGE), KUF_PRESENT);
	EQUAL(bit_of(k, GPA + 100 * PAGE), 0);
	EQUAL(kuf_access(k, GPA + 7 * PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	CHECK(!kufi_set_empty(&other->regions[r.id].need));
	/* Absent pages can be discarded and poisoned anywhere, present ones cannot. */
	EQUAL(kuf_discard(other, 0, GPA, PAGE), 0);
	EQUAL(state_of(k, GPA), KUF_DISCARDED);
	EQUAL(kuf_discard(other, 0, GPA + 100 * PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(state_of(k, GPA + 100 * PAGE), KUF_PRESENT);
	EQUAL(bit_of(k, GPA + 100 * PAGE), 0);
	CHECK(is_pattern((char *)r.hva + 100 * PAGE, GPA + 100 * PAGE));
	EQUAL(kuf_poison(other, 0, GPA + PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(state_of(k, GPA + PAGE), KUF_POISONED);
	/* The first one may go; the files and pages stay. */
	kuf_destroy(k);
	EQUAL(kuf_install(other, 0, GPA + 101 * PAGE, PAGE, data, NULL), 0);
	kuf_destroy(other);
	free_region(&r);
	close(ends[0]);
	close(ends[1]);
	EQUAL(open_fds(), before);
}

static int check_pattern(void *opaque, const struct kuf_request *page, const void *content)
{
	int *calls = opaque;

	EQUAL(bit_of(other_k, page->gpa), 1);
	++*calls;
	return is_pattern(content, page->gpa) ? 0 : -EILSEQ;
}

/* Anonymous memory has no file but the process's own. */
static void proc_mem(void)
{
	struct kuf_source_ops ops = { .size = sizeof(ops), .verify = check_pattern };
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	int before = open_fds(), fd, calls = 0;
	struct kufi_wake wake;
	char data[PAGE];
	bool filled;
	char *hva = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 8 * PAGE, .hva = hva, .gmem_fd = -1, .fd = -1,
		.fd_offset = (uintptr_t)hva, .flags = KUF_REGION_PROC_MEM,
	};

	EQUAL(kuf_region_add(k, &r), -EINVAL);
	r.fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	r.fd_offset += PAGE;
	EQUAL(kuf_region_add(k, &r), -EINVAL);
	r.fd_offset -= PAGE;
	r.flags |= KUF_REGION_PRIVATE;
	EQUAL(kuf_region_add(k, &r), -EINVAL);
	r.flags &= ~KUF_REGION_PRIVATE;
	r.gmem_fd = 0;
	EQUAL(kuf_region_add(k, &r), -EINVAL);
	r.gmem_fd = -1;
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(kuf_import(&ex, &other, &fd), 0);
	CHECK(!other->regions[r.id].r.hva);

	memset(hva, 0xee, r.len);
	pattern(data, GPA + 2 * PAGE);
	EQUAL(kuf_install(other, 0, GPA + 2 * PAGE, PAGE, data, NULL), 0);
	CHECK(is_pattern(hva + 2 * PAGE, GPA + 2 * PAGE));
	EQUAL(kuf_install_zero(other, 0, GPA + 3 * PAGE, PAGE, NULL), 0);
	CHECK(is_zero(hva + 3 * PAGE));
	EQUAL((unsigned char)hva[PAGE], 0xee);
	EQUAL((unsigned char)hva[4 * PAGE], 0xee);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_PRESENT);

	/* What the source is shown was read back. */
	other_k = other;
	EQUAL(kuf_set_source(other, &ops, &calls), 0);
	wake = (struct kufi_wake){ .k = other, .region = &other->regions[r.id] };
	pattern(data, GPA + 4 * PAGE);
	EQUAL(kufi_fill_page(&wake, 4, KUFI_REPLY, data, &filled), 0);
	EQUAL(kufi_fill_page(&wake, 5, KUFI_REPLY, data, &filled), -EILSEQ);
	EQUAL(kufi_fill_page(&wake, 5, KUFI_REPLY_ZERO, NULL, &filled), -EILSEQ);
	EQUAL(calls, 3);
	CHECK(is_pattern(hva + 4 * PAGE, GPA + 4 * PAGE));
	EQUAL(state_of(k, GPA + 5 * PAGE), KUF_ABSENT);

	/* The owner needs no file for what is his. */
	EQUAL(kuf_install(k, 0, GPA + 6 * PAGE, PAGE, data, NULL), 0);
	CHECK(is_pattern(hva + 6 * PAGE, GPA + 4 * PAGE));
	EQUAL(kuf_discard(k, 0, GPA + 6 * PAGE, PAGE), 0);
	CHECK(is_zero(hva + 6 * PAGE));

	/* Memory that is gone cannot be written, and nothing is present then. */
	munmap(hva + 7 * PAGE, PAGE);
	EQUAL(kuf_install(other, 0, GPA + 7 * PAGE, PAGE, data, NULL), -EIO);
	EQUAL(state_of(k, GPA + 7 * PAGE), KUF_ABSENT);
	kuf_destroy(other);
	kuf_destroy(k);
	munmap(hva, 7 * PAGE);
	close(r.fd);
	EQUAL(open_fds(), before - 1);
}

static void private_memory(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 4 * PAGE, .fd = -1,
		.flags = KUF_REGION_PRIVATE,
	};
	char data[PAGE];
	int fd;

	r.gmem_fd = memfd_create("private", MFD_CLOEXEC);
	CHECK(!ftruncate(r.gmem_fd, r.len));
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(kuf_import(&ex, &other, &fd), 0);
	CHECK(!other->regions[0].r.hva);
	EQUAL(kuf_install(other, 0, GPA, PAGE, data, NULL), -EOPNOTSUPP);
	EQUAL(kuf_install_zero(other, 0, GPA, PAGE, NULL), 0);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	kuf_destroy(other);
	kuf_destroy(k);
	close(r.gmem_fd);
}

static void through_a_socket(void)
{
	int before = open_fds(), ends[2], fd, i;
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	struct kuf_region r[40];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	for (i = 0; i < 40; i++)
		r[i] = new_region(k, GPA + i * 16 * PAGE, 1 + i % 3, 0);
	EQUAL(kuf_export(k, ends[0], &ex), 0);
	EQUAL(kuf_send(&ex, ends[0]), 0);
	memset(&got, 0, sizeof(got));
	got.size = sizeof(got);
	EQUAL(kuf_recv(&got, ends[1]), 0);
	EQUAL(got.nr_fds, 82);
	EQUAL(got.peer, ex.peer);
	EQUAL(kuf_import(&got, &other, &fd), 0);
	EQUAL(fd, got.fds[1]);
	close_got();
	EQUAL(kuf_install_zero(other, 0, GPA + 39 * 16 * PAGE, PAGE, NULL), 0);
	EQUAL(state_of(k, GPA + 39 * 16 * PAGE), KUF_PRESENT);
	kuf_destroy(other);
	close(ends[1]);
	EQUAL(kuf_send(&ex, ends[0]), -EPIPE);
	close(ends[0]);
	kuf_destroy(k);
	for (i = 0; i < 40; i++)
		free_region(&r[i]);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	close(ends[0]);
	EQUAL(kuf_recv(&got, ends[1]), -EPIPE);
	close(ends[1]);
	EQUAL(open_fds(), before);
}

/* What comes out of a socket is not what kuf_send() wrote: no fd leaks. */
static void bad_senders(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	int before = open_fds(), ends[2], i;
	struct kuf_region r = new_region(k, GPA, 4, 0);
	uint32_t header[4] = { 0x5346554b, 16, 0, 1 };

	got.size = sizeof(got);
	for (i = 0; i < 5; i++) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		EQUAL(kuf_export(k, -1, &ex), 0);
		switch (i) {
		case 0:		/* too short */
			EQUAL(write(ends[0], header, 7), 7);
			break;
		case 1:
			header[0]++;
			EQUAL(write(ends[0], header, 16), 16);
			header[0]--;
			break;
		case 2:		/* fewer bytes than promised */
			EQUAL(write(ends[0], header, 16), 16);
			break;
		case 3:
			header[1] = sizeof(ex.bytes) + 1;
			EQUAL(write(ends[0], header, 16), 16);
			break;
		case 4:		/* fds, but it ends before the bytes */
			ex.nr_bytes = 0;
			EQUAL(kuf_send(&ex, ends[0]), 0);
			got.nr_bytes = 7;
			close(ends[0]);
			EQUAL(kuf_recv(&got, ends[1]), 0);
			EQUAL(got.nr_fds, ex.nr_fds);
			EQUAL(kuf_import(&got, &(struct kuf *){ NULL }, &(int){ 0 }), -EBADMSG);
			close_got();
			close(ends[1]);
			continue;
		}
		close(ends[0]);
		EQUAL(kuf_recv(&got, ends[1]), i == 1 || i == 3 ? -EBADMSG : -EPIPE);
		EQUAL(got.nr_fds, 0);
		close(ends[1]);
	}
	kuf_destroy(k);
	free_region(&r);
	EQUAL(open_fds(), before - 1);
}

/* Files that are not what they should be. */
static void bad_files(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES), *other;
	struct kuf_region r = new_region(k, GPA, 4, 0);
	int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int small = memfd_create("small", MFD_CLOEXEC), before, bad, fd, pipes[2];
	int blocking = eventfd(0, EFD_CLOEXEC);

	CHECK(!pipe(pipes));
	CHECK(!ftruncate(small, 3 * PAGE));
	CHECK(!ftruncate(unsealed, kufi_state_size(k, r.len)));
	EQUAL(kuf_export(k, -1, &ex), 0);
	before = open_fds();
	/* The state: not sealed, another size, no memory at all, closed. */
	for (bad = 0; bad < 7; bad++) {
		const int wrong[] = { small, r.fd, pipes[0], 0x7000, -1, k->bell, unsealed };
		int saved = ex.fds[1];

		ex.fds[1] = wrong[bad];
		EQUAL(kuf_import(&ex, &other, &fd), -EBADMSG);
		EQUAL(fd, -1);
		ex.fds[1] = saved;
	}
	/* The memory: too small, no file, closed. */
	for (bad = 0; bad < 4; bad++) {
		const int wrong[] = { small, pipes[0], 0x7000, -1 };
		int saved = ex.fds[2];

		ex.fds[2] = wrong[bad];
		EQUAL(kuf_import(&ex, &other, &fd), -EBADMSG);
		ex.fds[2] = saved;
	}
	/* The bell: would block, is none, closed. */
	for (bad = 0; bad < 3; bad++) {
		const int wrong[] = { blocking, pipes[0], 0x7000 };
		int saved = ex.fds[0];

		ex.fds[0] = wrong[bad];
		EQUAL(kuf_import(&ex, &other, &fd), -EBADMSG);
		ex.fds[0] = saved;
	}
	EQUAL(open_fds(), before);
	EQUAL(kuf_import(&ex, &other, &fd), 0);
	kuf_destroy(other);
	kuf_destroy(k);
	free_region(&r);
	close(small);
	close(unsealed);
	close(blocking);
	close(pipes[0]);
	close(pipes[1]);
}

/* As few file descriptors as there may be: each step fails once, and leaves nothing. */
static void no_fds_left(void)
{
	struct rlimit all, few;
	struct kuf_params params = { .size = sizeof(params), .vm_fd = -1 };
	int mem = memfd_create("memory", MFD_CLOEXEC), slots[6], used, n, ret, fd;
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = PAGE, .fd = mem, .gmem_fd = -1,
		.hva = (void *)0x100000,
	};
	struct kuf *k, *other;

	CHECK(!ftruncate(mem, PAGE) && !getrlimit(RLIMIT_NOFILE, &all));
	/* Below the nth number that is free there are n free ones. */
	for (n = 0; n < 6; n++)
		slots[n] = dup(mem);
	for (n = 0; n < 6; n++)
		close(slots[n]);
	used = open_fds();
	few = all;
	/* Two are the first one's, three the other's. */
	for (n = 0; n < 6; n++) {
		few.rlim_cur = slots[n];
		CHECK(!setrlimit(RLIMIT_NOFILE, &few));
		k = NULL;
		other = NULL;
		ret = kuf_create(&params, &k);
		if (!ret)
			ret = kuf_region_add(k, &r);
		if (!ret) {
			EQUAL(kuf_export(k, -1, &ex), 0);
			ret = kuf_import(&ex, &other, &fd);
		}
		kuf_destroy(other);
		kuf_destroy(k);
		CHECK(!setrlimit(RLIMIT_NOFILE, &all));
		EQUAL(open_fds(), used);
		EQUAL(ret, n < 5 ? -EMFILE : 0);
	}
	close(mem);
}

/* A child serves what the parent needs. */
static void other_process(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 64, 0);
	int ends[2], status, i;
	pid_t pid;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	pid = fork();
	if (!pid) {
		struct kuf_file_range range = { .gpa = GPA, .len = 64 * PAGE };
		struct kuf_service s = { .size = sizeof(s) };
		struct pollfd fds[4];
		struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 4 };
		struct kuf_file_source *source;
		struct kuf *mine;
		char page[PAGE];
		int fd;

		alarm(60);
		kuf_destroy(k);
		got.size = sizeof(got);
		if (kuf_recv(&got, ends[1]) || kuf_import(&got, &mine, &fd))
			_exit(1);
		range.fd = memfd_create("source", MFD_CLOEXEC);
		for (i = 0; i < 64; i++) {
			pattern(page, GPA + i * PAGE);
			if (pwrite(range.fd, page, PAGE, i * PAGE) != PAGE)
				_exit(2);
		}
		if (kuf_file_source_create(&range, 1, 0, &source) ||
		    kuf_set_source(mine, kuf_file_source_ops(), source))
			_exit(3);
		for (;;) {
			if (kuf_pollfds(mine, &p))
				_exit(4);
			fds[p.used].fd = ends[1];
			fds[p.used].events = POLLIN;
			poll(fds, p.used + 1, p.timeout_ms);
			if (kuf_service(mine, &s))
				_exit(5);
			if (fds[p.used].revents)
				_exit(0);
		}
	}
	EQUAL(kuf_export(k, -1, &ex), 0);
	EQUAL(kuf_send(&ex, ends[0]), 0);
	for (i = 63; i >= 0; i -= 3) {
		EQUAL(kuf_access(k, GPA + i * PAGE, PAGE, 0, 20000000000ll, NULL), 0);
		CHECK(is_pattern((char *)r.hva + i * PAGE, GPA + i * PAGE));
	}
	EQUAL(kuf_access(k, GPA, 64 * PAGE, 0, 20000000000ll, NULL), 0);
	for (i = 0; i < 64; i++)
		CHECK(is_pattern((char *)r.hva + i * PAGE, GPA + i * PAGE));
	EQUAL(stats_of(k).installed, 0);
	EQUAL(write(ends[0], "", 1), 1);
	EQUAL(waitpid(pid, &status, 0), pid);
	EQUAL(status, 0);
	kuf_destroy(k);
	free_region(&r);
}

static const struct test tests[] = {
	TEST(refused), TEST(shared), TEST(proc_mem), TEST(private_memory), TEST(through_a_socket),
	TEST(bad_senders), TEST(bad_files), TEST(no_fds_left), TEST(other_process),
};

MAIN(tests)
