// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libkuf in a VMM: a guest whose memory is in a file, and comes when it is touched.
 * Exit status 4: this kernel cannot do it.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <kuf/kuf.h>

#define PAGE	4096u
#define GPA	0x10000u
#define LEN	0x80000u	/* 128 pages */
#define PORT	0x10

/* Real mode: reads the first word of each page and writes it to the port. */
static const unsigned char code[] = {
	0xb8, 0x00, 0x10,		/*	mov	$0x1000, %ax */
	0x8e, 0xd8,			/* 1:	mov	%ax, %ds */
	0x8b, 0x1e, 0x00, 0x00,		/*	mov	0, %bx */
	0x93,				/*	xchg	%ax, %bx */
	0xe7, PORT,			/*	out	%ax, $PORT */
	0x93,				/*	xchg	%ax, %bx */
	0x05, 0x00, 0x01,		/*	add	$0x100, %ax */
	0x3d, 0x00, 0x90,		/*	cmp	$0x9000, %ax */
	0x75, 0xee,			/*	jne	1b */
	0xf4,				/*	hlt */
};

static void check(int ret, const char *what)
{
	if (ret < 0)
		errx(1, "%s: %s", what, strerror(ret == -1 ? errno : -ret));
}

static void *memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

/* What the guest shall find: a page's number, times 257. */
static int make_file(void)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	unsigned short word;
	unsigned int i;

	check(fd, "memfd_create");
	check(ftruncate(fd, LEN), "ftruncate");
	for (i = 0; i < LEN / PAGE; i++) {
		word = i * 257;
		check(pwrite(fd, &word, sizeof(word), i * PAGE), "pwrite");
	}
	return fd;
}

static int make_vcpu(int vm, int kvm, struct kvm_run **run)
{
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_sregs sregs;
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);

	check(vcpu, "KVM_CREATE_VCPU");
	*run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		    MAP_SHARED, vcpu, 0);
	if (*run == MAP_FAILED)
		err(1, "mmap of the vCPU");
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	return vcpu;
}

int main(void)
{
	struct kvm_userspace_memory_region low = { .slot = 0, .memory_size = PAGE };
	struct kuf_region region = { .size = sizeof(region), .slot = 1, .gpa = GPA, .len = LEN,
				     .gmem_fd = -1, .fd = -1 };
	struct kuf_file_range range = { .gpa = GPA, .len = LEN, .fd = make_file() };
	struct kuf_exit ex = { .size = sizeof(ex), .flags = KUF_EXIT_SERVE };
	struct kuf_params params = { .size = sizeof(params) };
	struct kuf_probe probe = { .size = sizeof(probe) };
	struct kuf_stats stats = { .size = sizeof(stats) };
	unsigned int pages = 0, wrong = 0;
	struct kuf_file_source *source;
	struct kvm_run *run;
	char message[200];
	struct kuf *k;
	int kvm, vcpu;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(4, "/dev/kvm");
	params.vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
	check(params.vm_fd, "KVM_CREATE_VM");
	probe.vm_fd = params.vm_fd;
	probe.message = message;
	probe.message_size = sizeof(message);
	if (kuf_probe(&probe))
		errx(4, "%s", message);

	low.userspace_addr = (unsigned long)memcpy(memory(PAGE), code, sizeof(code));
	check(ioctl(params.vm_fd, KVM_SET_USER_MEMORY_REGION, &low), "memslot 0");
	check(kuf_create(&params, &k), "kuf_create");
	region.hva = memory(LEN);
	check(kuf_region_add(k, &region), "kuf_region_add");
	check(kuf_file_source_create(&range, 1, 0, &source), "kuf_file_source_create");
	check(kuf_set_source(k, kuf_file_source_ops(), source), "kuf_set_source");
	check(kuf_arm(k, region.id), "kuf_arm");

	vcpu = make_vcpu(params.vm_fd, kvm, &run);
	do {
		int error = ioctl(vcpu, KVM_RUN, 0) < 0 ? errno : 0;

		check(kuf_vcpu_exit(k, run, error, &ex), "kuf_vcpu_exit");
		if (ex.action == KUF_RUN_AGAIN)
			continue;
		if (error || (run->exit_reason != KVM_EXIT_IO && run->exit_reason != KVM_EXIT_HLT))
			errx(1, "KVM_RUN: %s, exit reason %u", strerror(error), run->exit_reason);
		if (run->exit_reason == KVM_EXIT_IO) {
			wrong += *(unsigned short *)((char *)run + run->io.data_offset) !=
				 (unsigned short)(pages * 257);
			pages++;
		}
	} while (run->exit_reason != KVM_EXIT_HLT);

	check(kuf_get_stats(k, &stats), "kuf_get_stats");
	check(kuf_disarm(k, region.id, 0), "kuf_disarm");
	printf("KTAP version 1\n1..2\n# %u pages read, %u wrong, %lu exits, %lu installed\n",
	       pages, wrong, (unsigned long)stats.exits, (unsigned long)stats.installed);
	printf("%sok 1 content\n", pages == LEN / PAGE && !wrong ? "" : "not ");
	printf("%sok 2 once\n", stats.exits == pages && stats.installed == pages ? "" : "not ");
	kuf_destroy(k);
	kuf_file_source_destroy(source);
	return pages != LEN / PAGE || wrong || stats.exits != pages || stats.installed != pages;
}
