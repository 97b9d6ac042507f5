// SPDX-License-Identifier: GPL-2.0
/*
 * Poison on any host, with a KVM that only takes note of it: memory that breaks is
 * noticed and nobody dies, what is saved of it makes sense, and it moves with the VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dma.h"
#include "guard.h"
#include "guards.h"
#include "guest.h"
#include "poison_host.h"
#include "recover_files.h"
#include "state.h"
#include "virtqueue.h"
#include "world.h"

#define UNIX		"unix:/tmp/kuf-poison-host"
#define JOURNAL		"/tmp/kuf-poison-host-journal"
#define MEMORY		"/tmp/kuf-poison-host-memory"
#define MEM		MIN_MEM
#define FUZZ		20000
#define FEATURES	POISON_FEATURES

static struct world world;
struct machine machine;

void report(bool ok, const char *name)
{
	if (!ok)
		printf("# said: %s# source %d, service %d, end %d\n", world_said,
		       world.source_err, world.service_err, world.ss.end);
	ktap_result(ok, "%s", name);
	world_said[0] = '\0';
}

/*
 * KVM.
 */

static int vm_fd;	/* anything that is open */
static u64 offered;
static unsigned int nr_set, nr_clear, nr_busy;
static int kvm_error;

static int poison_ioctl(struct kvm_userfault_range *range)
{
	if (nr_busy) {
		nr_busy--;
		errno = EBUSY;
		return -1;
	}
	if (kvm_error) {
		errno = kvm_error;
		return -1;
	}
	nr_set += range->flags == KVM_USERFAULT_POISON_SET;
	nr_clear += range->flags == KVM_USERFAULT_POISON_CLEAR;
	range->gpa += range->size;
	range->size = 0;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (fd != vm_fd)
		return syscall(SYS_ioctl, fd, request, arg);
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg == KVM_CAP_USERFAULT ? !!offered : (int)offered;
	case KVM_ENABLE_CAP:
		return 0;
	case KVM_USERFAULT_POISON:
		return poison_ioctl(arg);
	default:
		errno = ENOTTY;
		return -1;
	}
}

/*
 * A machine's poison.
 */

void make_machine_in(const char *file, u64 features)
{
	machine_init(&machine);
	machine.vm = (struct vm){ .fd = vm_fd, .kvm_fd = -1 };
	pthread_mutex_init(&machine.vm.lock, NULL);
	if (file ? mem_create_file(&machine.vm.mem, file, MEM) :
		   mem_create(&machine.vm.mem, MEM_SHMEM, MEM, -1))
		exit(1);
	offered = features;
	nr_set = 0;
	nr_clear = 0;
}

static void make_machine(u64 features)
{
	make_machine_in(NULL, features);
}

void free_machine(void)
{
	pager_release(&machine.pager);
	mem_destroy(&machine.vm.mem);
	free(machine.poisoned);
	machine.poisoned = NULL;
}

static int read_page(u64 page)
{
	static u8 to[PAGE_SIZE];

	return dma_read_page(&machine.vm, page * PAGE_SIZE, to);
}

/* A request with one buffer at @gpa is taken.  NULL: it is told that it has none. */
static void *request(struct vm *vm, u64 gpa)
{
	struct vring_desc *desc = (void *)vm->mem.area;
	struct vring_avail *avail = (void *)vm->mem.area + PAGE_SIZE;
	struct virtqueue q = { .vm = vm, .size = 1, .desc = 0, .avail = PAGE_SIZE };
	struct virtbuf buf = { .ptr = vm };
	u16 head;

	*desc = (struct vring_desc){ .addr = gpa, .len = 2 * PAGE_SIZE };
	memset(avail, 0, PAGE_SIZE);
	avail->idx = 1;
	return virtqueue_take(&q, &buf, &head) == 1 && buf.len == 2 * PAGE_SIZE ? buf.ptr : vm;
}

