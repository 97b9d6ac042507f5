// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and the emulator: instructions that KVM carries out itself, and of
 * which an operand, the code, the descriptor or a page table is absent.  The vCPU
 * waits for it in the middle of the instruction, with what that has done already
 * done once: a device sees one access, and memory the result of one.
 */
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul

/* Pages of the slot, behind the page tables. */
#define PAGE_A		4ul
#define PAGE_B		5ul
#define PAGE_GDT	8ul

#define MMIO_GPA	0xd0000000ul
#define MMIO_GVA	MMIO_GPA
#define PORT		0x2010

#define OLD		0x1122334455667788ull
#define NEW		0x99aabbccddeeff01ull

/* Two pages meet here; an operand of 8 bytes has half of them in each. */
#define SPLIT		(GVA + PAGE_B * PAGE_SIZE - 4)
#define STRING_LEN	8

enum op {
	OP_LOAD, OP_STORE, OP_STORE_SPLIT, OP_LOAD_SPLIT, OP_ADD, OP_XCHG, OP_CMPXCHG,
	OP_CMPXCHG8B, OP_PUSH, OP_POP, OP_CALL, OP_MOVS, OP_LGDT, OP_SEGMENT, OP_CODE,
	OP_PREFIX, OP_WALK_PT, OP_WALK_PD, OP_WALK_PDPT, NR_FORCED,
	OP_MMIO_LOAD = NR_FORCED, OP_MMIO_STORE, OP_OUTS, OP_INS,
};

static struct {
	u64 op, result;
} guest;

/* In front of PAGE_B, so that only its last bytes, or KVM's prefix, are there. */
static void call_code(u64 bytes_before)
{
	u64 code = GVA + PAGE_B * PAGE_SIZE - bytes_before;

	asm volatile("call *%1" : "=a"(guest.result) : "r"(code) : "memory");
}

