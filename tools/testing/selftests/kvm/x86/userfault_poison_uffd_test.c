// SPDX-License-Identifier: GPL-2.0
/*
 * The same pages poisoned by UFFDIO_POISON and by KVM_USERFAULT_POISON: who is told what
 * when the guest, KVM, a system call or the VMM touches them.  Prints the table of
 * Documentation/virt/kvm/userfault-poison.rst, and asserts each line of it.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_poison.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		512ul
#define PAGE		7ul

enum engine { UFFD, KVM, NR_ENGINES };

static const char * const engine_names[] = { "UFFDIO_POISON", "KVM_USERFAULT_POISON" };

/* What userspace gets to know. */
enum told {
	TOLD_GPA = 1,	/* KVM_RUN: EHWPOISON, with the guest physical address */
	TOLD_SIGBUS,	/* KVM_RUN: a signal, with the VMM's address */
	TOLD_MMIO,	/* KVM_RUN: an MMIO exit, of memory */
	TOLD_ERROR,	/* an error of the call, without an address */
	TOLD_NOTHING,	/* all went well */
	TOLD_REFUSED,	/* such memory cannot be poisoned */
};

static const char * const told_names[] = {
	[TOLD_GPA] = "EHWPOISON and the gpa",
	[TOLD_SIGBUS] = "SIGBUS at the hva",
	[TOLD_MMIO] = "an MMIO exit",
	[TOLD_ERROR] = "an error, no address",
	[TOLD_NOTHING] = "nothing",
	[TOLD_REFUSED] = "cannot be poisoned",
};

enum who { BY_GUEST, BY_KVM, BY_SYSCALL, BY_VMM, NR_WHO };

static const char * const who_names[] = {
	"guest", "KVM's emulator", "a system call", "the VMM"
};

/* Of the handler's: READ_ONCE(), WRITE_ONCE() elsewhere. */
static sig_atomic_t signals, signal_code, jump;
static void *signal_addr;
static sigjmp_buf back;

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	WRITE_ONCE(signal_code, info->si_code);
	WRITE_ONCE(signal_addr, info->si_addr);
	WRITE_ONCE(signals, 1);
	if (READ_ONCE(jump))
		siglongjmp(back, 1);
}

static u64 guest_emulated;

static void guest_code(void)
{
	u64 *p = (u64 *)(GVA + PAGE * PAGE_SIZE), value;

	if (READ_ONCE(guest_emulated))
		asm volatile(KVM_FEP "mov (%1), %0" : "=r"(value) : "r"(p) : "memory");
	else
		asm volatile("mov (%1), %0" : "=r"(value) : "r"(p) : "memory");
	GUEST_SYNC(value);
}

static bool uffd_poison(struct userfault_slot *s, int *fd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)s->mem, .len = NPAGES * PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_poison poison = {
		.range = { .start = (uintptr_t)userfault_hva(s, PAGE), .len = PAGE_SIZE },
	};

	*fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	TEST_ASSERT(*fd >= 0, "userfaultfd: %s", strerror(errno));
	TEST_ASSERT(!ioctl(*fd, UFFDIO_API, &api), "UFFDIO_API: %s", strerror(errno));
	if (ioctl(*fd, UFFDIO_REGISTER, &reg)) {
		pr_info("    UFFDIO_REGISTER: %s\n", strerror(errno));
		return false;
	}
	if (ioctl(*fd, UFFDIO_POISON, &poison)) {
		pr_info("    UFFDIO_POISON: %s\n", strerror(errno));
		return false;
	}
	return true;
}

static enum told run(struct userfault_slot *s, struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	int ret = __vcpu_run(vcpu), error = errno;

	if (READ_ONCE(signals)) {
		TEST_ASSERT_EQ(READ_ONCE(signal_code), BUS_MCEERR_AR);
		TEST_ASSERT_EQ((u64)READ_ONCE(signal_addr), (u64)userfault_hva(s, PAGE));
		return TOLD_SIGBUS;
	}
	if (ret && error == EHWPOISON && run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
	    run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_POISON) {
		TEST_ASSERT_EQ(run->memory_fault.gpa, userfault_gpa(s, PAGE));
		return TOLD_GPA;
	}
	if (ret)
		return TOLD_ERROR;
	return run->exit_reason == KVM_EXIT_MMIO ? TOLD_MMIO : TOLD_NOTHING;
}

