// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that can happen to memslots with userfault at the same time, for
 * as long as asked, in a random order that a seed determines (but not when).
 *
 * The host only changes a page while it is absent: it sets the bit, arms the slot
 * again so that the page is dropped, destroys its content, and at some time fills
 * it and clears the bit.  Where the guest reads, it fills in the next generation;
 * where the guest writes, what was there when the page was dropped, so that not
 * one increment gets lost unless a mapping survived.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "userfault_stress.h"
#include "userfault_util.h"

#define NR_MUTATORS	2
#define FIRST_SLOT	10
#define GARBAGE		0xee

#define UF		KVM_MEM_USERFAULT
#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/*
 * The host.  A page goes from PRESENT to ABSENT by way of DROPPING, in the hands
 * of the one that holds the slot's lock, and back by way of FILLING, in the hands
 * of whoever got there first.
 */
enum { PRESENT, DROPPING, ABSENT, FILLING };

enum op {
	OP_EXIT, OP_UNREADABLE_EXIT, OP_MISSING_EXIT, OP_PREFAULT, OP_FILL, OP_ARM,
	OP_SWAP, OP_DISARM, OP_DIRTY_LOG, OP_DIRTY_LOG_WITH_FLAG, OP_GET_LOG,
	OP_DELETE, OP_MOVE, OP_PROTECT, OP_STEAL, OP_COLLAPSE, NR_OPS,
};

static const char * const op_names[NR_OPS] = {
	"exits", "exits, map unreadable", "exits, slot missing", "prefaults", "fills",
	"arm", "swap maps", "disarm", "dirty log on/off", "the same with the flag",
	"get and clear dirty log", "delete and create", "move", "mprotect the map",
	"steal memory", "collapse",
};

static atomic_ulong ops[NR_OPS];

static struct slot {
	struct userfault_slot *s;
	u64 index;
	bool written, armed;
	pthread_mutex_t lock;
	atomic_int state[NPAGES];
	/* Two maps in a page each, as KVM and as the host sees them. */
	u8 *kvm_map[2], *host_map[2];
	int current_map;
	u64 *published;			/* the guest's */
	u8 *saved;			/* what has to come back */
} slots[NR_SLOTS];

static struct kvm_vcpu *vcpus[MAX_VCPUS];
static bool stop;
static u64 seed;
/*
 * KVM_PRE_FAULT_MEMORY holds kvm->srcu while it retries, does not reload roots
 * that became obsolete meanwhile, as by a memslot going away, and so retries in
 * vain until a signal comes, while that memslot's ioctl waits for kvm->srcu.
 */
static pthread_rwlock_t roots_lock = PTHREAD_RWLOCK_INITIALIZER;
/*
 * Held by vCPUs while they run, and by who creates a slot: a fault that found no
 * slot does not notice that there is one by now, and that another vCPU has mapped
 * the page, and so KVM 7.3 WARNs once in a while (tdp_mmu_map_handle_target_level).
 */
static pthread_rwlock_t run_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void count(enum op op)
{
	atomic_fetch_add_explicit(&ops[op], 1, memory_order_relaxed);
}

static void set_bits(struct slot *t, u64 page)
{
	for (int i = 0; i < 2; i++)
		__atomic_fetch_or(&t->host_map[i][page / 8], 1u << page % 8,
				  __ATOMIC_SEQ_CST);
}

static bool try_state(struct slot *t, u64 page, int from, int to)
{
	return atomic_compare_exchange_strong(&t->state[page], &from, to);
}

/* Fill the page, if it is to be had. */
static bool fill(struct slot *t, u64 page)
{
	u64 *p = userfault_alias(t->s, page), next;

	if (!try_state(t, page, ABSENT, FILLING))
		return false;

	if (t->written) {
		userfault_copy_page(p, t->saved + page * PAGE_SIZE, PAGE_SIZE);
	} else {
		next = t->published[page] + 1;
		userfault_pattern_fill(p, PAGE_SIZE, HOME(t->index) / PAGE_SIZE + page,
				       next);
		WRITE_ONCE(*p, next);
		__atomic_store_n(&t->published[page], next, __ATOMIC_RELEASE);
	}
	for (int i = 0; i < 2; i++)
		__atomic_fetch_and(&t->host_map[i][page / 8], (u8)~(1u << page % 8),
				   __ATOMIC_RELEASE);
	atomic_store(&t->state[page], PRESENT);
	count(OP_FILL);
	return true;
}