static u64 do_op(u64 op)
{
	u64 *a = (u64 *)(GVA + PAGE_A * PAGE_SIZE), *b = (u64 *)SPLIT;
	u64 deep = USERFAULT_TABLES_GVA + PAGE_A * PAGE_SIZE;
	u64 value = NEW, count = STRING_LEN;
	u32 lo = (u32)OLD, hi = OLD >> 32;
	struct desc_ptr gdt = get_gdt();
	u8 *string = (u8 *)GVA + PAGE_B * PAGE_SIZE - STRING_LEN / 2;
	void *mmio = (void *)MMIO_GVA, *p = a;

	switch (op) {
	case OP_LOAD:
		asm volatile(KVM_FEP "mov %1, %0" : "=r"(value) : "m"(*a) : "memory");
		return value;
	case OP_LOAD_SPLIT:
		asm volatile(KVM_FEP "mov %1, %0" : "=r"(value) : "m"(*b) : "memory");
		return value;
	case OP_STORE:
		asm volatile(KVM_FEP "mov %1, %0" : "=m"(*a) : "r"(value) : "memory");
		return 0;
	case OP_STORE_SPLIT:
		asm volatile(KVM_FEP "mov %1, %0" : "=m"(*b) : "r"(value) : "memory");
		return 0;
	case OP_ADD:
		asm volatile(KVM_FEP "lock; addq $1, %0" : "+m"(*a) : : "memory", "cc");
		return 0;
	case OP_XCHG:
		asm volatile(KVM_FEP "xchg %0, %1" : "+m"(*a), "+r"(value) : : "memory");
		return value;
	case OP_CMPXCHG: {
		u64 old = OLD;

		asm volatile(KVM_FEP "lock; cmpxchg %2, %0" : "+m"(*a), "+a"(old) : "r"(value) :
		    "memory", "cc");
		return old;
	}
	case OP_CMPXCHG8B:
		asm volatile(KVM_FEP "lock; cmpxchg8b %0" : "+m"(*a), "+a"(lo), "+d"(hi) :
		    "b"((u32)NEW), "c"((u32)(NEW >> 32)) : "memory", "cc");
		return (u64)hi << 32 | lo;
	case OP_PUSH:
		p = a + 1;
		asm volatile("xchg %%rsp, %0\n\t" KVM_FEP "push %1\n\t"
			     "xchg %%rsp, %0" : "+r"(p) : "r"(value) : "memory");
		return (u64)p;
	case OP_POP:
		asm volatile("xchg %%rsp, %0\n\t" KVM_FEP "pop %1\n\t"
			     "xchg %%rsp, %0" : "+r"(p), "=r"(value) : : "memory");
		GUEST_ASSERT_EQ(p, a + 1);
		return value;
	case OP_CALL:
		p = a + 1;
		asm volatile("xchg %%rsp, %0\n\t" KVM_FEP "call 1f\n\t"
			     "1: xchg %%rsp, %0\n\t"
			     "lea 1b(%%rip), %1"
			     : "+r"(p), "=&r"(value) : : "memory");
		GUEST_ASSERT_EQ(p, a);
		return value;
	case OP_MOVS:
		/* From one absent page to another. */
		string = (u8 *)GVA + PAGE_B * PAGE_SIZE;
		asm volatile(KVM_FEP "rep movsb"
			     : "+S"(string), "+D"(p), "+c"(count) : : "memory");
		GUEST_ASSERT_EQ(p, (u8 *)a + STRING_LEN);
		return count;
	case OP_LGDT:
		asm volatile(KVM_FEP "lgdt (%0)" : : "r"(a) : "memory");
		value = get_gdt().address;
		asm volatile("lgdt %0" : : "m"(gdt));
		return value;
	case OP_SEGMENT:
		asm volatile(KVM_FEP "mov %0, %%fs" : : "r"(get_ds()) : "memory");
		return 0;
	case OP_CODE:
		/* The opcode is there, half of the operand is not. */
		call_code(5 + 4);
		return guest.result;
	case OP_PREFIX:
		/* The CPU needs UD2 only, KVM reads on. */
		call_code(2);
		return guest.result;
	case OP_WALK_PT:
	case OP_WALK_PD:
	case OP_WALK_PDPT:
		asm volatile(KVM_FEP "mov (%1), %0" : "=r"(value) : "r"(deep) : "memory");
		return value;
	case OP_MMIO_LOAD:
		asm volatile("movsq" : "+S"(mmio), "+D"(p) : : "memory");
		GUEST_ASSERT_EQ(p, a + 1);
		return 0;
	case OP_MMIO_STORE:
		/* Left to itself the CPU would find the page missing, not KVM. */
		asm volatile(KVM_FEP "movsq" : "+S"(p), "+D"(mmio) : : "memory");
		GUEST_ASSERT_EQ(p, a + 1);
		return 0;
	case OP_OUTS:
		asm volatile("rep outsb" : "+S"(string), "+c"(count) : "d"(PORT) : "memory");
		return count;
	case OP_INS:
		asm volatile("rep insb" : "+D"(string), "+c"(count) : "d"(PORT) : "memory");
		return count;
	}
	GUEST_FAIL("Operation %lu?", op);
	return 0;
}

static void guest_code(void)
{
	struct desc_ptr gdt = get_gdt();
	u64 op;

	/* The table of descriptors has to be somewhere to be absent. */
	gdt.address = GVA + PAGE_GDT * PAGE_SIZE;
	asm volatile("lgdt %0" : : "m"(gdt));

	for (;;) {
		GUEST_SYNC(0);
		op = READ_ONCE(guest.op);
		WRITE_ONCE(guest.result, do_op(op));
	}
}

static u64 *word(struct userfault_slot *s, u64 page)
{
	return userfault_alias(s, page);
}

static u8 *split(struct userfault_slot *s)
{
	return (u8 *)userfault_alias(s, PAGE_B) - 4;
}

/* mov $OLD, %rax; ret; with KVM's prefix, @before bytes of it in front of PAGE_B. */
static void put_code(struct userfault_slot *s, u64 before)
{
	u8 code[] = { 0x0f, 0x0b, 'k', 'v', 'm', 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3 };
	u64 value = OLD;

	memcpy(&code[7], &value, sizeof(value));
	memcpy((u8 *)userfault_alias(s, PAGE_B) - before, code, sizeof(code));
}

