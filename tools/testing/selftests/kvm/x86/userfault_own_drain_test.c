// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault: who takes a page back, by RESCAN, as poison or by arming its slot, may
 * use the page for something else when the ioctl returns.  So that waits for accesses
 * of KVM's own that had found the page present and are not done with it.
 *
 * Such an access is made to last by userfaultfd: the page's bit is clear, but the
 * host's page table has no entry for it, or one that may not be written to.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define PAGE		6ul
#define OTHER_PAGE	7ul

#define OLD		0x1122334455667788ull
#define NEW		0x99aabbccddeeff01ull

enum op { OP_LOAD, OP_STORE, OP_CMPXCHG, OP_WALK, NR_OPS };

static const char * const op_names[NR_OPS] = {
	"a load", "a store", "a cmpxchg", "marking an entry accessed"
};

static struct {
	u64 op, result;
} guest;

static void guest_code(void)
{
	u64 *p = (u64 *)(GVA + PAGE * PAGE_SIZE);
	u64 *deep = (u64 *)(USERFAULT_TABLES_GVA + OTHER_PAGE * PAGE_SIZE);
	u64 value;

	for (;;) {
		GUEST_SYNC(0);
		value = OLD;
		switch (READ_ONCE(guest.op)) {
		case OP_LOAD:
			asm volatile(KVM_FEP "mov %1, %0" : "=r"(value) : "m"(*p) :
				     "memory");
			break;
		case OP_STORE:
			asm volatile(KVM_FEP "mov %1, %0" : "=m"(*p) : "r"(NEW) :
				     "memory");
			break;
		case OP_CMPXCHG:
			asm volatile(KVM_FEP "lock; cmpxchg %2, %0"
				     : "+m"(*p), "+a"(value) : "r"(NEW) : "memory", "cc");
			break;
		case OP_WALK:
			asm volatile(KVM_FEP "mov %1, %0" : "=r"(value) : "m"(*deep) :
				     "memory");
			break;
		}
		WRITE_ONCE(guest.result, value);
	}
}

/*
 * userfaultfd on one page.
 */
static int uffd_open(void *page, u64 mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)page, .len = PAGE_SIZE },
		.mode = mode,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	TEST_ASSERT(fd >= 0, "userfaultfd: %s", strerror(errno));
	TEST_ASSERT(!ioctl(fd, UFFDIO_API, &api), "UFFDIO_API: %s", strerror(errno));
	TEST_ASSERT(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
		    strerror(errno));
	return fd;
}

static void uffd_protect(int fd, void *page, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)page, .len = PAGE_SIZE },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	TEST_ASSERT(!ioctl(fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT: %s",
		    strerror(errno));
}