/* All of them, also those that others are filling just now. */
static void fill_all(struct slot *t)
{
	for (u64 page = 0; page < NPAGES; page++) {
		fill(t, page);
		while (atomic_load(&t->state[page]) != PRESENT)
			sched_yield();
	}
}

/* Some pages are about to go: one, a few, or a lot. */
static void begin_drop(struct slot *t, u64 *r)
{
	u64 nr = 1 + rnd(r) % (rnd(r) % 8 ? 8 : NPAGES), page;

	for (; nr; nr--) {
		page = rnd(r) % NPAGES;
		if (try_state(t, page, PRESENT, DROPPING))
			set_bits(t, page);
	}
}

/* They are gone: nobody is to see what happens to them now. */
static void end_drop(struct slot *t)
{
	void *p;

	for (u64 page = 0; page < NPAGES; page++) {
		if (atomic_load(&t->state[page]) != DROPPING)
			continue;
		p = userfault_alias(t->s, page);
		if (t->written)
			userfault_copy_page(t->saved + page * PAGE_SIZE, p, PAGE_SIZE);
		memset(p, GARBAGE, PAGE_SIZE);
		atomic_store(&t->state[page], ABSENT);
	}
}

static bool can_log(struct slot *t)
{
	return t->s->backing != USERFAULT_GMEM;
}

static void update(struct slot *t, u32 flags)
{
	u64 *map = (u64 *)t->kvm_map[t->current_map];

	userfault_slot_update(t->s, flags, flags & UF ? map : NULL);
	t->armed = flags & UF;
}

/* The same for a slot that is not where it belongs. */
static void update_missing(struct slot *t, u32 flags)
{
	pthread_rwlock_wrlock(&run_lock);
	update(t, flags);
	pthread_rwlock_unlock(&run_lock);
}

/* The slot's flags, now and then with the dirty log changed as well. */
static u32 flags_and_log(struct slot *t, u64 *r)
{
	u32 flags = t->s->region.flags;

	if (can_log(t) && !(rnd(r) % 4)) {
		count(OP_DIRTY_LOG_WITH_FLAG);
		flags ^= LOG;
	}
	return flags;
}

/* Arm it, or if it is, swap the maps: both drop what is absent. */
static void op_drop(struct slot *t, u64 *r)
{
	begin_drop(t, r);
	count(t->armed ? OP_SWAP : OP_ARM);
	t->current_map ^= 1;
	update(t, flags_and_log(t, r) | UF);
	end_drop(t);
}

static void op_disarm(struct slot *t, u64 *r)
{
	if (!t->armed)
		return;
	fill_all(t);
	update(t, flags_and_log(t, r) & ~UF);
	count(OP_DISARM);
}

static void op_dirty_log(struct slot *t, u64 *r)
{
	u64 log[NPAGES / 64];

	if (!can_log(t))
		return;
	if (t->s->region.flags & LOG && rnd(r) % 2) {
		kvm_vm_get_dirty_log(t->s->vm, t->s->region.slot, log);
		kvm_vm_clear_dirty_log(t->s->vm, t->s->region.slot, log, 0, NPAGES);
		count(OP_GET_LOG);
		return;
	}
	update(t, t->s->region.flags ^ LOG);
	count(OP_DIRTY_LOG);
}

/*
 * The slot is missing for a while, and comes back armed and with pages gone.
 * Not where the guest writes: the access that KVM emulates might be a write.
 */
static void op_delete(struct slot *t, u64 *r)
{
	struct kvm_userspace_memory_region2 region = t->s->region;

	if (t->written)
		return;
	count(OP_DELETE);
	pthread_rwlock_wrlock(&roots_lock);
	t->s->region.memory_size = 0;
	TEST_ASSERT(!__userfault_slot_set(t->s), "delete: %s", strerror(errno));
	pthread_rwlock_unlock(&roots_lock);
	begin_drop(t, r);
	end_drop(t);
	usleep(rnd(r) % 500);
	t->s->region = region;
	update_missing(t, region.flags | UF);
}