static void op_begin(struct kvm_vm *vm, enum op op)
{
	guest.op = op;
	guest.result = ~0ull;
	sync_global_to_guest(vm, guest);
}

static u64 op_end(struct kvm_vcpu *vcpu)
{
	userfault_assert_sync(vcpu);
	sync_global_from_guest(vcpu->vm, guest);
	return guest.result;
}

struct forced {
	const char *name;
	/* What is taken away, and up to two events for that. */
	u64 page, flags, page2, flags2;
};

static const struct forced forced_ops[NR_FORCED] = {
	[OP_LOAD] = { "load", PAGE_A, USERFAULT_OWN_READ },
	[OP_STORE] = { "store", PAGE_A, USERFAULT_OWN_WRITE },
	[OP_LOAD_SPLIT] = { "load, half of it absent", PAGE_B, USERFAULT_OWN_READ },
	[OP_STORE_SPLIT] = { "store, half of it absent", PAGE_B, USERFAULT_OWN_WRITE },
	[OP_ADD] = { "lock add", PAGE_A, USERFAULT_OWN_READ },
	[OP_XCHG] = { "xchg", PAGE_A, USERFAULT_OWN_READ },
	[OP_CMPXCHG] = { "lock cmpxchg", PAGE_A, USERFAULT_OWN_READ },
	[OP_CMPXCHG8B] = { "lock cmpxchg8b", PAGE_A, USERFAULT_OWN_READ },
	[OP_PUSH] = { "push", PAGE_A, USERFAULT_OWN_WRITE },
	[OP_POP] = { "pop", PAGE_A, USERFAULT_OWN_READ },
	[OP_CALL] = { "call", PAGE_A, USERFAULT_OWN_WRITE },
	[OP_MOVS] = { "rep movs", PAGE_A, USERFAULT_OWN_WRITE, PAGE_B, USERFAULT_OWN_READ },
	[OP_LGDT] = { "lgdt", PAGE_A, USERFAULT_OWN_READ },
	[OP_SEGMENT] = { "mov to a segment", PAGE_GDT, USERFAULT_OWN_READ },
	[OP_CODE] = { "code", PAGE_B, USERFAULT_OWN_READ },
	[OP_PREFIX] = { "prefix", PAGE_B, USERFAULT_OWN_READ },
	[OP_WALK_PT] = { "page table", USERFAULT_PT, USERFAULT_OWN_WALK },
	[OP_WALK_PD] = { "page directory", USERFAULT_PD, USERFAULT_OWN_WALK },
	[OP_WALK_PDPT] = { "pdpt", USERFAULT_PDPT, USERFAULT_OWN_WALK },
};

static void prepare(struct userfault_slot *s, enum op op)
{
	u8 *half = split(s);
	u64 old = OLD;

	memset(userfault_alias(s, PAGE_A), 0, PAGE_SIZE);
	memset(userfault_alias(s, PAGE_B), 0, PAGE_SIZE);
	word(s, PAGE_A)[0] = OLD;
	memcpy(half, &old, sizeof(old));
	if (op == OP_CODE)
		put_code(s, 5 + 4);
	if (op == OP_PREFIX)
		put_code(s, 2);
	if (op == OP_MOVS)
		word(s, PAGE_B)[0] = NEW;
	/* A limit and a base that are not the guest's. */
	if (op == OP_LGDT)
		word(s, PAGE_A)[0] = (GVA << 16) | 0xff;
}