static enum told look(struct userfault_slot *s, struct kvm_vcpu *vcpu, enum who who)
{
	int fds[2], ret;

	WRITE_ONCE(signals, 0);
	switch (who) {
	case BY_GUEST:
	case BY_KVM:
		guest_emulated = who == BY_KVM;
		sync_global_to_guest(s->vm, guest_emulated);
		return run(s, vcpu);
	case BY_SYSCALL:
		TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
		ret = write(fds[1], userfault_hva(s, PAGE), 8);
		close(fds[0]);
		close(fds[1]);
		break;
	default:
		WRITE_ONCE(jump, true);
		ret = sigsetjmp(back, 1);
		if (!ret)
			READ_ONCE(*(u64 *)userfault_hva(s, PAGE));
		WRITE_ONCE(jump, false);
		break;
	}
	if (READ_ONCE(signals)) {
		TEST_ASSERT_EQ((u64)READ_ONCE(signal_addr), (u64)userfault_hva(s, PAGE));
		return TOLD_SIGBUS;
	}
	return ret < 0 ? TOLD_ERROR : TOLD_NOTHING;
}

static enum told try(enum userfault_backing backing, enum engine engine, enum who who)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	enum told told;
	int fd = -1;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_ACCESS);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	if (engine == KVM) {
		userfault_poison(vm, userfault_gpa(s, PAGE), PAGE_SIZE,
				 KVM_USERFAULT_POISON_SET);
		told = look(s, vcpu, who);
	} else {
		told = uffd_poison(s, &fd) ? look(s, vcpu, who) : TOLD_REFUSED;
	}
	if (fd >= 0)
		close(fd);
	userfault_slot_free(s);
	kvm_vm_free(vm);
	return told;
}

static const struct {
	enum userfault_backing backing;
	enum told expected[NR_ENGINES][NR_WHO];
} rows[] = {
	{ USERFAULT_ANON, {
		{ TOLD_SIGBUS, TOLD_MMIO, TOLD_ERROR, TOLD_SIGBUS },
		{ TOLD_GPA, TOLD_GPA, TOLD_NOTHING, TOLD_NOTHING } } },
	{ USERFAULT_SHMEM, {
		{ TOLD_SIGBUS, TOLD_MMIO, TOLD_ERROR, TOLD_SIGBUS },
		{ TOLD_GPA, TOLD_GPA, TOLD_NOTHING, TOLD_NOTHING } } },
	{ USERFAULT_GMEM, {
		{ TOLD_REFUSED, TOLD_REFUSED, TOLD_REFUSED, TOLD_REFUSED },
		{ TOLD_GPA, TOLD_GPA, TOLD_NOTHING, TOLD_NOTHING } } },
};

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	bool fep, differs = false;
	const char *why;
	enum told told;
	int i, e, who;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);
	TEST_ASSERT(!sigaction(SIGBUS, &action, NULL), "sigaction");
	fep = userfault_force_emulation();

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_vm *vm = vm_create_barebones();
		bool usable = userfault_backing_usable(vm, rows[i].backing, &why);

		kvm_vm_free(vm);
		if (!usable) {
			pr_info("%s: %s\n", userfault_backing_name(rows[i].backing), why);
			continue;
		}
		for (e = 0; e < NR_ENGINES; e++) {
			pr_info("%s, %s\n", userfault_backing_name(rows[i].backing),
				engine_names[e]);
			for (who = 0; who < NR_WHO; who++) {
				if (who == BY_KVM && !fep)
					continue;
				told = try(rows[i].backing, e, who);
				pr_info("  %-15s %s\n", who_names[who], told_names[told]);
				if (told == rows[i].expected[e][who])
					continue;
				differs = true;
				pr_info("    expected: %s\n",
					told_names[rows[i].expected[e][who]]);
			}
		}
	}
	TEST_ASSERT(!differs, "Some of it is not as expected, see above");
	return 0;
}
