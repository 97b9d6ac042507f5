// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and poison: instructions that touch a poisoned page, carried out by
 * the CPU or emulated by KVM.  KVM_RUN ends with the address, registers are those from
 * before, and KVM_USERFAULT_INJECT gives the guest a machine check with that address;
 * or KVM does that itself.  The guest sees the same.
 */
#include "kvm_util.h"
#include "mce.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_poison.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul

#define PAGE_A		4ul
#define PAGE_B		5ul
/* Two pages meet here; an operand of 8 bytes has half of them in each. */
#define SPLIT		(GVA + PAGE_B * PAGE_SIZE - 4)

#define MMIO_GPA	0xd0000000ul
#define MMIO_GVA	MMIO_GPA

#define VALUE		0x1122334455667788ull

#define NR_BANKS	10
#define BANK		9

enum op {
	OP_LOAD, OP_STORE, OP_FETCH, OP_SPLIT, OP_MOVS, OP_CMPXCHG, OP_WALK,
	NR_NATIVE,
	OP_FEP_LOAD = NR_NATIVE, OP_FEP_STORE, OP_FEP_SPLIT, OP_FEP_MOVS, OP_FEP_CMPXCHG,
	OP_FEP_CODE, OP_FEP_LGDT, OP_FEP_WALK, OP_FROM_MMIO,
	NR_OPS,
};

struct what {
	const char *name;
	u64 page;
	/* What the exit says; of the page tables' walk KVM need not know more. */
	u64 access;
	bool own;
};

#define READ	KVM_MEMORY_EXIT_FLAG_READ
#define WRITE	KVM_MEMORY_EXIT_FLAG_WRITE
#define EXEC	KVM_MEMORY_EXIT_FLAG_EXEC
#define WALK	KVM_MEMORY_EXIT_FLAG_PAGE_WALK

static const struct what ops[NR_OPS] = {
	[OP_LOAD] = { "load", PAGE_A, READ },
	[OP_STORE] = { "store", PAGE_A, WRITE },
	[OP_FETCH] = { "fetch", PAGE_A, EXEC },
	[OP_SPLIT] = { "store to two pages", PAGE_B, WRITE },
	[OP_MOVS] = { "rep movs", PAGE_B, WRITE },
	[OP_CMPXCHG] = { "lock cmpxchg", PAGE_A, READ | WRITE },
	[OP_WALK] = { "page table", USERFAULT_PT, WALK },
	[OP_FEP_LOAD] = { "emulated load", PAGE_A, READ, true },
	[OP_FEP_STORE] = { "emulated store", PAGE_A, WRITE, true },
	[OP_FEP_SPLIT] = { "emulated store to two pages", PAGE_B, WRITE, true },
	[OP_FEP_MOVS] = { "emulated rep movs", PAGE_B, WRITE, true },
	[OP_FEP_CMPXCHG] = { "emulated lock cmpxchg", PAGE_A, READ, true },
	[OP_FEP_CODE] = { "emulated code", PAGE_B, READ, true },
	[OP_FEP_LGDT] = { "emulated lgdt", PAGE_A, READ, true },
	[OP_FEP_WALK] = { "emulated, page table", USERFAULT_PT, WALK, true },
	[OP_FROM_MMIO] = { "from MMIO", PAGE_A, WRITE, true },
};

static struct {
	u64 op, skip;
	/* Where an instruction begins that is to be stopped, and where to go on. */
	u64 begin, resume;
	/* What the handler of the machine check found. */
	u64 checks, rip, mcg_status, status, addr, misc;
	u64 rcx;
} guest;