static void test_machine(void)
{
	struct vm *vm = &machine.vm;
	void *p = NULL;

	make_machine(FEATURES);
	report(!machine_start_pager(&machine, NULL) && !vm_poisoned(vm) && !read_page(7) &&
	       !vm_poison(vm, 7 * PAGE_SIZE, 2 * PAGE_SIZE) && vm_poisoned(vm) == 2 &&
	       nr_set == 1 && read_page(7) == -EHWPOISON && !read_page(9) &&
	       dma_map(vm, 6 * PAGE_SIZE, 4 * PAGE_SIZE, true, &p) == -EHWPOISON &&
	       dma_try_map(vm, 8 * PAGE_SIZE, PAGE_SIZE, &p) == -EHWPOISON && !p, "machine");
	report(!request(vm, 6 * PAGE_SIZE) && !request(vm, 8 * PAGE_SIZE) &&
	       request(vm, 5 * PAGE_SIZE) == vm->mem.area + 5 * PAGE_SIZE, "machine-request");
	report(vm_poison(vm, 1, PAGE_SIZE) == -EINVAL && vm_poison(vm, 0, 0) == -EINVAL &&
	       vm_poison(vm, 0, 100) == -EINVAL &&
	       vm_poison(vm, MEM, PAGE_SIZE) == -EFAULT &&
	       vm_poison(vm, ~0ull << 12, PAGE_SIZE) == -EFAULT &&
	       vm_poison(vm, PAGE_SIZE, ~0ull << 12) == -EFAULT && vm_poisoned(vm) == 2,
	       "machine-ranges");
	/* Pages are zero when they are usable again. */
	vm->mem.area[7 * PAGE_SIZE] = 1;
	report(!vm_unpoison(vm, 0, 8 * PAGE_SIZE) && vm_poisoned(vm) == 1 && nr_clear == 1 &&
	       !read_page(7) && !vm->mem.area[7 * PAGE_SIZE], "machine-clear");
	nr_busy = 3;
	report(!vm_poison(vm, 7 * PAGE_SIZE, PAGE_SIZE) && !nr_busy, "machine-busy");
	kvm_error = ENOSPC;
	report(vm_poison(vm, 90 * PAGE_SIZE, PAGE_SIZE) == -ENOSPC &&
	       world_heard("room for 4096 ranges") && !read_page(90), "machine-full");
	kvm_error = 0;
	/* What is behind a page is gone. */
	if (ftruncate(vm->mem.fd, MEM - 2 * PAGE_SIZE))
		exit(1);
	report(read_page(MEM / PAGE_SIZE - 1) == -EHWPOISON &&
	       world_heard("the guest's page at 0x3fff000 is lost") &&
	       vm_poisoned(vm) == 3 && read_page(MEM / PAGE_SIZE - 1) == -EHWPOISON &&
	       !vm->stopped, "machine-breaks");
	report(vm_lost(vm, guards_pages) == -EFAULT && world_heard("and not the guest's"),
	       "machine-elsewhere");
	free_machine();
}

/* An older kernel: all as ever, but there is no poison, and broken memory is the end. */
static void test_without(u64 features, const char *name)
{
	struct poison_list *list = calloc(1, sizeof(*list) + sizeof(list->ranges[0]));
	struct vm *vm = &machine.vm;
	bool ok;

	make_machine(features);
	ok = !machine_start_pager(&machine, NULL) && !vm_poisoned(vm) && !read_page(7) &&
	     vm_poison(vm, 0, PAGE_SIZE) == -EOPNOTSUPP && world_heard("FEATURE_POISON");
	if (ftruncate(vm->mem.fd, 0))
		exit(1);
	ok = ok && read_page(3) == -EHWPOISON && vm->stopped &&
	     vm->exit_code == KUF_EXIT_FAILED;
	free_machine();
	make_machine(features);
	list->nr = 1;
	list->ranges[0] = (struct poison_range){ PAGE_SIZE, PAGE_SIZE };
	machine.poisoned = list;
	ok = ok && machine_start_pager(&machine, NULL) == -EOPNOTSUPP && !nr_set;
	free_machine();
	report(ok, name);
}

/*
 * What is saved.
 */

