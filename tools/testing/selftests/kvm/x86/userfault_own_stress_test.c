// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault under load: pages, and among them page tables and what KVM writes for
 * its paravirtual clocks, go away and come back while vCPUs use all of them, by accesses
 * of their own and of KVM's.  What a page holds is moved elsewhere as soon as it is
 * taken, as a VMM would do, and junk is left behind.
 *
 * Meanwhile the handler of the userfault fd is replaced, in the middle of an event or
 * not, memslots change and signals come.  No vCPU ever sees junk, nobody writes to a
 * page that is away, and all that the guest has counted is there in the end.
 */
#include <sys/ioctl.h>
#include <unistd.h>

#include <asm/kvm_para.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_take.h"

#define SLOT		10
#define OTHER_SLOT	11
#define GPA		0xc0000000ul
#define OTHER_GPA	0xd0000000ul
#define GVA		GPA

#define NR_VCPUS	2
#define NR_DATA		6ul

/* Each vCPU has so many pages of the slot, the clocks' after the data. */
#define PER_VCPU	(NR_DATA + 2)
#define FIRST(v)	(USERFAULT_NR_TABLES + (v) * PER_VCPU)
#define CLOCK(v)	(FIRST(v) + NR_DATA)
#define STEAL(v)	(FIRST(v) + NR_DATA + 1)
#define NPAGES		(USERFAULT_NR_TABLES + NR_VCPUS * PER_VCPU)

/* An entry of the page table that points at one of the vCPU's pages, then another. */
#define ROVING(v)	(64ul + (v))

#define BATCH		32
#define JUNK32		0xeeeeeeeeu

struct vcpu_state {
	u64 count[NR_DATA];
	u64 random;
} guest_state[NR_VCPUS];

static u64 guest_random(struct vcpu_state *state, u64 below)
{
	state->random = state->random * 6364136223846793005ull + 1442695040888963407ull;
	return (state->random >> 33) % below;
}

static u64 emulated_load(u64 *p)
{
	u64 value;

	asm volatile(KVM_FEP "mov %1, %0" : "=r"(value) : "m"(*p) : "memory");
	return value;
}

static void one_access(u64 v, struct vcpu_state *state)
{
	u64 page = guest_random(state, NR_DATA);
	u64 offset = (FIRST(v) + page) * PAGE_SIZE;
	u64 *direct = (u64 *)(GVA + offset), *deep = (u64 *)(USERFAULT_TABLES_GVA + offset);
	u64 *entry = (u64 *)(GVA + USERFAULT_PT * PAGE_SIZE) + ROVING(v);
	u64 *roving = (u64 *)(USERFAULT_TABLES_GVA + ROVING(v) * PAGE_SIZE);
	u64 *p = guest_random(state, 2) ? direct : deep;
	u64 count = state->count[page], old = count;

	switch (guest_random(state, 8)) {
	case 0:
		GUEST_ASSERT_EQ(READ_ONCE(*p), count);
		return;
	case 1:
		GUEST_ASSERT_EQ(emulated_load(p), count);
		return;
	case 2:
		WRITE_ONCE(*p, count + 1);
		break;
	case 3:
		asm volatile(KVM_FEP "mov %1, %0" : "=m"(*p) : "r"(count + 1) : "memory");
		break;
	case 4:
		asm volatile(KVM_FEP "lock; cmpxchg %2, %0"
			     : "+m"(*p), "+a"(old) : "r"(count + 1) : "memory", "cc");
		GUEST_ASSERT_EQ(old, count);
		break;
	case 5:
		asm volatile(KVM_FEP "lock; addq $1, %0" : "+m"(*p) : : "memory", "cc");
		break;
	case 6:
		/* KVM reads and writes what it has shadowed. */
		WRITE_ONCE(*entry, (GPA + offset) | 0x67);
		asm volatile("invlpg (%0)" : : "r"(roving) : "memory");
		GUEST_ASSERT_EQ(READ_ONCE(*roving), count);
		return;
	case 7:
		GUEST_ASSERT_NE(READ_ONCE(*(u32 *)(GVA + CLOCK(v) * PAGE_SIZE)), JUNK32);
		GUEST_ASSERT_NE(READ_ONCE(*(u32 *)(GVA + STEAL(v) * PAGE_SIZE)), JUNK32);
		return;
	}
	state->count[page] = count + 1;
}