/* @insn begins at guest.begin, and guest.resume is behind it. */
#define STOPPED(insn, ...)						\
	asm volatile("lea 1f(%%rip), %%rax\n\t"				\
		     "mov %%rax, %[begin]\n\t"				\
		     "lea 2f(%%rip), %%rax\n\t"				\
		     "mov %%rax, %[resume]\n\t"				\
		     "1: " insn "\n\t"					\
		     "2:\n\t"						\
		     : [begin] "=m"(guest.begin), [resume] "=m"(guest.resume),	\
		       ##__VA_ARGS__ : "rax", "memory", "cc")

static void on_machine_check(struct ex_regs *regs)
{
	guest.checks++;
	guest.rip = regs->rip;
	guest.rcx = regs->rcx;
	guest.mcg_status = rdmsr(MSR_IA32_MCG_STATUS);
	guest.status = rdmsr(MSR_IA32_MCx_STATUS(BANK));
	guest.addr = rdmsr(MSR_IA32_MCx_ADDR(BANK));
	guest.misc = rdmsr(MSR_IA32_MCx_MISC(BANK));
	wrmsr(MSR_IA32_MCx_STATUS(BANK), 0);
	wrmsr(MSR_IA32_MCG_STATUS, 0);
	regs->rip = guest.resume;
}

static void do_op(u64 op)
{
	u64 *a = (u64 *)(GVA + PAGE_A * PAGE_SIZE), *b = (u64 *)SPLIT;
	u64 *deep = (u64 *)(USERFAULT_TABLES_GVA + PAGE_A * PAGE_SIZE);
	u8 *from = (u8 *)GVA, *to = (u8 *)GVA + PAGE_B * PAGE_SIZE - 8;
	u64 code = GVA + PAGE_B * PAGE_SIZE - 6, count = 16;
	void *mmio = (void *)MMIO_GVA, *p = a;
	u64 stack, value = VALUE;

	switch (op) {
	case OP_LOAD:
		STOPPED("mov %[a], %[v]", [v] "=r"(value) : [a] "m"(*a));
		break;
	case OP_STORE:
		STOPPED("mov %[v], %[a]", [a] "=m"(*a) : [v] "r"(value));
		break;
	case OP_FETCH:
		/* The machine check comes at its target, with a stack to go back from. */
		asm volatile("mov %%rsp, %[stack]\n\t"
			     "lea 1f(%%rip), %%rax\n\t"
			     "mov %%rax, %[resume]\n\t"
			     "mov %[a], %[begin]\n\t"
			     "jmp *%[a]\n\t"
			     "1:\n\t"
			     : [stack] "=m"(stack), [begin] "=m"(guest.begin),
			       [resume] "=m"(guest.resume) : [a] "r"(a) : "rax", "memory");
		break;
	case OP_SPLIT:
		STOPPED("mov %[v], %[b]", [b] "=m"(*b) : [v] "r"(value));
		break;
	case OP_MOVS:
		STOPPED("rep movsb", "+S"(from), "+D"(to), "+c"(count) :);
		break;
	case OP_CMPXCHG:
		STOPPED("lock; cmpxchg %[v], %[a]", [a] "+m"(*a) : [v] "r"(value));
		break;
	case OP_WALK:
		invlpg((u64)deep);
		STOPPED("mov %[a], %[v]", [v] "=r"(value) : [a] "m"(*deep));
		break;
	case OP_FEP_LOAD:
		STOPPED(KVM_FEP "mov %[a], %[v]", [v] "=r"(value) : [a] "m"(*a));
		break;
	case OP_FEP_STORE:
		STOPPED(KVM_FEP "mov %[v], %[a]", [a] "=m"(*a) : [v] "r"(value));
		break;
	case OP_FEP_SPLIT:
		STOPPED(KVM_FEP "mov %[v], %[b]", [b] "=m"(*b) : [v] "r"(value));
		break;
	case OP_FEP_MOVS:
		STOPPED(KVM_FEP "rep movsb", "+S"(from), "+D"(to), "+c"(count) :);
		break;
	case OP_FEP_CMPXCHG:
		STOPPED(KVM_FEP "lock; cmpxchg %[v], %[a]", [a] "+m"(*a) : [v] "r"(value));
		break;
	case OP_FEP_CODE:
		/* The prefix is there, and a byte of what it is for. */
		asm volatile("lea 1f(%%rip), %%rax\n\t"
			     "mov %%rax, %[resume]\n\t"
			     "mov %[code], %[begin]\n\t"
			     "jmp *%[code]\n\t"
			     "1:\n\t"
			     : [begin] "=m"(guest.begin), [resume] "=m"(guest.resume)
			     : [code] "r"(code) : "rax", "memory");
		break;
	case OP_FEP_LGDT:
		STOPPED(KVM_FEP "lgdt (%[p])", "+m"(*a) : [p] "r"(p));
		break;
	case OP_FEP_WALK:
		STOPPED(KVM_FEP "mov (%[p]), %[v]", [v] "=r"(value) : [p] "r"(deep));
		break;
	case OP_FROM_MMIO:
		STOPPED("movsq", "+S"(mmio), "+D"(p) :);
		break;
	}
}

static void guest_code(void)
{
	set_cr4(get_cr4() | X86_CR4_MCE);
	for (;;) {
		GUEST_SYNC(0);
		do_op(READ_ONCE(guest.op));
	}
}

/* ud2; "kvm", and what follows on the next page. */
static void put_code(struct userfault_slot *s)
{
	static const u8 code[] = { 0x0f, 0x0b, 'k', 'v', 'm', 0x48 };

	memcpy((u8 *)userfault_alias(s, PAGE_B) - sizeof(code), code, sizeof(code));
}

static void op_begin(struct userfault_slot *s, enum op op)
{
	for (u64 page = PAGE_A; page <= PAGE_B; page++)
		memset(userfault_alias(s, page), 0x5a, PAGE_SIZE);
	if (op == OP_FEP_CODE)
		put_code(s);
	memset(&guest, 0, sizeof(guest));
	guest.op = op;
	sync_global_to_guest(s->vm, guest);
}

static bool intel;

/* KVM steps over its prefix before it emulates what follows. */
static u64 rip_of(enum op op)
{
	return guest.begin + (op >= OP_FEP_LOAD && op != OP_FROM_MMIO ? 5 : 0);
}

static void assert_machine_check(struct kvm_vm *vm, enum op op, gpa_t gpa)
{
	u64 status = MCI_STATUS_VAL | MCI_STATUS_UC | MCI_STATUS_EN | MCI_STATUS_ADDRV |
		     MCI_STATUS_MISCV;

	if (intel)
		status |= 1ull << 56 | 1ull << 55 | (ops[op].access & EXEC ? 0x150 : 0x134);
	else
		status |= 1ull << 43;

	sync_global_from_guest(vm, guest);
	TEST_ASSERT_EQ(guest.checks, 1);
	TEST_ASSERT_EQ(guest.rip, rip_of(op));
	TEST_ASSERT_EQ(guest.addr, gpa);
	TEST_ASSERT_EQ(guest.status, status);
	TEST_ASSERT_EQ(guest.misc, 2 << 6 | 12);
	/* MCIP, and the interrupted instruction can be gone back to. */
	TEST_ASSERT_EQ(guest.mcg_status, 7);
}

/* What the guest reads from a device must not depend on poison. */
static int run(struct kvm_vcpu *vcpu)
{
	int ret = __userfault_run(vcpu);

	while (!ret && vcpu->run->exit_reason == KVM_EXIT_MMIO) {
		TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, MMIO_GPA);
		memset(vcpu->run->mmio.data, 0x77, 8);
		ret = __userfault_run(vcpu);
	}
	return ret;
}