static const struct {
	const char *name;
	unsigned int nr;
	struct poison_range ranges[3];
	bool good;
} lists[] = {
	{ "one", 1, { { 0, PAGE_SIZE } }, true },
	{ "two", 2, { { 0, PAGE_SIZE }, { 2 * PAGE_SIZE, MEM - 2 * PAGE_SIZE } }, true },
	{ "all", 1, { { 0, MEM } }, true },
	{ "adjoin", 2, { { 0, PAGE_SIZE }, { PAGE_SIZE, PAGE_SIZE } } },
	{ "overlap", 2, { { 0, 2 * PAGE_SIZE }, { PAGE_SIZE, PAGE_SIZE } } },
	{ "descend", 2, { { 4 * PAGE_SIZE, PAGE_SIZE }, { PAGE_SIZE, PAGE_SIZE } } },
	{ "twice", 2, { { 4 * PAGE_SIZE, PAGE_SIZE }, { 4 * PAGE_SIZE, PAGE_SIZE } } },
	{ "empty", 1, { { PAGE_SIZE, 0 } } },
	{ "odd", 1, { { PAGE_SIZE + 8, PAGE_SIZE } } },
	{ "odd-length", 1, { { PAGE_SIZE, PAGE_SIZE + 1 } } },
	{ "beyond", 1, { { MEM, PAGE_SIZE } } },
	{ "too-long", 1, { { PAGE_SIZE, MEM } } },
	{ "wraps", 1, { { ~0ull << 12, 2 * PAGE_SIZE } } },
	{ "third", 3, { { 0, PAGE_SIZE }, { 2 * PAGE_SIZE, PAGE_SIZE }, { 1, 1 } } },
};

static void test_lists(void)
{
	const struct state_group *g = &state_poison;
	unsigned int i, bad = 0;
	int err;

	make_machine(FEATURES);
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		err = g->load(&machine, 0, lists[i].ranges,
			      lists[i].nr * sizeof(struct poison_range));
		if (!err != lists[i].good || !machine.poisoned != !lists[i].good) {
			printf("# list %s: %d\n", lists[i].name, err);
			bad++;
		}
		free(machine.poisoned);
		machine.poisoned = NULL;
	}
	bad += !g->load(&machine, 0, lists[0].ranges, sizeof(struct poison_range) + 1);
	report(!bad && g->optional && g->max == 4096 * sizeof(struct poison_range), "lists");
	free_machine();
}

/* Saved, loaded, and saved again it is the same; it is told to KVM on the way. */
static void test_saved(void)
{
	const struct state_group *g = &state_poison;
	static u8 saved[POISON_RANGES_MAX * sizeof(struct poison_range)], again[sizeof(saved)];
	int n, m, i;

	make_machine(FEATURES);
	n = machine_start_pager(&machine, NULL);
	report(!n && g->save(&machine, 0, saved) == 0, "saved-none");
	for (i = 0; i < 300; i++)
		n |= vm_poison(&machine.vm, (i * 3 + i / 100) * PAGE_SIZE, PAGE_SIZE);
	n = n ?: g->save(&machine, 0, saved);
	free_machine();

	make_machine(FEATURES);
	m = g->load(&machine, 0, saved, n) ?: machine_start_pager(&machine, NULL);
	report(n > 200 * (int)sizeof(struct poison_range) && !m &&
	       nr_set == n / sizeof(struct poison_range) && vm_poisoned(&machine.vm) == 300 &&
	       g->save(&machine, 0, again) == n && !memcmp(saved, again, n), "saved-again");
	free_machine();
}

