// SPDX-License-Identifier: GPL-2.0
/*
 * Pausing a machine, over and over, while its vCPUs and its disk are at work: nothing
 * moves while it is paused, and no kick, request or interrupt is lost.  Runs on any
 * host: KVM is made up here.
 *
 * Arguments: how many times (3000).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "blk.h"
#include "guest.h"
#include "vcpu.h"

#define NR_VCPUS	4
#define RUN_SIZE	8192
#define DISK		"/tmp/kuf-pause-disk"
#define PATIENCE_S	20

static struct vm vm;
static unsigned int rounds;

int kuf_error(int err, const char *fmt, ...)
{
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

static u64 load(const u64 *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

/* Until @value is another one than @old; false: it stays. */
static bool changes(const u64 *value, u64 old)
{
	struct timespec nap = { .tv_nsec = 20000 };
	time_t end = time(NULL) + PATIENCE_S;

	while (load(value) == old) {
		if (time(NULL) > end)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}

/* What KVM has of a vCPU. */
struct fake {
	int fd;
	struct kvm_run *run;
	u64 entered;		/* how many times the guest was */
	u64 inside;		/* it is now */
	u64 owed;		/* an exit whose answer was not taken */
	u64 lost;		/* nothing took it out of the guest */
};

static struct fake fakes[NR_VCPUS];
static u64 nr_fakes;

/* As KVM_RUN: takes the answer, looks at immediate_exit, and is ended by signals. */
static int fake_run(struct fake *f)
{
	struct timespec patience = { .tv_sec = PATIENCE_S };
	sigset_t kick, before;
	int r = 0;

	/* A signal that comes on the way into KVM has gone when it looks. */
	if (f->entered % 2)
		usleep(30);
	sigemptyset(&kick);
	sigaddset(&kick, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &kick, &before);
	__atomic_store_n(&f->owed, 0, __ATOMIC_RELEASE);
	if (__atomic_load_n(&f->run->immediate_exit, __ATOMIC_ACQUIRE)) {
		r = -EINTR;
		goto out;
	}
	__atomic_store_n(&f->inside, 1, __ATOMIC_RELEASE);
	if (__atomic_add_fetch(&f->entered, 1, __ATOMIC_ACQ_REL) % 3) {
		/* It halts. */
		r = ppoll(NULL, 0, &patience, &before) ? -EINTR : 0;
		f->lost += !r;
		f->run->exit_reason = KVM_EXIT_INTR;
	} else {
		f->run->exit_reason = KVM_EXIT_IO;
		f->run->io.direction = KVM_EXIT_IO_OUT;
		f->run->io.size = 1;
		f->run->io.count = 1;
		f->run->io.port = 0x80;
		f->run->io.data_offset = RUN_SIZE / 2;
		__atomic_store_n(&f->owed, 1, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&f->inside, 0, __ATOMIC_RELEASE);
out:
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = -r;
	return r ? -1 : 0;
}

static int fake_create(void)
{
	struct fake *f = &fakes[nr_fakes++];

	f->fd = memfd_create("vcpu", MFD_CLOEXEC);
	if (f->fd < 0 || ftruncate(f->fd, RUN_SIZE))
		return -1;
	f->run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	return f->run == MAP_FAILED ? -1 : dup(f->fd);
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	u64 i;

	switch (request) {
	case KVM_CREATE_VCPU:
		return fake_create();
	case KVM_RUN:
		for (i = 0; i < nr_fakes; i++) {
			if (vm.vcpus[i].fd == fd)
				return fake_run(&fakes[i]);
		}
		return -1;
	case KVM_GET_SUPPORTED_CPUID:
		((struct kvm_cpuid2 *)arg)->nent = 0;
		return 0;
	default:
		return 0;
	}
}

/* The disk's line, to an interrupt controller that goes by edges. */
static u64 edges, level;

void __wrap_vm_irq(struct vm *vm, u32 gsi, bool up)
{
	if (up && !level)
		__atomic_add_fetch(&edges, 1, __ATOMIC_ACQ_REL);
	level = up;
}

static bool stand_still(void)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		if (load(&fakes[i].inside) || load(&fakes[i].owed))
			return false;
	}
	return true;
}