static void op_move(struct slot *t, u64 *r)
{
	if (t->written || t->s->backing == USERFAULT_GMEM)
		return;
	count(OP_MOVE);
	t->s->region.guest_phys_addr = AWAY(t->index);
	pthread_rwlock_wrlock(&roots_lock);
	update(t, t->s->region.flags);
	pthread_rwlock_unlock(&roots_lock);
	usleep(rnd(r) % 500);
	t->s->region.guest_phys_addr = HOME(t->index);
	if (t->armed) {
		begin_drop(t, r);
		t->current_map ^= 1;
	}
	pthread_rwlock_wrlock(&roots_lock);
	update_missing(t, t->s->region.flags);
	pthread_rwlock_unlock(&roots_lock);
	end_drop(t);
}

/* The map cannot be read for a while, maybe already when it becomes the map. */
static void op_protect(struct slot *t, u64 *r)
{
	bool swap = t->armed && rnd(r) % 2;

	if (swap)
		t->current_map ^= 1;
	count(OP_PROTECT);
	TEST_ASSERT(!mprotect(t->kvm_map[t->current_map], PAGE_SIZE, PROT_NONE),
		    "mprotect: %s", strerror(errno));
	if (swap)
		update(t, t->s->region.flags);
	usleep(rnd(r) % 500);
	TEST_ASSERT(!mprotect(t->kvm_map[t->current_map], PAGE_SIZE, PROT_READ),
		    "mprotect: %s", strerror(errno));
}

/* Take memory away from absent pages; of shared memory, the mapping of all. */
static void op_steal(struct slot *t, u64 *r)
{
	u64 page = rnd(r) % NPAGES, end = page + 1 + rnd(r) % 64;

	/* The huge pages are to stay huge most of the time. */
	if (t->s->backing == USERFAULT_ANON_THP && rnd(r) % 8)
		return;
	count(OP_STEAL);
	if (t->s->backing == USERFAULT_SHMEM)
		kvm_madvise(t->s->mem, NPAGES * PAGE_SIZE, MADV_DONTNEED);

	for (; page < end && page < NPAGES; page++) {
		if (!try_state(t, page, ABSENT, FILLING))
			continue;
		if (t->s->fd >= 0)
			TEST_ASSERT(!fallocate(t->s->fd, FALLOC_FL_PUNCH_HOLE |
					       FALLOC_FL_KEEP_SIZE, page * PAGE_SIZE,
					       PAGE_SIZE), "fallocate");
		else
			kvm_madvise(userfault_hva(t->s, page), PAGE_SIZE, MADV_DONTNEED);
		atomic_store(&t->state[page], ABSENT);
	}
}

static void op_collapse(struct slot *t, u64 *r)
{
	if (t->s->backing != USERFAULT_ANON_THP)
		return;
	/* It may fail, e.g. for want of huge pages. */
	madvise(t->s->mem, NPAGES * PAGE_SIZE, MADV_COLLAPSE);
	count(OP_COLLAPSE);
}

static void op_fill(struct slot *t, u64 *r)
{
	if (!(rnd(r) % 4)) {
		fill_all(t);
		return;
	}
	for (int i = 0; i < 64; i++)
		fill(t, rnd(r) % NPAGES);
}

/* Named as often as is likely. */
static void (* const mutations[])(struct slot *t, u64 *r) = {
	op_drop, op_drop, op_drop, op_drop, op_drop, op_fill, op_fill, op_disarm,
	op_disarm, op_dirty_log, op_dirty_log, op_delete, op_move, op_protect,
	op_steal, op_collapse,
};

static void *mutator(void *arg)
{
	u64 r = seed + 100 + (uintptr_t)arg;

	while (!READ_ONCE(stop)) {
		struct slot *t = &slots[rnd(&r) % NR_SLOTS];

		pthread_mutex_lock(&t->lock);
		mutations[rnd(&r) % ARRAY_SIZE(mutations)](t, &r);
		pthread_mutex_unlock(&t->lock);
		usleep(rnd(&r) % 2000);
	}
	return NULL;
}

static struct slot *find_slot(u64 gpa, u64 *page)
{
	for (u64 i = 0; i < NR_SLOTS; i++) {
		*page = (gpa - HOME(i)) / PAGE_SIZE;
		if (gpa >= HOME(i) && *page < NPAGES)
			return &slots[i];
	}
	TEST_FAIL("No slot for GPA 0x%lx", gpa);
	return NULL;
}

