// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault: what an exit says, field by field, for each kind of access
 * and each kind of memory, with and without KVM_USERFAULT_FEATURE_ACCESS; and
 * what KVM_PRE_FAULT_MEMORY says instead.
 */
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define GENERATION	3

/* A gva whose page table, as opposed to itself, is in the slot. */
#define WALK_GVA	0xd0000000ul
#define WALK_PT_PAGE	(NPAGES - 1)

#define X86_RET		0xc3

enum access { READ, WRITE, FETCH, WALK };

static const u64 access_flags[] = {
	[READ]	= KVM_MEMORY_EXIT_FLAG_READ,
	[WRITE]	= KVM_MEMORY_EXIT_FLAG_WRITE,
	[FETCH]	= KVM_MEMORY_EXIT_FLAG_EXEC,
	/* The CPU walks guest page tables with writes, for A/D bits. */
	[WALK]	= KVM_MEMORY_EXIT_FLAG_WRITE | KVM_MEMORY_EXIT_FLAG_PAGE_WALK,
};

static enum access guest_access;
static u64 guest_gva;

static void guest_code(void)
{
	for (;;) {
		u64 *p = (u64 *)READ_ONCE(guest_gva);

		switch (READ_ONCE(guest_access)) {
		case READ:
		case WALK:
			READ_ONCE(*p);
			break;
		case WRITE:
			WRITE_ONCE(*p, 0x5757575757575757ull);
			break;
		case FETCH:
			((void (*)(void))p)();
			break;
		}
		GUEST_SYNC(0);
	}
}

static void set_guest_access(struct kvm_vm *vm, enum access access, u64 gva)
{
	guest_access = access;
	guest_gva = gva;
	sync_global_to_guest(vm, guest_access);
	sync_global_to_guest(vm, guest_gva);
}

static u64 nr_exits(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, userfault_exits);
}

/*
 * The access exits as often as the vCPU is run while the bit is set, and goes
 * through once the page was filled and the bit cleared.
 */
static void test_access(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			enum access access, u64 page, bool with_access, u64 extra)
{
	u64 flags = extra | (with_access ? access_flags[access] : 0);
	u64 gva = access == WALK ? WALK_GVA : GVA + page * PAGE_SIZE;
	u64 before = nr_exits(vcpu);
	int i;

	userfault_set_bit(s, page);
	set_guest_access(s->vm, access, gva);

	for (i = 0; i < 3; i++)
		userfault_run_expect(vcpu, userfault_gpa(s, page), flags);
	TEST_ASSERT_EQ(nr_exits(vcpu), before + 3);

	if (extra & KVM_MEMORY_EXIT_FLAG_PRIVATE)
		userfault_clear_bit(s, page);
	else
		userfault_resolve(s, page, GENERATION);

	/* A page that is executed or walked has to have the right content. */
	if (access == FETCH)
		*(u8 *)userfault_alias(s, page) = X86_RET;
	if (access == WALK)
		memcpy(userfault_alias(s, page),
		       (void *)((uintptr_t)vm_get_pte(s->vm, GVA) & ~(PAGE_SIZE - 1)),
		       PAGE_SIZE);

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
	TEST_ASSERT_EQ(nr_exits(vcpu), before + 3);

	if (access == READ && !(extra & KVM_MEMORY_EXIT_FLAG_PRIVATE))
		userfault_check(s, page, GENERATION);
	if (access == WRITE && !(extra & KVM_MEMORY_EXIT_FLAG_PRIVATE))
		TEST_ASSERT_EQ(*(u64 *)userfault_alias(s, page),
			       0x5757575757575757ull);
}

static void enable_access(struct kvm_vm *vm)
{
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS);
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, unsigned long type)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = type,
	};

	return vm_create_shape_with_one_vcpu(shape, vcpu, guest_code);
}

/* Point the page directory entry of WALK_GVA at a page of the slot. */
static void map_walk_gva(struct kvm_vm *vm, struct userfault_slot *s)
{
	const u64 mask = GENMASK_ULL(51, 12);
	u64 entry = vm->mmu.pgd, *pde = NULL;
	int level;

	virt_map(vm, WALK_GVA, GPA, 1);
	for (level = vm->mmu.pgtable_levels; level > PG_LEVEL_4K; level--) {
		pde = (u64 *)addr_gpa2hva(vm, entry & mask) +
		      ((WALK_GVA >> (PAGE_SHIFT + 9 * (level - 1))) & 511);
		entry = *pde;
	}
	*pde = (entry & ~mask) | userfault_gpa(s, WALK_PT_PAGE);
}