static void test_vcpus(void)
{
	unsigned int i, n, moved = 0, stuck = 0;
	u64 entered[NR_VCPUS], lost = 0;

	vm.vcpu_mmap_size = RUN_SIZE;
	if (vcpus_create(&vm, NR_VCPUS) || vcpus_prepare(&vm)) {
		ktap_result(false, "vcpus");
		return;
	}
	vcpus_go(&vm);
	for (n = 0; n < rounds && !stuck && !moved && !lost; n++) {
		if (vcpus_pause(&vm))
			stuck++;
		moved += !stand_still();
		for (i = 0; i < NR_VCPUS; i++)
			lost += fakes[i].lost;
		for (i = 0; i < NR_VCPUS; i++)
			entered[i] = load(&fakes[i].entered);
		vcpus_resume(&vm);
		/* Now and then they are paused again before they notice. */
		for (i = 0; n % 4 && i < NR_VCPUS; i++)
			stuck += !changes(&fakes[i].entered, entered[i]);
	}
	vm_stop(&vm, 0);
	vcpus_kick(&vm);
	if (vcpus_wait(&vm))
		stuck++;
	else
		vcpus_join(&vm);
	printf("# %u times paused: %u moved, %u stuck, %llu kicks lost\n", n, moved, stuck,
	       (unsigned long long)lost);
	ktap_result(n == rounds && !moved && !stuck && !lost, "vcpus");
	vcpus_destroy(&vm);
}

static struct blk blk;

static void write_reg(u32 reg, u32 value)
{
	blk_access(&blk, reg, &value, sizeof(value), true);
}

static u32 read_reg(u32 reg)
{
	u32 value;

	blk_access(&blk, reg, &value, sizeof(value), false);
	return value;
}