static void guest_code(u64 v)
{
	struct vcpu_state *state = &guest_state[v];
	int i;

	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (GPA + CLOCK(v) * PAGE_SIZE) | KVM_MSR_ENABLED);
	wrmsr(MSR_KVM_STEAL_TIME, (GPA + STEAL(v) * PAGE_SIZE) | KVM_MSR_ENABLED);
	state->random = v;

	for (;;) {
		for (i = 0; i < BATCH; i++)
			one_access(v, state);
		GUEST_SYNC(0);
	}
}

static struct {
	struct userfault_slot *s;
	struct userfault_taker *t;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];

	/* Whether a page is away; the lock of that and of its content. */
	bool away[NPAGES];
	pthread_mutex_t lock[NPAGES];

	/* The live fd and the one before it. */
	int fd;
	bool stop;
	u64 taken, events, replaced, exits, batches, slots;
} world;

static bool stopping(void)
{
	return __atomic_load_n(&world.stop, __ATOMIC_ACQUIRE);
}

static void give(u64 page)
{
	pthread_mutex_lock(&world.lock[page]);
	if (world.away[page]) {
		world.away[page] = false;
		userfault_give(world.t, page);
	}
	pthread_mutex_unlock(&world.lock[page]);
}

static void *run_vcpu(void *arg)
{
	u64 v = (u64)arg;
	struct kvm_vcpu *vcpu = world.vcpus[v];
	int r;

	while (!stopping()) {
		r = __vcpu_run(vcpu);
		if (r && errno == EINTR)
			continue;
		if (__userfault_is_exit(vcpu, r)) {
			give(userfault_page_of(world.s, vcpu->run->memory_fault.gpa));
			__atomic_add_fetch(&world.exits, 1, __ATOMIC_RELAXED);
			continue;
		}
		TEST_ASSERT(!r, "KVM_RUN: %s, exit reason %u", strerror(errno),
			    vcpu->run->exit_reason);
		userfault_assert_sync(vcpu);
		__atomic_add_fetch(&world.batches, 1, __ATOMIC_RELAXED);
		/* Have it tell the guest of a pause; there is a clock since the first batch. */
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
	}
	return NULL;
}

static void *take_pages(void *arg)
{
	unsigned int seed = 1;
	u64 page;

	while (!stopping()) {
		page = rand_r(&seed) % NPAGES;
		pthread_mutex_lock(&world.lock[page]);
		if (!world.away[page]) {
			userfault_take(world.t, page);
			world.away[page] = true;
			world.taken++;
		}
		pthread_mutex_unlock(&world.lock[page]);
		if (rand_r(&seed) % 4 == 0)
			usleep(rand_r(&seed) % 2000);
	}
	return NULL;
}

/*
 * Handlers, one after the other: each takes over from the one before, which may have
 * read events that it has not dealt with.  Some leave a gap.
 */