/* Whatever is in the file. */
static void test_fuzz(void)
{
	struct poison_range r[8];
	unsigned int i, j, nr, good = 0;
	u64 at;

	make_machine(FEATURES);
	srandom(1);
	for (i = 0; i < FUZZ; i++) {
		nr = random() % 8 + 1;
		for (j = 0, at = 0; j < nr; j++) {
			at += random() % 8 * PAGE_SIZE;
			r[j] = (struct poison_range){ at, random() % 6 * PAGE_SIZE };
			at += r[j].len;
			if (!(random() % 8))
				((u8 *)&r[j])[random() % sizeof(r[j])] ^= 1 << random() % 8;
		}
		good += !state_poison.load(&machine, 0, r, nr * sizeof(r[0]));
		free(machine.poisoned);
		machine.poisoned = NULL;
	}
	printf("# %u of %u lists are good\n", good, i);
	report(good > FUZZ / 20 && good < FUZZ / 2, "lists-fuzz");
	free_machine();
}

/*
 * Moves.
 */

static bool poisoned_there(u64 page)
{
	enum kuf_state state;

	return !kuf_page_state(world.k, 0, page * PAGE_SIZE, &state) && state == KUF_POISONED;
}

static bool begin(struct world w)
{
	world = w;
	/* Of a test that did not end. */
	unlink(UNIX + strlen("unix:"));
	world_listen(&world);
	return !world_start(&world);
}

/* Both sides say that all is there. */
static bool complete(void)
{
	world_wait(&world, WORLD_PATIENCE_MS);
	return !world.service_err && world.ss.end == STREAM_SOURCE_COMPLETE;
}

static void test_lost(enum kuf_policy_kind policy, const char *name)
{
	bool ok = begin((struct world){ .listen = UNIX, .policy = policy, .lost_page = 300 });

	ok = ok && world_touch(&world, 300, WORLD_PATIENCE_MS) == -EHWPOISON &&
	     !world_touch(&world, 299, WORLD_PATIENCE_MS) &&
	     !world_touch(&world, 301, WORLD_PATIENCE_MS);
	if (policy == KUF_EAGER)
		ok = ok && complete() && world.ss.came.count == WORLD_PAGES - 1 &&
		     world_present(&world) == WORLD_PAGES - 1;
	ok = ok && poisoned_there(300) && !world_wrong(&world) &&
	     world.ss.counts.lost_pages == 1;
	ok &= !world_end(&world);
	report(ok && world.out.origin.counts.poisoned == 1 &&
	       world.out.origin.done.kind == (policy == KUF_EAGER ? PROTO_DONE_ALL :
					      PROTO_DONE_ENDED), name);
}

/* Another page in its place, which is zero where it can be read. */
static void put_page(struct mem *mem, u64 page, bool broken)
{
	int fd = broken ? memfd_create("broken", MFD_CLOEXEC) : -1;
	u8 *at = mem->area + page * PAGE_SIZE;

	if (mmap(at, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE |
		 (broken ? 0 : MAP_ANONYMOUS), fd, 0) != at)
		exit(1);
	if (broken)
		close(fd);
}

static void replace_page(u64 page, bool broken)
{
	put_page(&world.source, page, broken);
}

/* Nobody knows before it is read.  @page is one that is zero. */
static void test_broken(u64 page, const char *name)
{
	bool ok;

	world = (struct world){ .listen = UNIX, .policy = KUF_EAGER };
	world_listen(&world);
	replace_page(page, true);
	ok = !world_start(&world) && complete() && poisoned_there(page) && !world_wrong(&world);
	ok &= !world_end(&world);
	replace_page(page, false);
	report(ok && world.found == 1 && world.lost_page == page, name);
}

/* What is not recorded is not told: not as poison, nor as an error. */
static void test_unrecorded(enum kuf_policy_kind policy, const char *name)
{
	u64 until = stream_now_ns() + WORLD_PATIENCE_MS * 1000000ull;
	int err = -ETIMEDOUT;
	bool ok;

	world = (struct world){ .listen = UNIX, .policy = policy, .unrecorded = 2, .recovers = 20,
				.recover_at = UNIX };
	world_listen(&world);
	replace_page(496, true);
	ok = !world_start(&world);
	while (ok && err == -ETIMEDOUT && stream_now_ns() < until)
		err = world_touch(&world, 496, 100);
	ok = ok && err == -EHWPOISON && !world.service_err && world.ss.counts.lost_pages == 1;
	world_end(&world);
	replace_page(496, false);
	report(ok && world.found == 3 && world.recovered == 2 &&
	       !world.out.origin.counts.failed && world.out.origin.counts.poisoned == 1, name);
}

