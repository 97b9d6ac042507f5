// SPDX-License-Identifier: GPL-2.0
/*
 * One guest, paged in on demand in one way, checked and timed.
 */
#include <fcntl.h>
#include <time.h>
#include <linux/sizes.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "userfaultfd_util.h"
#include "userfault_fd.h"
#include "userfault_perf.h"

#define PERF_SLOT	1
#define PERF_GPA	SZ_4G
#define LOG_SLOT	2
#define LOG_GPA		(2ull * SZ_4G)

/* The callback of the library's userfaultfd handler has no room for it. */
static struct perf_cell *uffd_cell;

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

static void make_image(struct perf_cell *c)
{
	u64 npages = c->npages, page = npages / 3 | 1;
	u64 first = userfault_gfn(c->slot, 0), generation = c->generation;
	u8 *broken;
	u64 i;

	c->image = kvm_mmap(npages * PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (i = 0; i < npages; i++)
		userfault_pattern_fill(c->image + i * PAGE_SIZE, PAGE_SIZE,
				       first + i, generation);

	if (c->broken == PERF_BREAK_NOTHING)
		return;

	broken = c->image + page * PAGE_SIZE;
	switch (c->broken) {
	case PERF_BREAK_FLIP:
		/* In a word that only a check of the whole page looks at. */
		broken[(page + 100) * sizeof(u64) % PAGE_SIZE + 5] ^= 0x10;
		break;
	case PERF_BREAK_ZERO:
		memset(broken, 0, PAGE_SIZE);
		break;
	case PERF_BREAK_SWAP:
		userfault_copy_page(broken, broken - PAGE_SIZE, PAGE_SIZE);
		userfault_pattern_fill(broken - PAGE_SIZE, PAGE_SIZE,
				       first + page, generation);
		break;
	default:
		userfault_pattern_fill(broken, PAGE_SIZE, first + page,
				       generation - 1);
		break;
	}
	pr_info("page %lu of the image is wrong from here on\n", page);
}

static void uffd_copy(struct perf_cell *c, u64 page)
{
	struct uffdio_copy copy = {
		.src = (uintptr_t)c->image + page * PAGE_SIZE,
		.dst = (uintptr_t)userfault_hva(c->slot, page),
		.len = PAGE_SIZE,
	};

	TEST_ASSERT(!ioctl(c->uffd->uffd, UFFDIO_COPY, &copy),
		    "UFFDIO_COPY to page %lu failed, errno %d (%s)", page,
		    errno, strerror(errno));
}

static int handle_uffd(int uffd_mode, int uffd, struct uffd_msg *msg)
{
	struct perf_cell *c = uffd_cell;
	u64 offset = msg->arg.pagefault.address - (uintptr_t)c->slot->mem;

	c->uffd_events++;
	uffd_copy(c, offset / PAGE_SIZE);
	return 0;
}

static void handle_exit(struct perf_cell *c, u32 id)
{
	u64 page = userfault_page_of(c->slot, c->vcpus[id]->run->memory_fault.gpa);

	TEST_ASSERT(userfault_test_bit(c->slot, page),
		    "Userfault exit for page %lu, which is not absent", page);
	c->vcpu_exits[id]++;

	if (c->mode == PERF_UFFD_KUF)
		uffd_copy(c, page);
	else
		userfault_copy_page(userfault_hva(c->slot, page),
				    c->image + page * PAGE_SIZE, PAGE_SIZE);

	/* With release semantics: the content is there before the bit is not. */
	userfault_clear_bit(c->slot, page);
}

static void *handle_events(void *arg)
{
	struct kvm_userfault_event events[16];
	struct perf_cell *c = arg;
	ssize_t n, i;
	u64 page;

	while (!READ_ONCE(c->stop_handler)) {
		if (!userfault_fd_poll(c->fd, 50))
			continue;
		n = read(c->fd, events, sizeof(events));
		TEST_ASSERT(n > 0, "read of the userfault fd: %zd", n);
		for (i = 0; i < n / (ssize_t)sizeof(events[0]); i++) {
			page = userfault_page_of(c->slot, events[i].gpa);
			/* Told twice; nobody else fills pages. */
			if (!userfault_test_bit(c->slot, page))
				continue;
			c->uffd_events++;
			userfault_copy_page(userfault_hva(c->slot, page),
					    c->image + page * PAGE_SIZE, PAGE_SIZE);
			userfault_clear_bit(c->slot, page);
			userfault_fd_wake(c->fd, events[i].gpa, events[i].size);
		}
	}
	return NULL;
}

static void run_until(struct perf_cell *c, u32 id, u64 cmd, u64 stage)
{
	struct kvm_vcpu *vcpu = c->vcpus[id];
	struct ucall uc;
	int ret;

	for (;;) {
		ret = __userfault_run(vcpu);
		if (!__userfault_is_exit(vcpu, ret))
			break;
		handle_exit(c, id);
	}
	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_RUN, ret));

	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == cmd && (cmd != UCALL_SYNC || uc.args[1] == stage),
		    "vCPU %u: unexpected ucall %lu", id, uc.cmd);
}