/* What the guest has got, and what is in memory. */
static void check_forced(struct userfault_slot *s, enum op op, u64 result)
{
	u64 a = word(s, PAGE_A)[0], halves;

	memcpy(&halves, split(s), sizeof(halves));
	switch (op) {
	case OP_STORE:
		TEST_ASSERT_EQ(a, NEW);
		break;
	case OP_STORE_SPLIT:
		TEST_ASSERT_EQ(halves, NEW);
		break;
	case OP_ADD:
		TEST_ASSERT_EQ(a, OLD + 1);
		break;
	case OP_XCHG:
	case OP_CMPXCHG:
	case OP_CMPXCHG8B:
		TEST_ASSERT_EQ(result, OLD);
		TEST_ASSERT_EQ(a, NEW);
		break;
	case OP_PUSH:
		TEST_ASSERT_EQ(result, GVA + PAGE_A * PAGE_SIZE);
		TEST_ASSERT_EQ(a, NEW);
		break;
	case OP_CALL:
		TEST_ASSERT_EQ(result, a);
		break;
	case OP_MOVS:
		TEST_ASSERT_EQ(result, 0);
		TEST_ASSERT_EQ(a, NEW);
		break;
	case OP_LGDT:
		TEST_ASSERT_EQ(result, GVA);
		break;
	case OP_SEGMENT:
		TEST_ASSERT_EQ(result, 0);
		break;
	default:
		TEST_ASSERT_EQ(result, OLD);
	}
}

static void test_forced(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	const struct forced *f;
	u64 waits;
	enum op op;

	for (op = 0; op < NR_FORCED; op++) {
		f = &forced_ops[op];
		pr_info("  %s\n", f->name);
		prepare(t->s, op);

		userfault_take(t, f->page);
		if (f->page2)
			userfault_take(t, f->page2);
		waits = vcpu_get_stat(vcpu, userfault_own_waits);
		op_begin(vcpu->vm, op);
		userfault_take_run_ok(t, vcpu);
		check_forced(t->s, op, op_end(vcpu));

		/* The source comes first. */
		if (f->page2)
			userfault_take_assert_event(t, 2, 0, f->page2, f->flags2);
		userfault_take_assert_event(t, 1 + !!f->page2, !!f->page2, f->page,
					    f->flags);
		TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_own_waits),
			       waits + t->nr_events);
	}
}

static void assert_mmio(struct kvm_vcpu *vcpu, bool write)
{
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, MMIO_GPA);
	TEST_ASSERT_EQ(vcpu->run->mmio.len, 8);
	TEST_ASSERT_EQ(vcpu->run->mmio.is_write, write);
}

/* From a device to an absent page: the device is read once, before. */
static void test_mmio_load(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	u64 value = NEW;

	prepare(t->s, OP_MMIO_LOAD);
	userfault_take(t, PAGE_A);
	op_begin(vcpu->vm, OP_MMIO_LOAD);

	userfault_take_run_ok(t, vcpu);
	assert_mmio(vcpu, false);
	TEST_ASSERT_EQ(t->nr_events, 0);

	memcpy(vcpu->run->mmio.data, &value, sizeof(value));
	userfault_take_run_ok(t, vcpu);
	TEST_ASSERT_EQ(op_end(vcpu), 0);
	userfault_take_assert_one(t, PAGE_A, USERFAULT_OWN_WRITE);
	TEST_ASSERT_EQ(word(t->s, PAGE_A)[0], NEW);
}

/* The other way round: what the device gets is what was filled. */
static void test_mmio_store(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	u64 value;

	prepare(t->s, OP_MMIO_STORE);
	userfault_take(t, PAGE_A);
	op_begin(vcpu->vm, OP_MMIO_STORE);

	userfault_take_run_ok(t, vcpu);
	assert_mmio(vcpu, true);
	userfault_take_assert_one(t, PAGE_A, USERFAULT_OWN_READ);
	memcpy(&value, vcpu->run->mmio.data, sizeof(value));
	TEST_ASSERT_EQ(value, OLD);

	userfault_take_run_ok(t, vcpu);
	TEST_ASSERT_EQ(op_end(vcpu), 0);
	TEST_ASSERT_EQ(t->nr_events, 0);
}