/* Breaks as soon as somebody else has it. */
int __real_mem_open(struct mem *mem, const char *path, u64 size, u64 file);

int __wrap_mem_open(struct mem *mem, const char *path, u64 size, u64 file)
{
	int err = __real_mem_open(mem, path, size, file);

	if (!err)
		put_page(mem, 496, true);
	return err;
}

/* The source is cut, and another one goes on from its files, in its place. */
static void test_from_files(void)
{
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER };
	struct journal j;
	bool ok = begin((struct world){ .listen = UNIX, .journals = { JOURNAL },
					.mem_path = MEMORY });

	shutdown(world.in.main.fd, SHUT_RDWR);
	ok = ok && !pthread_join(world.source_thread, NULL);
	world.part = WORLD_DESTINATION;
	ok = ok && !journal_read(&j, JOURNAL) && !journal_may_serve(&j) &&
	     !kuf_set_policy(world.k, &policy) &&
	     recover_files(JOURNAL, MEMORY, UNIX, 0) == KUF_EXIT_OK && poisoned_there(496) &&
	     world_present(&world) == WORLD_PAGES - 1 && !world_wrong(&world);
	world_end(&world);
	ok = ok && !journal_read(&j, JOURNAL) && journal_may_serve(&j) == -EINVAL &&
	     world_heard("pages were lost since");
	mem_destroy(&world.source);
	unlink(JOURNAL);
	unlink(JOURNAL ".lock");
	report(ok, "move-from-files");
}

static void poison_some(struct world *w)
{
	kuf_poison(w->k, 0, 10 * PAGE_SIZE, 5 * PAGE_SIZE);
	kuf_poison(w->k, 0, 700 * PAGE_SIZE, PAGE_SIZE);
	kuf_poison(w->k, 0, w->memory.size - PAGE_SIZE, PAGE_SIZE);
}

/* As many ranges as KVM keeps, and a frame holds. */
static void poison_many(struct world *w)
{
	u64 page;

	for (page = 0; page < 2 * PROTO_MAP_RANGES; page += 2)
		kuf_poison(w->k, 0, page * PAGE_SIZE, PAGE_SIZE);
}

/* Its state had them, or an operator: they are not asked for, and both sides leave them out. */
static void test_before(void (*prepare)(struct world *w), u64 nr, const char *name)
{
	bool ok = begin((struct world){ .listen = UNIX, .policy = KUF_EAGER,
					.prepare = prepare });
	u64 served;

	ok = ok && complete() && world.ss.came.count == WORLD_PAGES - nr && !world_wrong(&world);
	ok &= !world_end(&world);
	served = world.out.origin.counts.pages[0] + world.out.origin.counts.pages[1] +
		 world.out.origin.counts.zero_pages[0] + world.out.origin.counts.zero_pages[1];
	report(ok && served == WORLD_PAGES - nr && world.out.origin.done.poisoned == nr, name);
}

/* As kuf poison --clear does it. */
static void clear_pages(struct world *w, u64 page, u64 nr)
{
	kuf_poison(w->k, 0, page * PAGE_SIZE, nr * PAGE_SIZE);
	stream_source_clear(&w->ss, page * PAGE_SIZE, nr * PAGE_SIZE);
	kuf_unpoison(w->k, 0, page * PAGE_SIZE, nr * PAGE_SIZE);
}

/* The guest has come to some of them, and not to others. */
static void clear_some(struct world *w)
{
	clear_pages(w, 10, 5);
	kuf_discard(w->k, 0, 21 * PAGE_SIZE, 2 * PAGE_SIZE);
	stream_source_clear(&w->ss, 21 * PAGE_SIZE, 2 * PAGE_SIZE);
}

/* In more places than a frame has ranges for. */
static void clear_many(struct world *w)
{
	u64 page;

	for (page = 0; page < 3 * PROTO_MAP_RANGES; page += 2)
		clear_pages(w, page, 1);
}