struct perf_thread {
	struct perf_cell *cell;
	u32 id;
	pthread_t thread;
};

static void *vcpu_thread(void *arg)
{
	struct perf_thread *t = arg;
	struct perf_cell *c = t->cell;

	run_until(c, t->id, UCALL_SYNC, PERF_TOUCH);
	pthread_barrier_wait(&c->start);
	c->start_ns[t->id] = now_ns();

	run_until(c, t->id, UCALL_SYNC, PERF_CHECK);
	c->end_ns[t->id] = now_ns();
	__atomic_sub_fetch(&c->running, 1, __ATOMIC_RELEASE);

	/* No full check while another vCPU is still being timed. */
	pthread_barrier_wait(&c->touched);
	run_until(c, t->id, UCALL_DONE, 0);
	return NULL;
}

/*
 * userfaultfd has to be asked: what it cannot do differs between kernels.
 * guest_memfd up to 7.3 has no vm_uffd_ops, so that it refuses.
 */
static bool uffd_usable(struct userfault_slot *s)
{
	struct uffdio_register reg = {
		.range.start = (uintptr_t)s->mem,
		.range.len = s->npages * s->page_size,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd, ret;

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	__TEST_REQUIRE(uffd >= 0, "no userfaultfd for KVM's faults, errno %d (%s)",
		       errno, strerror(errno));
	TEST_ASSERT(!ioctl(uffd, UFFDIO_API, &api), "UFFDIO_API failed");

	ret = ioctl(uffd, UFFDIO_REGISTER, &reg);
	TEST_ASSERT(!ret || errno == EINVAL, "UFFDIO_REGISTER failed, errno %d (%s)",
		    errno, strerror(errno));
	close(uffd);
	return !ret;
}

/*
 * The host maps up to 16 pages of a file around the one that is read, so that
 * hardly any access would find its page missing there.
 */
static void set_fault_around(const char *bytes)
{
	const char *path = "/sys/kernel/debug/fault_around_bytes";
	int fd = open(path, O_WRONLY);

	TEST_ASSERT(fd >= 0, "cannot open %s, errno %d (%s)", path, errno,
		    strerror(errno));
	TEST_ASSERT(write(fd, bytes, strlen(bytes)) == (ssize_t)strlen(bytes),
		    "cannot write to %s", path);
	close(fd);
}

static void prefill(struct perf_cell *c)
{
	bool alias = c->mode == PERF_PREFILLED_ALIAS;
	u64 page;

	for (page = 0; page < c->npages; page++)
		userfault_copy_page(alias ? userfault_alias(c->slot, page) :
					    userfault_hva(c->slot, page),
				    c->image + page * PAGE_SIZE, PAGE_SIZE);
}

static void create_guest(struct perf_cell *c)
{
	u64 size = c->npages * PAGE_SIZE;
	u32 i;

	c->vm = vm_create_with_vcpus(c->nr_vcpus, perf_guest_code, c->vcpus);
	c->slot = userfault_slot_create(c->vm, PERF_SLOT, PERF_GPA, c->npages,
					c->backing, c->mode >= PERF_UFFD_KUF ?
					KVM_MEM_USERFAULT : 0);
	c->log = userfault_slot_create(c->vm, LOG_SLOT, LOG_GPA,
				       DIV_ROUND_UP(c->npages * sizeof(u64), PAGE_SIZE),
				       USERFAULT_ANON, 0);
	/* By 2M: walks of the guest's page tables stay out of the picture. */
	virt_map_level(c->vm, PERF_GPA, PERF_GPA, size, PG_LEVEL_2M);
	virt_map(c->vm, LOG_GPA, LOG_GPA, c->log->npages);

	perf_guest = (struct perf_guest) {
		.mem = PERF_GPA,
		.log = LOG_GPA,
		.first_gfn = userfault_gfn(c->slot, 0),
		.npages = c->npages,
		.nr_vcpus = c->nr_vcpus,
		.generation = c->generation,
		.seed = c->seed,
		.sequential = c->sequential,
	};
	sync_global_to_guest(c->vm, perf_guest);
	c->guest = addr_gva2hva(c->vm, (gva_t)&perf_guest);
	for (i = 0; i < c->nr_vcpus; i++)
		vcpu_args_set(c->vcpus[i], 1, i);
}

static void destroy_guest(struct perf_cell *c)
{
	if (c->image)
		kvm_munmap(c->image, c->npages * PAGE_SIZE);
	userfault_slot_free(c->log);
	userfault_slot_free(c->slot);
	kvm_vm_free(c->vm);
}

static void show_progress(struct perf_cell *c)
{
	u64 begin = now_ns(), shown = begin, now, touched;
	u32 i;

	while (__atomic_load_n(&c->running, __ATOMIC_ACQUIRE)) {
		usleep(20 * 1000);
		now = now_ns();
		if (now - shown < NSEC_PER_SEC)
			continue;
		shown = now;

		for (touched = 0, i = 0; i < c->nr_vcpus; i++)
			touched += READ_ONCE(c->guest->vcpu[i].touched);
		pr_info("  %3lu %%  %lu of %lu pages, %lu pages/s\n",
			touched * 100 / c->npages, touched, c->npages,
			touched * NSEC_PER_SEC / (now - begin));
		fflush(stdout);
	}
}

static void run_vcpus(struct perf_cell *c)
{
	struct perf_thread threads[PERF_MAX_VCPUS];
	u64 start = ~0ull, end = 0;
	u32 i;

	pthread_barrier_init(&c->start, NULL, c->nr_vcpus);
	pthread_barrier_init(&c->touched, NULL, c->nr_vcpus);
	c->running = c->nr_vcpus;

	for (i = 0; i < c->nr_vcpus; i++) {
		threads[i] = (struct perf_thread) { .cell = c, .id = i };
		kvm_pthread_create(&threads[i].thread, NULL, vcpu_thread, &threads[i]);
	}
	show_progress(c);
	for (i = 0; i < c->nr_vcpus; i++)
		kvm_pthread_join(threads[i].thread, NULL);

	for (i = 0; i < c->nr_vcpus; i++) {
		start = min(start, c->start_ns[i]);
		end = max(end, c->end_ns[i]);
	}
	c->ns = end - start;
}

/* Of what the guest saw: the pages, and the first of them in detail. */
static u64 count_guest_wrong(struct perf_cell *c)
{
	u64 wrong[PERF_STAGES] = {};
	struct perf_vcpu *v;
	u32 i, stage;

	for (i = 0; i < c->nr_vcpus; i++) {
		v = &c->guest->vcpu[i];
		for (stage = 0; stage < PERF_STAGES; stage++)
			wrong[stage] += v->wrong[stage];
		if (!v->wrong[PERF_TOUCH] && !v->wrong[PERF_CHECK])
			continue;
		pr_info("WRONG PAGE: vCPU %u, page %lu (gfn 0x%lx), word %lu: expected 0x%016lx, found 0x%016lx\n",
			i, v->page, userfault_gfn(c->slot, v->page), v->word,
			v->expected, v->found);
	}

	return max(wrong[PERF_TOUCH], wrong[PERF_CHECK]);
}

static u64 count_host_wrong(struct perf_cell *c)
{
	u64 page, wrong = 0;
	char what[128];
	int i;

	for (page = 0; page < c->npages; page++) {
		i = __userfault_check(c->slot, page, c->generation);
		if (i < 0 || ++wrong > 4)
			continue;
		userfault_diagnose(c->slot, page, c->generation, what,
				   sizeof(what));
		pr_info("WRONG PAGE: host, page %lu (gfn 0x%lx), word %d: expected 0x%016lx, found 0x%016lx (%s)\n",
			page, userfault_gfn(c->slot, page), i,
			userfault_pattern_word(userfault_gfn(c->slot, page),
					       c->generation, i),
			((u64 *)userfault_alias(c->slot, page))[i], what);
	}

	return wrong;
}

static void collect(struct perf_cell *c)
{
	u64 *log = (u64 *)c->log->mem, i, touched = 0;

	for (i = 0; i < c->nr_vcpus; i++) {
		c->exits += c->vcpu_exits[i];
		touched += c->guest->vcpu[i].touched;
	}
	TEST_ASSERT_EQ(touched, c->npages);

	c->wrong = max(count_guest_wrong(c), count_host_wrong(c));

	/*
	 * Fewer than one exit a page: KVM mapped an absent page on its own.
	 * More: it did not see that a bit was clear.
	 */
	TEST_ASSERT(c->exits == (c->mode == PERF_UFFD_KUF || c->mode == PERF_KUF ?
				 c->npages : 0),
		    "%lu userfault exits for %lu pages", c->exits, c->npages);
	if (c->mode == PERF_KUF_FD)
		TEST_ASSERT_EQ(c->uffd_events, c->npages);
	TEST_ASSERT(!userfault_count_bits(c->slot), "Pages are still absent");

	for (i = 0; i < c->npages; i++)
		log[i] = log[i] * 1000000 / guest_tsc_khz;
	userfault_hist_make(&c->hist, log, c->npages);
}

void perf_run_cell(struct perf_cell *c)
{
	bool uffd = c->mode == PERF_UFFD || c->mode == PERF_UFFD_KUF;
	bool alias = c->mode == PERF_PREFILLED_ALIAS;
	pthread_t handler;

	create_guest(c);
	if ((uffd && !uffd_usable(c->slot)) ||
	    (alias && c->slot->alias == c->slot->mem)) {
		c->unsupported = true;
		destroy_guest(c);
		return;
	}

	make_image(c);
	if (c->mode == PERF_PREFILLED || alias) {
		prefill(c);
	} else if (uffd) {
		uffd_cell = c;
		c->uffd = uffd_setup_demand_paging(UFFDIO_REGISTER_MODE_MISSING,
						   0, c->slot->mem,
						   c->npages * PAGE_SIZE, 1,
						   handle_uffd);
	}

	if (c->mode == PERF_KUF_FD) {
		vm_enable_cap(c->vm, KVM_CAP_USERFAULT_FEATURES,
			      KVM_USERFAULT_FEATURE_FD);
		c->fd = userfault_fd_create(c->vm, KVM_USERFAULT_FD_VCPU);
		kvm_pthread_create(&handler, NULL, handle_events, c);
	}
	if (alias)
		set_fault_around("4096");
	run_vcpus(c);
	if (alias)
		set_fault_around("65536");

	if (c->uffd)
		uffd_stop_demand_paging(c->uffd);
	if (c->mode == PERF_KUF_FD) {
		WRITE_ONCE(c->stop_handler, true);
		kvm_pthread_join(handler, NULL);
		close(c->fd);
	}
	collect(c);
	destroy_guest(c);
}
