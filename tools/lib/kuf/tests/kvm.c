// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libkuf on KVM: a guest reads the first word of each page of a region, of each kind
 * of memory, and other processes serve it.  Runs in the test VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/kvm_userfault.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kuf/kuf.h>

#define PAGE		4096ull
#define GPA		0x10000ull
#define NR		128		/* pages */
#define PORT		0x10

/* What the distribution's header may not have. */
struct create_gmem {
	uint64_t size, flags, reserved[6];
};

struct attributes {
	uint64_t address, size, attributes, flags;
};

#define CREATE_GMEM		_IOWR(KVMIO, 0xd4, struct create_gmem)
#define GMEM_MMAP_SHARED	3
#define SET_ATTRIBUTES		_IOW(KVMIO, 0xd2, struct attributes)
#define ATTRIBUTE_PRIVATE	0x8ull
#define SW_PROTECTED_VM		1

#define CHECK(condition) do {							\
	if (!(condition)) {							\
		printf("# line %d: %s (errno %d)\nnot ok %d %s\n", __LINE__,	\
		       #condition, errno, number, name);			\
		fflush(stdout);							\
		_exit(1);							\
	}									\
} while (0)

#define EQUAL(a, b) do {							\
	long long is_ = (a), want_ = (b);					\
										\
	if (is_ != want_)							\
		printf("# %s is %lld, not %lld\n", #a, is_, want_);		\
	CHECK(is_ == want_);							\
} while (0)

static const char *name;
static int number;

static const unsigned char code[] = {
	0xb8, 0x00, 0x10, 0x8e, 0xd8, 0x8b, 0x1e, 0x00, 0x00, 0x93, 0xe7, PORT,
	0x93, 0x05, 0x00, 0x01, 0x3d, 0x00, 0x90, 0x75, 0xee, 0xf4,
};

struct vm {
	int fd, vcpu, uffd;
	struct kvm_run *run;
	struct kuf *k;
	struct kuf_region region;
};

enum backing { ANON, SHMEM, GMEM, GMEM_PRIVATE };