/* One interrupt on top of another that the driver has looked at, but not acknowledged. */
static void test_edges(void)
{
	u64 before;
	bool ok;

	blk = (struct blk){ .vm = &vm };
	pthread_mutex_init(&blk.lock, NULL);
	before = load(&edges);
	blk_interrupt(&blk, VIRTIO_MMIO_INT_VRING);
	ok = load(&edges) == before + 1;
	blk_interrupt(&blk, VIRTIO_MMIO_INT_CONFIG);
	write_reg(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	ok = ok && load(&edges) == before + 2 && level &&
	     read_reg(VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_CONFIG;
	/* Acknowledged already. */
	write_reg(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	ok = ok && load(&edges) == before + 2;
	write_reg(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	ok = ok && load(&edges) == before + 2 && !level &&
	     !read_reg(VIRTIO_MMIO_INTERRUPT_STATUS);
	ktap_result(ok, "edges");
}

#define QUEUE		16
#define CHAIN		3	/* header, data, status */
#define SECTOR		512
/* Where the driver has things. */
#define DESC		0x0ul
#define AVAIL		0x1000ul
#define USED		0x2000ul
#define HEADERS		0x3000ul
#define STATUS		0x4000ul
#define DATA		0x8000ul

static void set_up_queue(void)
{
	write_reg(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	write_reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	write_reg(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	write_reg(VIRTIO_MMIO_QUEUE_NUM, QUEUE);
	write_reg(VIRTIO_MMIO_QUEUE_DESC_LOW, DESC);
	write_reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL);
	write_reg(VIRTIO_MMIO_QUEUE_USED_LOW, USED);
	write_reg(VIRTIO_MMIO_QUEUE_READY, 1);
	write_reg(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				      VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void build_request(u16 nr)
{
	struct virtio_blk_outhdr *header = (void *)(vm.mem.area + HEADERS) + nr * sizeof(*header);
	struct vring_desc *d = (struct vring_desc *)(vm.mem.area + DESC) + nr * CHAIN;
	u16 first = nr * CHAIN;

	*header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = nr };
	d[0] = (struct vring_desc){ HEADERS + nr * sizeof(*header), sizeof(*header),
				    VRING_DESC_F_NEXT, first + 1 };
	d[1] = (struct vring_desc){ DATA + nr * SECTOR, SECTOR,
				    VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, first + 2 };
	d[2] = (struct vring_desc){ STATUS + nr, 1, VRING_DESC_F_WRITE, 0 };
}

static u64 answered, driver_stuck, driver_end;

/* As a driver does: it goes to sleep until there is an edge, and for nothing else. */
static void *drive(void *arg)
{
	struct vring_avail *avail = (struct vring_avail *)(vm.mem.area + AVAIL);
	struct vring_used *used = (struct vring_used *)(vm.mem.area + USED);
	u16 posted = 0, seen = 0, nr;
	u64 edge;

	while (!load(&driver_end) && !driver_stuck) {
		for (nr = 0; nr < 1 + posted % (QUEUE / CHAIN); nr++)
			avail->ring[(u16)(posted + nr) % QUEUE] = nr * CHAIN;
		posted += nr;
		edge = load(&edges);
		__atomic_store_n(&avail->idx, posted, __ATOMIC_RELEASE);
		write_reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		while (seen != posted && !driver_stuck) {
			if (!changes(&edges, edge)) {
				driver_stuck = 1;
				break;
			}
			edge = load(&edges);
			write_reg(VIRTIO_MMIO_INTERRUPT_ACK,
				  read_reg(VIRTIO_MMIO_INTERRUPT_STATUS));
			nr = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) - seen;
			seen += nr;
			__atomic_add_fetch(&answered, nr, __ATOMIC_ACQ_REL);
		}
	}
	return NULL;
}

static bool make_disk(void)
{
	char sectors[SECTOR * QUEUE] = {};
	FILE *out = fopen(DISK, "w");
	bool ok = out && fwrite(sectors, sizeof(sectors), 1, out) == 1;

	return out && !fclose(out) && ok;
}

static void test_disk(void)
{
	struct vring_used *used = (struct vring_used *)(vm.mem.area + USED);
	unsigned int n, moved = 0, stuck = 0;
	pthread_t driver;
	u64 before;
	u16 index;

	if (!make_disk() || blk_start(&blk, &vm, DISK)) {
		ktap_result(false, "disk");
		return;
	}
	for (n = 0; n < QUEUE / CHAIN; n++)
		build_request(n);
	set_up_queue();
	pthread_create(&driver, NULL, drive, NULL);
	for (n = 0; n < rounds && !stuck && !moved; n++) {
		blk_pause(&blk);
		index = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
		before = load(&answered);
		usleep(n % 50);
		moved += __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) != index || blk.busy;
		blk_resume(&blk);
		/* Requests that were queued meanwhile are not forgotten. */
		if (n % 4)
			stuck += !changes(&answered, before);
	}
	__atomic_store_n(&driver_end, 1, __ATOMIC_RELEASE);
	pthread_join(driver, NULL);
	blk_stop(&blk);
	unlink(DISK);
	printf("# %u times paused: %u moved, %u stuck, %llu requests\n", n, moved, stuck,
	       (unsigned long long)answered);
	ktap_result(n == rounds && !moved && !stuck && !driver_stuck && !blk.broken &&
		    blk.requests == answered, "disk");
}

int main(int argc, char **argv)
{
	rounds = argc > 1 ? atoi(argv[1]) : 3000;
	pthread_mutex_init(&vm.lock, NULL);
	pthread_cond_init(&vm.stopped_cond, NULL);
	ktap_plan(3);
	if (mem_create(&vm.mem, MEM_ANON, MIN_MEM, -1)) {
		printf("Bail out! no memory\n");
		return 1;
	}
	test_edges();
	test_disk();
	test_vcpus();
	mem_destroy(&vm.mem);
	return ktap_end();
}