static void uffd_copy(int fd, void *page, void *content)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page,
		.src = (uintptr_t)content,
		.len = PAGE_SIZE,
	};

	TEST_ASSERT(!ioctl(fd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
}

static void uffd_wait(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;

	TEST_ASSERT(poll(&p, 1, USERFAULT_TIMEOUT_MS) == 1, "The access does not begin");
	TEST_ASSERT_EQ(read(fd, &msg, sizeof(msg)), sizeof(msg));
	TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
}

/*
 * The other side, in a thread.
 */
enum way { BY_RESCAN, BY_POISON, BY_ARMING };

static const char * const how_names[] = { "RESCAN", "POISON", "Arming" };

struct taking {
	struct userfault_slot *s;
	u64 page;
	enum way how;
	struct kvm_userfault_range range;
	pthread_t thread;
	bool begun, done;
	int ret, error;
};

static void *take_page(void *arg)
{
	struct taking *t = arg;

	__atomic_store_n(&t->begun, true, __ATOMIC_RELEASE);
	switch (t->how) {
	case BY_RESCAN:
		t->ret = __vm_ioctl(t->s->vm, KVM_USERFAULT_RESCAN, &t->range);
		break;
	case BY_POISON:
		t->ret = __vm_ioctl(t->s->vm, KVM_USERFAULT_POISON, &t->range);
		break;
	case BY_ARMING:
		t->ret = __userfault_slot_update(t->s, t->s->region.flags |
						 KVM_MEM_USERFAULT, t->s->bitmap);
		break;
	}
	t->error = errno;
	__atomic_store_n(&t->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void taking_start(struct taking *t, struct userfault_slot *s, u64 page, enum way by)
{
	*t = (struct taking) {
		.s = s,
		.page = page,
		.how = by,
		.range = {
			.gpa = userfault_gpa(s, page),
			.size = PAGE_SIZE,
			.flags = by == BY_POISON ? KVM_USERFAULT_POISON_SET : 0,
			.as_id = by == BY_POISON ? 0 : KVM_USERFAULT_AS_ALL,
		},
	};
	if (by != BY_POISON)
		userfault_set_bit(s, page);
	kvm_pthread_create(&t->thread, NULL, take_page, t);
	while (!__atomic_load_n(&t->begun, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static void taking_assert_waits(struct taking *t)
{
	usleep(USERFAULT_QUIET_MS * 1000);
	TEST_ASSERT(!__atomic_load_n(&t->done, __ATOMIC_ACQUIRE),
		    "%s returned %d (%s) while an access was under way",
		    how_names[t->how], t->ret, strerror(t->error));
}

static void taking_join(struct taking *t)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += USERFAULT_TIMEOUT_MS / 1000;
	TEST_ASSERT(!pthread_timedjoin_np(t->thread, NULL, &until),
		    "The ioctl does not return");
}

static void taking_join_ok(struct taking *t)
{
	taking_join(t);
	TEST_ASSERT(!t->ret, "%s: %s", how_names[t->how], strerror(t->error));
	TEST_ASSERT_EQ(t->how == BY_ARMING || !t->range.size, true);
}

struct world {
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct userfault_runner runner;
	/* The page that the access sleeps on, and how. */
	u64 page;
	bool protect;
	int uffd;
	u64 content[PAGE_SIZE / sizeof(u64)];
};

/* The access is in the middle of it. */
static void access_begin(struct world *w, enum op op)
{
	struct userfault_slot *s = w->s;
	void *page;

	w->protect = op == OP_CMPXCHG || op == OP_WALK;
	w->page = op == OP_WALK ? USERFAULT_PT : PAGE;
	page = userfault_hva(s, w->page);

	w->content[0] = OLD;
	if (op == OP_WALK) {
		*(u64 *)userfault_alias(s, OTHER_PAGE) = OLD;
		userfault_tables_create(s);
	} else if (w->protect) {
		memcpy(page, w->content, PAGE_SIZE);
	}
	w->uffd = uffd_open(page, w->protect ? UFFDIO_REGISTER_MODE_WP :
					       UFFDIO_REGISTER_MODE_MISSING);
	if (w->protect)
		uffd_protect(w->uffd, page, true);
	else
		TEST_ASSERT(!madvise(page, PAGE_SIZE, MADV_DONTNEED), "madvise");

	guest.op = op;
	guest.result = 0;
	sync_global_to_guest(s->vm, guest);
	userfault_runner_start(&w->runner, w->vcpu);
	uffd_wait(w->uffd);
}

/* It goes on. */
static void access_let(struct world *w)
{
	void *page = userfault_hva(w->s, w->page);

	if (w->protect)
		uffd_protect(w->uffd, page, false);
	else
		uffd_copy(w->uffd, page, w->content);
}

/* It is done, if it was to be done by now. */
static void access_check(struct world *w, enum op op)
{
	u64 *page = userfault_alias(w->s, w->page);

	if (op == OP_STORE || op == OP_CMPXCHG)
		TEST_ASSERT_EQ(page[0], NEW);
	if (op == OP_WALK)
		TEST_ASSERT(page[OTHER_PAGE] & BIT_ULL(5), "Not marked accessed: 0x%lx",
			    page[OTHER_PAGE]);
}

static void access_end(struct world *w)
{
	userfault_runner_join_sync(&w->runner);
	sync_global_from_guest(w->s->vm, guest);
	TEST_ASSERT_EQ(guest.result, OLD);
	close(w->uffd);
	userfault_clear_bit(w->s, w->page);
}

/* Of memory that the guest then may have again. */
static void clear_poison(struct world *w)
{
	struct kvm_userfault_range all = {
		.flags = KVM_USERFAULT_POISON_CLEAR | KVM_USERFAULT_POISON_ALL,
	};

	vm_ioctl(w->s->vm, KVM_USERFAULT_POISON, &all);
}

static void test_range(struct world *w, enum way by, enum op op)
{
	struct taking t;

	pr_info("  %s and %s\n", how_names[by], op_names[op]);
	access_begin(w, op);
	taking_start(&t, w->s, w->page, by);
	taking_assert_waits(&t);

	/* A signal ends it; nothing was done, as far as anybody may believe. */
	TEST_ASSERT(!pthread_kill(t.thread, SIGUSR1), "pthread_kill");
	taking_join(&t);
	TEST_ASSERT(t.ret == -1 && t.error == EINTR, "%s: %d (%s)", how_names[by], t.ret,
		    strerror(t.error));
	TEST_ASSERT_EQ(t.range.gpa, userfault_gpa(w->s, w->page));
	TEST_ASSERT_EQ(t.range.size, PAGE_SIZE);

	taking_start(&t, w->s, w->page, by);
	taking_assert_waits(&t);
	access_let(w);
	taking_join_ok(&t);
	/* The page is ours, and what was under way is in it. */
	access_check(w, op);
	access_end(w);
	if (by == BY_POISON)
		clear_poison(w);
}

static void test_arm(struct world *w, enum op op)
{
	struct taking t;

	pr_info("  arming and %s\n", op_names[op]);
	userfault_disarm(w->s);
	access_begin(w, op);
	taking_start(&t, w->s, w->page, BY_ARMING);
	taking_assert_waits(&t);

	/* slots_lock is held, so a signal does not end this one. */
	TEST_ASSERT(!pthread_kill(t.thread, SIGUSR1), "pthread_kill");
	taking_assert_waits(&t);

	access_let(w);
	taking_join_ok(&t);
	access_check(w, op);
	access_end(w);
}

/* An access elsewhere that has to wait for its page is not waited for. */
static void test_waiter_elsewhere(struct world *w, struct userfault_taker *t)
{
	userfault_take(t, PAGE);
	guest.op = OP_STORE;
	sync_global_to_guest(w->s->vm, guest);
	userfault_runner_start(&w->runner, w->vcpu);
	userfault_take_event(t, PAGE, USERFAULT_OWN_WRITE);
	userfault_runner_assert_waits(&w->runner);

	userfault_set_bit(w->s, OTHER_PAGE);
	userfault_rescan(w->s, OTHER_PAGE, 1);
	userfault_clear_bit(w->s, OTHER_PAGE);
	userfault_rescan(w->s, PAGE, 1);
	/* Nor by what changes memslots in place. */
	userfault_slot_update(w->s, w->s->region.flags, w->s->bitmap);
	userfault_disarm(w->s);
	userfault_runner_join_sync(&w->runner);
	userfault_clear_bit(w->s, PAGE);
	TEST_ASSERT_EQ(*(u64 *)userfault_alias(w->s, PAGE), NEW);
	userfault_arm(w->s);
}

/* Without the feature nothing is promised, and so nothing waited for. */
static void test_not_asked_for(struct world *w)
{
	access_begin(w, OP_STORE);
	userfault_set_bit(w->s, w->page);
	userfault_rescan(w->s, w->page, 1);
	access_let(w);
	access_end(w);
}

static void on_signal(int signal)
{
}

static void test(enum userfault_backing backing, bool own)
{
	struct userfault_taker *t;
	struct world w = {};
	struct kvm_vm *vm;
	enum op op;

	pr_info("%s%s\n", userfault_backing_name(backing), own ? "" : ", not asked for");
	vm = vm_create_with_one_vcpu(&w.vcpu, guest_code);
	userfault_enable_take(vm, own);
	w.s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	userfault_tables_create(w.s);
	userfault_arm(w.s);
	t = userfault_taker_create(w.s, true);
	userfault_run_sync(w.vcpu);

	if (own) {
		for (op = 0; op < NR_OPS; op++)
			test_range(&w, BY_RESCAN, op);
		for (op = 0; op < NR_OPS; op++)
			test_arm(&w, op);
		test_waiter_elsewhere(&w, t);
	} else {
		test_not_asked_for(&w);
	}
	/* Poison is promised without OWN, too. */
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	for (op = 0; op < NR_OPS; op++)
		test_range(&w, BY_POISON, op);

	userfault_taker_free(t);
	userfault_slot_free(w.s);
	kvm_vm_free(vm);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(userfault_force_emulation());
	TEST_ASSERT(!sigaction(SIGUSR1, &action, NULL), "sigaction");

	/* Where userfaultfd write-protects what is not shared. */
	test(USERFAULT_ANON, true);
	test(USERFAULT_ANON, false);
	return 0;
}