static void handle_fault(struct kvm_vcpu *vcpu, u64 *r)
{
	u64 page;
	struct slot *t = find_slot(vcpu->run->memory_fault.gpa, &page);

	if (vcpu->run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_BITMAP) {
		count(OP_UNREADABLE_EXIT);
		sched_yield();
		return;
	}
	count(OP_EXIT);
	/* Not always: the same page may well exit again. */
	if (!(rnd(r) % 4) || !fill(t, page))
		sched_yield();
}

/* A read where the slot is not there just now. */
static void handle_mmio(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 offset, page;
	struct slot *t = find_slot(run->mmio.phys_addr, &page);

	TEST_ASSERT(!run->mmio.is_write && !t->written && run->mmio.len == sizeof(u64),
		    "MMIO %s of %u bytes at 0x%llx", run->mmio.is_write ? "write" : "read",
		    run->mmio.len, run->mmio.phys_addr);
	count(OP_MISSING_EXIT);
	while (!READ_ONCE(stop) && atomic_load(&t->state[page]) != PRESENT) {
		if (!fill(t, page))
			sched_yield();
	}
	offset = run->mmio.phys_addr - HOME(t->index);
	memcpy(run->mmio.data, t->s->alias + offset, sizeof(u64));
}

static void prefault(struct kvm_vcpu *vcpu, u64 *r)
{
	struct kvm_pre_fault_memory range = {
		.gpa = HOME(rnd(r) % NR_SLOTS) + rnd(r) % NPAGES * PAGE_SIZE,
		.size = (1 + rnd(r) % 64) * PAGE_SIZE,
	};
	int ret;

	if (!kvm_is_tdp_enabled() || pthread_rwlock_tryrdlock(&roots_lock))
		return;
	ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
	pthread_rwlock_unlock(&roots_lock);
	TEST_ASSERT(!ret || errno == EAGAIN || errno == EFAULT || errno == ENOENT ||
		    errno == EINTR, "KVM_PRE_FAULT_MEMORY: %s", strerror(errno));
	count(OP_PREFAULT);
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u64 r = seed + 200 + vcpu->id;
	struct ucall uc;

	while (!READ_ONCE(stop)) {
		int ret;

		pthread_rwlock_rdlock(&run_lock);
		ret = __userfault_run(vcpu);
		pthread_rwlock_unlock(&run_lock);

		if (__userfault_is_exit(vcpu, ret)) {
			handle_fault(vcpu, &r);
			continue;
		}
		TEST_ASSERT(!ret, "KVM_RUN: %s, exit reason %u (%s)", strerror(errno),
			    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason));
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			handle_mmio(vcpu);
			continue;
		}
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		case UCALL_SYNC:
			prefault(vcpu, &r);
			break;
		default:
			TEST_FAIL("Exit reason %u (%s)", vcpu->run->exit_reason,
				  exit_reason_str(vcpu->run->exit_reason));
		}
	}
	return NULL;
}