static void test_backing(enum userfault_backing backing, bool with_access)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	const char *why;
	struct kvm_vm *vm;

	vm = create_vm(&vcpu, VM_TYPE_DEFAULT);
	if (!userfault_backing_usable(vm, backing, &why)) {
		pr_info("%s: left out: %s\n", userfault_backing_name(backing), why);
		TEST_ASSERT(backing == USERFAULT_ANON_HUGETLB ||
			    backing == USERFAULT_ANON_THP,
			    "This memory has to be there: %s", why);
		kvm_vm_free(vm);
		return;
	}
	pr_info("%s%s\n", userfault_backing_name(backing),
		with_access ? ", ACCESS" : "");

	if (with_access)
		enable_access(vm);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing,
				  KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);

	test_access(vcpu, s, READ, 0, with_access, 0);
	test_access(vcpu, s, WRITE, 1, with_access, 0);
	test_access(vcpu, s, FETCH, 2, with_access, 0);
	test_access(vcpu, s, READ, NPAGES - 2, with_access, 0);

	/*
	 * With shadow paging KVM itself reads the guest's page tables, which no
	 * bitmap stops (yet).
	 */
	if (kvm_is_tdp_enabled()) {
		map_walk_gva(vm, s);
		test_access(vcpu, s, WALK, WALK_PT_PAGE, with_access, 0);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* The private half exits with PRIVATE, the shared one of the same slot not. */
static void test_private(bool with_access)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (!kvm_is_tdp_enabled()) {
		pr_info("private: needs nested paging\n");
		return;
	}
	TEST_ASSERT(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM),
		    "No software-protected VMs");
	pr_info("private%s\n", with_access ? ", ACCESS" : "");

	vm = create_vm(&vcpu, KVM_X86_SW_PROTECTED_VM);
	if (with_access)
		enable_access(vm);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_GMEM_PRIVATE,
				  KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	vm_mem_set_private(vm, GPA, 4 * PAGE_SIZE);

	test_access(vcpu, s, READ, 0, with_access, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	test_access(vcpu, s, WRITE, 1, with_access, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	test_access(vcpu, s, READ, 4, with_access, 0);
	test_access(vcpu, s, WRITE, 5, with_access, 0);

	/* Converted, the page is found absent again: the bit is the page's. */
	userfault_set_bit(s, 0);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	test_access(vcpu, s, READ, 0, with_access, 0);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * No memory behind the pointer, for the whole map or part of it: not mapped,
 * not MMIO, and over as soon as there is some.
 */
static void test_unreadable(bool with_access)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int r, i;

	pr_info("unreadable bitmap%s\n", with_access ? ", ACCESS" : "");

	vm = create_vm(&vcpu, VM_TYPE_DEFAULT);
	if (with_access)
		enable_access(vm);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON,
				  KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	userfault_resolve(s, 0, GENERATION);
	set_guest_access(vm, WRITE, GVA);

	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_NONE), "mprotect");
	for (i = 0; i < 2; i++) {
		vcpu->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
		vcpu->run->memory_fault.flags = ~0ull;
		r = __userfault_run(vcpu);
		TEST_ASSERT(r == -1 && errno == EFAULT, "KVM_RUN: %d, %s", r,
			    strerror(errno));
		if (with_access)
			userfault_assert_exit(vcpu, r, GPA,
					      KVM_MEMORY_EXIT_FLAG_USERFAULT |
					      KVM_MEMORY_EXIT_FLAG_WRITE |
					      KVM_MEMORY_EXIT_FLAG_BITMAP);
		else
			TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_UNKNOWN);
	}

	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_READ | PROT_WRITE),
		    "mprotect");
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static int pre_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = gpa,
		.size = size,
	};

	return __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
}

/* Not an access: an error instead of an exit, and vcpu->run is not touched. */
static void test_pre_fault(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_run before;
	struct kvm_vm *vm;
	u64 exits;
	int r;

	if (!kvm_is_tdp_enabled()) {
		pr_info("KVM_PRE_FAULT_MEMORY: needs nested paging\n");
		return;
	}
	pr_info("KVM_PRE_FAULT_MEMORY\n");

	vm = create_vm(&vcpu, VM_TYPE_DEFAULT);
	enable_access(vm);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON,
				  KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	userfault_resolve(s, 0, GENERATION);

	memset(vcpu->run, 0xa5, sizeof(*vcpu->run));
	before = *vcpu->run;
	exits = nr_exits(vcpu);

	TEST_ASSERT(!pre_fault(vcpu, GPA, PAGE_SIZE), "A present page");
	r = pre_fault(vcpu, GPA + PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT(r == -1 && errno == EAGAIN, "An absent page: %d, %s", r,
		    strerror(errno));

	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_NONE), "mprotect");
	r = pre_fault(vcpu, GPA + PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT(r == -1 && errno == EFAULT, "An unreadable map: %d, %s", r,
		    strerror(errno));
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_READ | PROT_WRITE),
		    "mprotect");

	TEST_ASSERT(!memcmp(&before, vcpu->run, sizeof(before)),
		    "KVM_PRE_FAULT_MEMORY wrote to vcpu->run");
	TEST_ASSERT_EQ(nr_exits(vcpu), exits);

	/* It did not map the absent page either. */
	memset(vcpu->run, 0, sizeof(*vcpu->run));
	test_access(vcpu, s, READ, 1, true, 0);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	static const enum userfault_backing backings[] = {
		USERFAULT_ANON, USERFAULT_ANON_THP, USERFAULT_SHMEM,
		USERFAULT_GMEM,
	};
	int i, with_access;

	TEST_REQUIRE_USERFAULT();

	for (with_access = 0; with_access <= 1; with_access++) {
		for (i = 0; i < ARRAY_SIZE(backings); i++)
			test_backing(backings[i], with_access);
		test_private(with_access);
		test_unreadable(with_access);
	}
	test_pre_fault();
	return 0;
}