/* A string to or from a port, of which the second half is absent. */
static void test_string(struct userfault_taker *t, struct kvm_vcpu *vcpu, bool out)
{
	u8 *string = (u8 *)userfault_alias(t->s, PAGE_B) - STRING_LEN / 2;
	unsigned int done = 0, events = 0, i, n;
	u8 *data;

	prepare(t->s, OP_OUTS);
	for (i = 0; i < STRING_LEN; i++)
		string[i] = i + 1;
	userfault_take(t, PAGE_B);
	op_begin(vcpu->vm, out ? OP_OUTS : OP_INS);

	for (;;) {
		userfault_take_run_ok(t, vcpu);
		if (t->nr_events) {
			userfault_take_assert_one(t, PAGE_B, out ? USERFAULT_OWN_READ :
								   USERFAULT_OWN_WRITE);
			events++;
		}
		if (vcpu->run->exit_reason != KVM_EXIT_IO ||
		    vcpu->run->io.port != PORT)
			break;

		TEST_ASSERT_EQ(vcpu->run->io.direction,
			       out ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN);
		n = vcpu->run->io.count;
		TEST_ASSERT(n && n <= STRING_LEN - done, "%u more after %u", n, done);
		data = (u8 *)vcpu->run + vcpu->run->io.data_offset;
		for (i = 0; i < n; i++, done++) {
			if (out)
				TEST_ASSERT_EQ(data[i], done + 1);
			else
				data[i] = 0x80 + done;
		}
	}

	TEST_ASSERT_EQ(op_end(vcpu), 0);
	TEST_ASSERT_EQ(done, STRING_LEN);
	TEST_ASSERT_EQ(events, 1);
	for (i = 0; i < STRING_LEN; i++)
		TEST_ASSERT_EQ(string[i], out ? i + 1 : 0x80 + i);
}

static struct userfault_slot *create(struct kvm_vcpu **vcpu, bool own,
				     enum userfault_backing backing)
{
	struct userfault_slot *s;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(vcpu, guest_code);
	userfault_enable_take(vm, own);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	virt_map(vm, MMIO_GVA, MMIO_GPA, 1);
	userfault_tables_create(s);
	memcpy(userfault_alias(s, PAGE_GDT), addr_gva2hva(vm, vm->arch.gdt), PAGE_SIZE);
	userfault_arm(s);

	userfault_run_sync(*vcpu);
	return s;
}

static void test_own(enum userfault_backing backing, bool fep)
{
	struct userfault_taker *t;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	pr_info("%s\n", userfault_backing_name(backing));
	s = create(&vcpu, true, backing);
	vm = s->vm;
	t = userfault_taker_create(s, true);

	test_mmio_load(t, vcpu);
	test_string(t, vcpu, true);
	test_string(t, vcpu, false);
	if (fep) {
		test_mmio_store(t, vcpu);
		test_forced(t, vcpu);
	}

	userfault_taker_free(t);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Without the feature KVM takes what is there. */
static void test_not_asked_for(bool fep)
{
	struct userfault_taker *t;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 value = NEW;

	pr_info("without KVM_USERFAULT_FEATURE_OWN\n");
	s = create(&vcpu, false, USERFAULT_ANON);
	vm = s->vm;
	t = userfault_taker_create(s, true);

	userfault_take(t, PAGE_A);
	op_begin(vm, OP_MMIO_LOAD);
	userfault_run(vcpu);
	assert_mmio(vcpu, false);
	memcpy(vcpu->run->mmio.data, &value, sizeof(value));
	userfault_run(vcpu);
	TEST_ASSERT_EQ(op_end(vcpu), 0);
	TEST_ASSERT_EQ(word(s, PAGE_A)[0], NEW);

	if (fep) {
		op_begin(vm, OP_LOAD);
		userfault_run(vcpu);
		TEST_ASSERT_EQ(op_end(vcpu), NEW);
	}
	userfault_fd_assert_quiet(t->fd);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_own_waits), 0);

	userfault_taker_free(t);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	bool fep;

	TEST_REQUIRE_USERFAULT();
	fep = userfault_force_emulation();
	if (!fep)
		pr_info("KVM_FEP is not there: MMIO and port I/O only\n");

	test_own(USERFAULT_ANON, fep);
	test_own(USERFAULT_GMEM, fep);
	test_not_asked_for(fep);
	return 0;
}