static void create_slot(struct kvm_vm *vm, u64 i)
{
	struct slot *t = &slots[i];
	int fd;

	t->index = i;
	t->written = kinds[i].written;
	pthread_mutex_init(&t->lock, NULL);
	t->s = userfault_slot_alloc(vm, FIRST_SLOT + i, HOME(i), NPAGES, kinds[i].backing);
	virt_map(vm, HOME(i), HOME(i), NPAGES);

	fd = kvm_memfd_alloc(2 * PAGE_SIZE, false);
	t->host_map[0] = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	t->kvm_map[0] = kvm_mmap(2 * PAGE_SIZE, PROT_READ, MAP_SHARED, fd);
	t->host_map[1] = t->host_map[0] + PAGE_SIZE;
	t->kvm_map[1] = t->kvm_map[0] + PAGE_SIZE;
	close(fd);

	t->published = addr_gva2hva(vm, (gva_t)published[i]);
	t->saved = kvm_mmap(NPAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	for (u64 page = 0; page < NPAGES; page++) {
		atomic_store(&t->state[page], ABSENT);
		set_bits(t, page);
	}
	update(t, t->s->region.flags | UF);
}

/* What the guest would have found next. */
static void check_slot(struct slot *t, u32 nr_vcpus)
{
	u64 page, i, *p, counted;

	fill_all(t);
	for (page = 0; page < NPAGES; page++) {
		p = userfault_alias(t->s, page);
		for (i = 1; !t->written && i < WORDS; i++)
			TEST_ASSERT_EQ(p[i], userfault_pattern_word(HOME(t->index) / PAGE_SIZE +
								    page, p[0], i));
		for (i = 0; t->written && i < nr_vcpus; i++) {
			counted = seen[i][t->index][page];
			TEST_ASSERT(p[i] == counted || p[i] == counted + 1,
				    "Slot %lu page %lu vCPU %lu: %lu counted, %lu found",
				    t->index, page, i, counted, p[i]);
		}
		if (!t->written)
			TEST_ASSERT_EQ(p[0], t->published[page]);
	}
}

static bool all_happened(void)
{
	for (int i = 0; i < NR_OPS; i++) {
		if (!atomic_load(&ops[i]) && (i != OP_PREFAULT || kvm_is_tdp_enabled()))
			return false;
	}
	return true;
}

int main(int argc, char *argv[])
{
	const struct vm_shape shape = VM_SHAPE_DEFAULT;
	pthread_t threads[MAX_VCPUS + NR_MUTATORS];
	u64 i, checks = 0, oddities = 0, mask = 0;
	u32 nr_vcpus = 4, seconds = 10;
	struct kvm_vm *vm;
	time_t end;
	int opt;

	TEST_REQUIRE_USERFAULT();
	seed = time(NULL);
	while ((opt = getopt(argc, argv, "v:t:s:")) != -1) {
		switch (opt) {
		case 'v':
			nr_vcpus = atoi_positive("Number of vCPUs", optarg);
			break;
		case 't':
			seconds = atoi_positive("Seconds", optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			TEST_FAIL("usage: %s [-v vCPUs] [-t seconds] [-s seed]", argv[0]);
		}
	}
	TEST_ASSERT(nr_vcpus <= MAX_VCPUS, "At most %d vCPUs", MAX_VCPUS);
	pr_info("%u vCPUs, %u seconds, seed %lu\n", nr_vcpus, seconds, seed);

	vm = __vm_create_with_vcpus(shape, nr_vcpus, 1024, guest_code, vcpus);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_ACCESS);
	vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	for (i = 0; i < NR_SLOTS; i++) {
		create_slot(vm, i);
		mask |= kinds[i].written ? BIT(i) : 0;
	}

	for (i = 0; i < nr_vcpus; i++) {
		vcpu_args_set(vcpus[i], 3, i, seed + 300 + i, mask);
		kvm_pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);
	}
	for (i = 0; i < NR_MUTATORS; i++)
		kvm_pthread_create(&threads[nr_vcpus + i], NULL, mutator, (void *)i);

	/* On a slow machine, longer: until everything has happened. */
	end = time(NULL) + seconds;
	while (time(NULL) < end || (!all_happened() && time(NULL) < end + 60))
		usleep(100000);
	WRITE_ONCE(stop, true);
	for (i = 0; i < nr_vcpus + NR_MUTATORS; i++)
		kvm_pthread_join(threads[i], NULL);

	sync_global_from_guest(vm, seen);
	sync_global_from_guest(vm, nr_checks);
	sync_global_from_guest(vm, nr_oddities);
	for (i = 0; i < nr_vcpus; i++) {
		checks += nr_checks[i];
		oddities += nr_oddities[i];
	}
	pr_info("%lu pages looked at, %lu reads emulated too late\n", checks, oddities);
	for (i = 0; i < NR_OPS; i++)
		pr_info("%8lu %s\n", atomic_load(&ops[i]), op_names[i]);

	for (i = 0; i < NR_SLOTS; i++)
		check_slot(&slots[i], nr_vcpus);
	TEST_ASSERT(all_happened(), "Something never happened");
	TEST_ASSERT(oddities <= nr_vcpus * (atomic_load(&ops[OP_DELETE]) +
					    2 * atomic_load(&ops[OP_MOVE])),
		    "More odd reads than slots that came back");

	for (i = 0; i < NR_SLOTS; i++) {
		userfault_slot_free(slots[i].s);
		kvm_munmap(slots[i].host_map[0], 2 * PAGE_SIZE);
		kvm_munmap(slots[i].kvm_map[0], 2 * PAGE_SIZE);
		kvm_munmap(slots[i].saved, NPAGES * PAGE_SIZE);
	}
	kvm_vm_free(vm);
	return 0;
}