static void *map(size_t len, int flags, int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static void make_memory(struct vm *vm, enum backing backing)
{
	struct create_gmem gmem = { .size = NR * PAGE };
	struct kuf_region *r = &vm->region;

	*r = (struct kuf_region){
		.size = sizeof(*r), .slot = 1, .gpa = GPA, .len = NR * PAGE, .fd = -1,
		.gmem_fd = -1,
	};
	switch (backing) {
	case ANON:
		r->hva = map(r->len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		break;
	case SHMEM:
		r->fd = memfd_create("shmem", MFD_CLOEXEC);
		CHECK(r->fd >= 0 && !ftruncate(r->fd, r->len));
		r->hva = map(r->len, MAP_SHARED, r->fd);
		break;
	case GMEM:
		gmem.flags = GMEM_MMAP_SHARED;
		r->gmem_fd = ioctl(vm->fd, CREATE_GMEM, &gmem);
		CHECK(r->gmem_fd >= 0);
		r->hva = map(r->len, MAP_SHARED, r->gmem_fd);
		break;
	case GMEM_PRIVATE:
		r->gmem_fd = ioctl(vm->fd, CREATE_GMEM, &gmem);
		CHECK(r->gmem_fd >= 0);
		/* What is shared of it would be here. */
		r->hva = map(r->len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		r->flags = KUF_REGION_PRIVATE;
		break;
	}
}

static void vm_create(struct vm *vm, enum backing backing)
{
	struct kvm_userspace_memory_region low = { .memory_size = PAGE };
	struct kuf_params params = {
		.size = sizeof(params),
		.features = KVM_USERFAULT_FEATURE_ACCESS | KVM_USERFAULT_FEATURE_RESCAN |
			    KVM_USERFAULT_FEATURE_FD,
	};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_sregs sregs;

	CHECK(kvm >= 0);
	vm->uffd = -1;
	vm->fd = ioctl(kvm, KVM_CREATE_VM, backing == GMEM_PRIVATE ? SW_PROTECTED_VM : 0);
	CHECK(vm->fd >= 0);
	low.userspace_addr = (uintptr_t)memcpy(map(PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1), code,
					       sizeof(code));
	EQUAL(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &low), 0);
	make_memory(vm, backing);
	params.vm_fd = vm->fd;
	EQUAL(kuf_create(&params, &vm->k), 0);
	EQUAL(kuf_region_add(vm->k, &vm->region), 0);
	EQUAL(kuf_arm(vm->k, vm->region.id), 0);

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	CHECK(vm->vcpu >= 0);
	vm->run = map(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), MAP_SHARED, vm->vcpu);
	EQUAL(ioctl(vm->vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	EQUAL(ioctl(vm->vcpu, KVM_SET_SREGS, &sregs), 0);
	close(kvm);
}

static void vm_free(struct vm *vm)
{
	EQUAL(kuf_disarm(vm->k, vm->region.id, KUF_DISARM_FORCE), 0);
	kuf_destroy(vm->k);
	munmap(vm->run, PAGE);
	close(vm->vcpu);
	close(vm->fd);
	if (vm->uffd >= 0)
		close(vm->uffd);
	if (vm->region.fd >= 0)
		close(vm->region.fd);
	if (vm->region.gmem_fd >= 0)
		close(vm->region.gmem_fd);
	if (vm->region.hva)
		munmap(vm->region.hva, vm->region.len);
}

static uint16_t content(unsigned int page)
{
	return (page + 1) * 257;
}

static int make_source(void)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	uint16_t words[PAGE / 2];
	unsigned int page, i;

	for (page = 0; page < NR; page++) {
		for (i = 0; i < PAGE / 2; i++)
			words[i] = content(page);
		EQUAL(pwrite(fd, words, PAGE, page * PAGE), PAGE);
	}
	return fd;
}

static struct kuf_file_source *set_source(struct kuf *k, int fd)
{
	struct kuf_file_range range = { .gpa = GPA, .len = NR * PAGE, .fd = fd };
	struct kuf_file_source *source;

	if (kuf_file_source_create(&range, 1, 0, &source) ||
	    kuf_set_source(k, kuf_file_source_ops(), source))
		_exit(9);
	return source;
}

/*
 * Runs the guest's program from the beginning, @seen gets what it read.  Returns 0, or
 * what the guest met: KUF_POISON_HIT.
 */
static int pass(struct vm *vm, uint32_t flags, uint16_t *seen)
{
	struct kvm_regs regs = { .rflags = 2 };
	struct kuf_exit ex = { .size = sizeof(ex), .flags = flags };
	unsigned int page = 0;

	EQUAL(ioctl(vm->vcpu, KVM_SET_REGS, &regs), 0);
	for (;;) {
		int error = ioctl(vm->vcpu, KVM_RUN, 0) < 0 ? errno : 0;

		EQUAL(kuf_vcpu_exit(vm->k, vm->run, error, &ex), 0);
		switch (ex.action) {
		case KUF_RUN_AGAIN:
			continue;
		case KUF_WAIT:
			EQUAL(kuf_wait(vm->k, ex.as_id, ex.gpa, 30000000000ll, NULL), 0);
			continue;
		case KUF_POISON_HIT:
			EQUAL(ex.gpa, GPA + page * PAGE);
			return KUF_POISON_HIT;
		}
		EQUAL(error, 0);
		if (vm->run->exit_reason == KVM_EXIT_HLT)
			break;
		EQUAL(vm->run->exit_reason, KVM_EXIT_IO);
		CHECK(page < NR);
		memcpy(&seen[page++], (char *)vm->run + vm->run->io.data_offset, 2);
	}
	EQUAL(page, NR);
	return 0;
}

static void check_all(const uint16_t *seen)
{
	unsigned int page;

	for (page = 0; page < NR; page++)
		EQUAL(seen[page], content(page));
}

static struct kuf_stats stats_of(struct kuf *k)
{
	struct kuf_stats stats = { .size = sizeof(stats) };

	EQUAL(kuf_get_stats(k, &stats), 0);
	return stats;
}

/*
 * Serves until the socket ends.  @until: dies by itself, when so many pages are done and
 * it has read one more event.  @dead: whose successor it is.
 */
static void serve(int sock, int source_fd, unsigned int until, uint32_t dead)
{
	static struct kuf_export ex = { .size = sizeof(ex) };
	struct kuf_service s = { .size = sizeof(s) };
	struct pollfd fds[4];
	struct kuf_poll p = { .size = sizeof(p), .fds = fds, .nr = 3 };
	unsigned int done = 0;
	struct kuf *k;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (kuf_recv(&ex, sock) || kuf_import(&ex, &k, &fd) || kuf_set_fd(k, fd))
		_exit(2);
	set_source(k, source_fd);
	if (dead && kuf_recover(k, dead))
		_exit(6);
	for (;;) {
		if (kuf_pollfds(k, &p))
			_exit(3);
		fds[p.used] = (struct pollfd){ .fd = sock, .events = POLLIN };
		poll(fds, p.used + 1, p.timeout_ms);
		if (fds[p.used].revents)
			_exit(0);
		if (until && done >= until && fds[1].revents) {
			struct kvm_userfault_event event;

			_exit(read(fd, &event, sizeof(event)) == sizeof(event) ? 77 : 4);
		}
		if (kuf_service(k, &s))
			_exit(5);
		done += s.done;
	}
}

/* To be called before there is a VM: a fork must not have it. */
static pid_t fork_server(int *sock, int source, unsigned int until, uint32_t dead)
{
	int ends[2];
	pid_t pid;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		close(ends[0]);
		serve(ends[1], source, until, dead);
	}
	close(ends[1]);
	*sock = ends[0];
	return pid;
}

/* Returns the peer's number. */
static uint32_t give(struct vm *vm, int sock, bool with_fd)
{
	static struct kuf_export ex = { .size = sizeof(ex) };

	if (with_fd && vm->uffd < 0)
		EQUAL(kuf_fd_create(vm->k, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK |
				    KVM_USERFAULT_FD_STALL, &vm->uffd), 0);
	EQUAL(kuf_export(vm->k, with_fd ? vm->uffd : -1, &ex), 0);
	EQUAL(kuf_send(&ex, sock), 0);
	return ex.peer;
}

static void end(pid_t pid, int sock, int want)
{
	int status;

	close(sock);
	EQUAL(waitpid(pid, &status, 0), pid);
	EQUAL(status, want << 8);
}

/* The vCPU's thread fetches, of each kind of memory; once only. */
static void serves_itself(void)
{
	static const enum backing backings[] = { ANON, SHMEM, GMEM };
	int source = make_source();
	unsigned int i;

	for (i = 0; i < 3; i++) {
		uint16_t seen[NR];
		struct vm vm;

		vm_create(&vm, backings[i]);
		set_source(vm.k, source);
		EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), 0);
		check_all(seen);
		EQUAL(stats_of(vm.k).exits, NR);
		EQUAL(stats_of(vm.k).installed, NR);
		EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), 0);
		check_all(seen);
		EQUAL(stats_of(vm.k).exits, NR);
		EQUAL(kuf_disarm(vm.k, vm.region.id, 0), 0);
		EQUAL(pass(&vm, 0, seen), 0);
		check_all(seen);
		vm_free(&vm);
	}
	close(source);
}