static void test_op(struct userfault_slot *s, struct kvm_vcpu *vcpu, enum op op, bool in_kernel)
{
	const struct what *what = &ops[op];
	gpa_t gpa = userfault_gpa(s, what->page);
	struct kvm_regs before, after;
	u64 hits, left;
	int ret;

	op_begin(s, op);
	hits = vcpu_get_stat(vcpu, userfault_poison_hits);
	userfault_poison(s->vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);

	ret = run(vcpu);
	if (!in_kernel) {
		userfault_assert_poison_exit(vcpu, ret, gpa, what->access, what->own);
		sync_global_from_guest(s->vm, guest);
		vcpu_regs_get(vcpu, &before);
		TEST_ASSERT_EQ(before.rip, rip_of(op));
		/* As often as it is run; by the CPU, if the prefix has been stepped over. */
		if (rip_of(op) == guest.begin) {
			ret = run(vcpu);
			userfault_assert_poison_exit(vcpu, ret, gpa, what->access, what->own);
			hits++;
		}
		vcpu_regs_get(vcpu, &after);
		TEST_ASSERT(!memcmp(&before, &after, sizeof(before)), "Registers have changed");

		TEST_ASSERT_EQ(userfault_inject(vcpu, gpa, vcpu_fault_access(vcpu), 0),
			       KVM_USERFAULT_INJECT_QUEUED);
		ret = run(vcpu);
	}
	TEST_ASSERT(!ret, "KVM_RUN: %d, errno %d, exit reason %u", ret, errno,
		    vcpu->run->exit_reason);
	userfault_assert_sync(vcpu);
	assert_machine_check(s->vm, op, gpa);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_poison_hits), hits + 1);
	if (op == OP_MOVS || op == OP_FEP_MOVS) {
		/* What came before the page is done, and done once. */
		left = guest.rcx;
		TEST_ASSERT_EQ(left, 8);
	}

	userfault_poison(s->vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_CLEAR);
}

static void test_ops(enum userfault_backing backing, bool fep, bool in_kernel)
{
	u64 features = KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_ACCESS |
		       KVM_USERFAULT_FEATURE_RESCAN;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	userfault_setup_mce(vcpu, NR_BANKS);
	if (in_kernel)
		features |= KVM_USERFAULT_FEATURE_POISON_INJECT;
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, features);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	virt_map(vm, MMIO_GVA, MMIO_GPA, 1);
	userfault_tables_create(s);
	vm_install_exception_handler(vm, MC_VECTOR, on_machine_check);
	userfault_run_sync(vcpu);

	for (enum op op = 0; op < NR_OPS; op++) {
		if (op >= NR_NATIVE && op != OP_FROM_MMIO && !fep)
			continue;
		pr_info("  %s, %s%s\n", userfault_backing_name(backing), ops[op].name,
			in_kernel ? ", in the kernel" : "");
		test_op(s, vcpu, op, in_kernel);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	bool fep;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);
	intel = host_cpu_is_intel;
	fep = userfault_force_emulation();

	for (int in_kernel = 0; in_kernel < 2; in_kernel++) {
		test_ops(USERFAULT_ANON, fep, in_kernel);
		test_ops(USERFAULT_GMEM, fep, in_kernel);
	}
	return 0;
}