/* Pages that are let go, and have content at the source. */
static u64 cleared_content(void)
{
	static const u8 zeroes[PAGE_SIZE];
	enum kuf_state state;
	u64 page, nr = 0;

	for (page = 0; page < WORLD_PAGES; page++)
		nr += pageset_has(&world.ss.cleared, page) &&
		      memcmp(world.source.area + page * PAGE_SIZE, zeroes, PAGE_SIZE) &&
		      !kuf_page_state(world.k, 0, page * PAGE_SIZE, &state) &&
		      state == KUF_PRESENT;
	return nr;
}

/*
 * Made usable again before they came: they do not come, and both sides leave them out.
 * @discarded: to which the guest has not come.
 */
static void test_cleared(void (*prepare)(struct world *w), u64 nr, u64 discarded,
			 const char *name)
{
	bool ok = begin((struct world){ .listen = UNIX, .policy = KUF_EAGER,
					.prepare = prepare });

	ok = ok && complete() && world.ss.came.count == WORLD_PAGES - nr &&
	     world_present(&world) == WORLD_PAGES - discarded &&
	     world_wrong(&world) == cleared_content();
	ok &= !world_end(&world);
	report(ok && world.out.origin.done.kind == PROTO_DONE_ALL &&
	       world.out.origin.done.poisoned == nr, name);
}

/* Asked for, and not here yet. */
static void test_cleared_on_its_way(void)
{
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER };
	bool ok = begin((struct world){ .listen = UNIX, .latency_ns = 300000000 });

	ok = ok && world_touch(&world, 42, 20) == -ETIMEDOUT;
	clear_pages(&world, 42, 1);
	ok = ok && !kuf_set_policy(world.k, &policy) && !kuf_retry(world.k) && complete() &&
	     world_present(&world) == WORLD_PAGES && world_wrong(&world) == 1 &&
	     !world.ss.counts.wrong_pages;
	ok &= !world_end(&world);
	report(ok && world.ss.came.count == WORLD_PAGES, "move-cleared-on-its-way");
}

/* It came before it broke: nothing is lost, but nobody can compare it. */
static void test_after(void)
{
	bool ok = begin((struct world){ .listen = UNIX, .policy = KUF_LAZY });
	struct kuf_policy policy = { .size = sizeof(policy), .kind = KUF_EAGER };

	ok = ok && !world_touch(&world, 20, WORLD_PATIENCE_MS);
	__atomic_store_n(&world.lost_page, 20, __ATOMIC_RELAXED);
	/* The rest. */
	ok = ok && !kuf_set_policy(world.k, &policy) && !kuf_retry(world.k) && complete() &&
	     !poisoned_there(20) && world_present(&world) == WORLD_PAGES;
	ok &= !world_end(&world);
	report(ok && world_heard("nothing to compare with"), "move-after");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(34 + POISON_ASKED);
	vm_fd = dup(0);
	guard_init();
	guards_test();
	test_machine();
	test_without(0, "without-userfault");
	test_without(FEATURES & ~KVM_USERFAULT_FEATURE_POISON_INJECT, "without-injection");
	test_lists();
	test_saved();
	test_fuzz();
	poison_asked_test();
	test_lost(KUF_EAGER, "move-lost");
	test_lost(KUF_LAZY, "move-lost-lazy");
	/* The first one of a request, and one within. */
	test_broken(496, "move-broken");
	test_broken(353, "move-broken-within");
	test_unrecorded(KUF_LAZY, "move-unrecorded");
	test_unrecorded(KUF_EAGER, "move-unrecorded-eager");
	test_before(poison_some, 7, "move-before");
	test_before(poison_many, PROTO_MAP_RANGES, "move-before-many");
	test_from_files();
	test_after();
	test_cleared(clear_some, 7, 2, "move-cleared");
	test_cleared(clear_many, 3 * PROTO_MAP_RANGES / 2, 0, "move-cleared-many");
	test_cleared_on_its_way();
	return ktap_end();
}