/* Another process serves: vCPUs exit and wait, or wait in KVM. */
static void other_process(enum backing backing, bool with_fd)
{
	int source = make_source(), sock;
	pid_t pid = fork_server(&sock, source, 0, 0);
	struct kuf_stats stats;
	uint16_t seen[NR];
	struct vm vm;

	vm_create(&vm, backing);
	give(&vm, sock, with_fd);
	/* A device model is served as well. */
	EQUAL(kuf_access(vm.k, GPA + 5 * PAGE, 3 * PAGE, 0, 30000000000ll, NULL), 0);
	EQUAL(pass(&vm, 0, seen), 0);
	check_all(seen);
	stats = stats_of(vm.k);
	EQUAL(stats.installed, 0);
	EQUAL(stats.exits, with_fd ? 0 : NR - 3);
	EQUAL(kuf_disarm(vm.k, vm.region.id, 0), 0);
	vm_free(&vm);
	end(pid, sock, 0);
	close(source);
}

static void other_process_exits(void)
{
	other_process(SHMEM, false);
	other_process(GMEM, false);
}

static void other_process_fd(void)
{
	other_process(SHMEM, true);
	other_process(GMEM, true);
}

/* A handler dies with an event that only it had read; a successor takes over. */
struct succession {
	struct vm *vm;
	pid_t first;
	int sock;
};

static void *succeed(void *arg)
{
	struct succession *s = arg;
	int status;

	EQUAL(waitpid(s->first, &status, 0), s->first);
	EQUAL(status, 77 << 8);
	EQUAL(give(s->vm, s->sock, true), 2);
	return NULL;
}

static void handler_dies(void)
{
	int source = make_source(), socks[2];
	struct succession s;
	uint16_t seen[NR];
	pthread_t thread;
	struct vm vm;
	pid_t second;

	s.first = fork_server(&socks[0], source, NR / 2, 0);
	second = fork_server(&socks[1], source, 0, 1);
	s.vm = &vm;
	s.sock = socks[1];
	vm_create(&vm, SHMEM);
	EQUAL(give(&vm, socks[0], true), 1);
	/* The vCPU waits in KVM meanwhile, so another thread sees to it. */
	EQUAL(pthread_create(&thread, NULL, succeed, &s), 0);
	EQUAL(pass(&vm, 0, seen), 0);
	check_all(seen);
	EQUAL(pthread_join(thread, NULL), 0);
	EQUAL(kuf_disarm(vm.k, vm.region.id, 0), 0);
	vm_free(&vm);
	close(socks[0]);
	end(second, socks[1], 0);
	close(source);
}