static void *serve(void *arg)
{
	const u32 flags = KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK;
	struct kvm_userfault_event e;
	unsigned int seed = 2;
	int fd = -1, next, left;

	while (!stopping()) {
		if (fd >= 0 && rand_r(&seed) % 2) {
			close(fd);
			fd = -1;
			usleep(rand_r(&seed) % 3000);
		}
		next = userfault_fd_create(world.s->vm,
					   flags | (fd < 0 ? 0 : KVM_USERFAULT_FD_REPLACE));
		if (fd >= 0)
			close(fd);
		fd = next;
		world.replaced++;

		for (left = 1 + rand_r(&seed) % 20; left && !stopping(); left--) {
			if (!userfault_fd_poll(fd, 20) ||
			    read(fd, &e, sizeof(e)) != sizeof(e))
				continue;
			world.events++;
			/* The last one is not dealt with, or only by half. */
			if (left == 1 && rand_r(&seed) % 2)
				break;
			give(userfault_page_of(world.s, e.gpa));
			if (left == 1)
				break;
			userfault_fd_wake(fd, e.gpa, e.size);
		}
	}

	/* Whoever waits still, is let go. */
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void *change_slots(void *arg)
{
	struct kvm_vm *vm = world.s->vm;
	u64 logged = world.s->backing == USERFAULT_GMEM ? 0 : KVM_MEM_LOG_DIRTY_PAGES;
	struct userfault_slot *other;

	/* Memory of a guest_memfd cannot be logged. */
	other = userfault_slot_alloc(vm, OTHER_SLOT, OTHER_GPA, 1, USERFAULT_ANON);
	while (!stopping()) {
		other->region.memory_size = PAGE_SIZE;
		TEST_ASSERT(!__userfault_slot_set(other), "%s", strerror(errno));
		userfault_slot_update(world.s, world.s->region.flags ^ logged,
				      world.s->bitmap);
		other->region.memory_size = 0;
		TEST_ASSERT(!__userfault_slot_set(other), "%s", strerror(errno));
		world.slots++;
		usleep(5000);
	}
	userfault_slot_free(other);
	return NULL;
}

static void on_signal(int signal)
{
}

static void *send_signals(void *arg)
{
	int i = 0;

	while (!stopping()) {
		usleep(7000);
		pthread_kill(world.threads[i++ % NR_VCPUS], SIGUSR1);
	}
	return NULL;
}

/* vCPUs may wait in place, where only a page or a handler gets them out. */
static void let_all_go(void)
{
	int fd = userfault_fd_create(world.s->vm, KVM_USERFAULT_FD_NONBLOCK);
	u64 page;
	int i;

	for (page = 0; page < NPAGES; page++)
		give(page);
	userfault_fd_wake(fd, GPA, NPAGES * PAGE_SIZE);
	for (i = 0; i < NR_VCPUS; i++) {
		while (pthread_tryjoin_np(world.threads[i], NULL)) {
			pthread_kill(world.threads[i], SIGUSR1);
			usleep(1000);
		}
	}
	close(fd);
}

static void check(void)
{
	struct userfault_slot *s = world.s;
	u64 v, page, sum = 0, total = 0;

	sync_global_from_guest(s->vm, guest_state);
	for (v = 0; v < NR_VCPUS; v++) {
		for (page = 0; page < NR_DATA; page++) {
			u64 count = guest_state[v].count[page];
			u64 found = *(u64 *)userfault_alias(s, FIRST(v) + page);

			/* The guest may have stopped between an access and counting it. */
			TEST_ASSERT(found == count || found == count + 1,
				    "vCPU %lu, page %lu: counted %lu, found 0x%lx", v, page,
				    count, found);
			total += count;
			sum += vcpu_get_stat(world.vcpus[v], userfault_own_waits);
		}
	}
	pr_info("%lu accesses counted, %lu batches; %lu pages taken, %lu events, %lu exits, %lu handlers, %lu slot changes, %lu waits in place\n",
		total, world.batches, world.taken, world.events, world.exits,
		world.replaced, world.slots, sum / NR_DATA);
	TEST_ASSERT(total && world.taken && world.events && world.replaced > 1 &&
		    world.slots && sum, "Something has not happened at all");
}

static void test(enum userfault_backing backing, unsigned int seconds)
{
	void *(*const others[])(void *) = { take_pages, serve, change_slots, send_signals };
	pthread_t threads[ARRAY_SIZE(others)];
	struct kvm_vm *vm;
	u64 i;

	pr_info("%s\n", userfault_backing_name(backing));
	memset(&world, 0, sizeof(world));
	vm = vm_create_with_vcpus(NR_VCPUS, guest_code, world.vcpus);
	userfault_enable_take(vm, true);
	world.s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	for (i = 0; i < NPAGES; i++) {
		memset(userfault_alias(world.s, i), 0, PAGE_SIZE);
		pthread_mutex_init(&world.lock[i], NULL);
	}
	virt_map(vm, GVA, GPA, NPAGES);
	userfault_tables_create(world.s);
	userfault_arm(world.s);
	world.t = userfault_taker_create(world.s, false);

	/* The clocks are on. */
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(world.vcpus[i], 1, i);
		userfault_run_sync(world.vcpus[i]);
	}

	for (i = 0; i < NR_VCPUS; i++)
		kvm_pthread_create(&world.threads[i], NULL, run_vcpu, (void *)i);
	for (i = 0; i < ARRAY_SIZE(others); i++)
		kvm_pthread_create(&threads[i], NULL, others[i], NULL);

	sleep(seconds);
	__atomic_store_n(&world.stop, true, __ATOMIC_RELEASE);
	/* The one that changes memslots waits for vCPUs that wait. */
	kvm_pthread_join(threads[0], NULL);
	kvm_pthread_join(threads[1], NULL);
	kvm_pthread_join(threads[3], NULL);
	let_all_go();
	kvm_pthread_join(threads[2], NULL);
	check();

	userfault_taker_free(world.t);
	userfault_slot_free(world.s);
	kvm_vm_free(vm);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	unsigned int seconds = 10;
	int opt;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(userfault_force_emulation());

	while ((opt = getopt(argc, argv, "t:")) != -1) {
		TEST_ASSERT(opt == 't', "usage: %s [-t seconds]", argv[0]);
		seconds = atoi_positive("Seconds", optarg);
	}

	TEST_ASSERT(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	test(USERFAULT_ANON, seconds);
	test(USERFAULT_GMEM, seconds);
	return 0;
}