/* Pages that the guest uses are taken away, and come back as zeroes. */
static void discards(void)
{
	static const enum backing backings[] = { ANON, SHMEM, GMEM };
	int source = make_source();
	unsigned int i, page;

	for (i = 0; i < 3; i++) {
		uint16_t seen[NR];
		struct vm vm;

		vm_create(&vm, backings[i]);
		set_source(vm.k, source);
		EQUAL(kuf_discard(vm.k, 0, GPA, PAGE), 0);
		EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), 0);
		EQUAL(kuf_discard(vm.k, 0, GPA + 3 * PAGE, 40 * PAGE), 0);
		EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), 0);
		for (page = 0; page < NR; page++)
			EQUAL(seen[page], !page || (page >= 3 && page < 43) ? 0 : content(page));
		EQUAL(stats_of(vm.k).exits, NR + 40);
		EQUAL(stats_of(vm.k).zeroed, 41);
		vm_free(&vm);
	}
	close(source);
}

static void poison(void)
{
	int source = make_source();
	uint16_t seen[NR];
	struct vm vm;

	vm_create(&vm, SHMEM);
	set_source(vm.k, source);
	EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), 0);
	/* KVM of today cannot be told. */
	EQUAL(kuf_poison(vm.k, 0, GPA + 9 * PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), KUF_POISON_HIT);
	EQUAL(kuf_access(vm.k, GPA + 9 * PAGE, 1, 0, 0, NULL), -EHWPOISON);
	EQUAL(kuf_unpoison(vm.k, 0, GPA + 9 * PAGE, PAGE), 0);
	EQUAL(pass(&vm, KUF_EXIT_SERVE, seen), 0);
	EQUAL(seen[9], 0);
	EQUAL(seen[10], content(10));
	vm_free(&vm);
	close(source);
}

/*
 * Private memory of a software-protected VM: the guest is stopped, zeroes and discards
 * work, content has no way in.
 */
static void private_memory(void)
{
	struct attributes attr = { .address = GPA, .size = NR * PAGE,
				   .attributes = ATTRIBUTE_PRIVATE };
	uint16_t seen[NR], page[PAGE / 2] = { 1 };
	struct vm vm;
	unsigned int i;

	vm_create(&vm, GMEM_PRIVATE);
	EQUAL(ioctl(vm.fd, SET_ATTRIBUTES, &attr), 0);
	EQUAL(kuf_install(vm.k, 0, GPA, PAGE, page, NULL), -EOPNOTSUPP);
	EQUAL(kuf_discard(vm.k, 0, GPA, NR * PAGE), 0);
	EQUAL(pass(&vm, 0, seen), 0);
	for (i = 0; i < NR; i++)
		EQUAL(seen[i], 0);
	EQUAL(stats_of(vm.k).exits, NR);
	EQUAL(kuf_discard(vm.k, 0, GPA, NR * PAGE), 0);
	EQUAL(pass(&vm, 0, seen), 0);
	EQUAL(stats_of(vm.k).exits, 2 * NR);
	vm_free(&vm);
}

static bool has_private(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int fd = ioctl(kvm, KVM_CREATE_VM, SW_PROTECTED_VM);

	close(kvm);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "serves_itself", serves_itself }, { "other_process_exits", other_process_exits },
	{ "other_process_fd", other_process_fd }, { "handler_dies", handler_dies },
	{ "discards", discards }, { "poison", poison }, { "private_memory", private_memory },
};

#define NR_TESTS	((int)(sizeof(tests) / sizeof(tests[0])))

int main(int argc, char **argv)
{
	/* Software-protected VMs need nested paging: the list says where there is. */
	bool private = argc > 1 && !strcmp(argv[1], "private");

	alarm(300);
	if (private != has_private()) {
		printf("Bail out! private memory is %sthere\n", private ? "not " : "");
		return 1;
	}
	printf("KTAP version 1\n1..%d\n", NR_TESTS);
	for (number = 1; number <= NR_TESTS; number++) {
		name = tests[number - 1].name;
		if (tests[number - 1].run == private_memory && !private) {
			printf("ok %d %s # SKIP no nested paging\n", number, name);
			continue;
		}
		tests[number - 1].run();
		printf("ok %d %s\n", number, name);
		fflush(stdout);
	}
	return 0;
}
