// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that checks or writes pages of a userfault_slot.
 */
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_guest.h"

static struct {
	u64 base, first, nr, generation;
	bool write;
} guest_work;

static int guest_tries = 1;

void userfault_guest_code(void)
{
	for (;;) {
		u64 generation = READ_ONCE(guest_work.generation);
		u64 first = READ_ONCE(guest_work.first);
		u64 base = READ_ONCE(guest_work.base);
		u64 nr = READ_ONCE(guest_work.nr), i;
		bool write = READ_ONCE(guest_work.write);

		for (i = first; i < first + nr; i++) {
			void *page = (void *)(base + i * PAGE_SIZE);
			int bad = -1, tries;

			if (write) {
				userfault_pattern_fill(page, PAGE_SIZE, i, generation);
				continue;
			}
			for (tries = READ_ONCE(guest_tries); tries; tries--) {
				bad = userfault_pattern_check(page, PAGE_SIZE, i,
							      generation);
				if (bad < 0)
					break;
			}
			__GUEST_ASSERT(bad < 0, "Page %lu, word %d: 0x%lx, wanted 0x%lx",
				       i, bad, ((u64 *)page)[bad],
				       userfault_pattern_word(i, generation, bad));
		}
		GUEST_SYNC(0);
	}
}

struct userfault_slot *userfault_guest_create(struct kvm_vcpu **vcpu, u32 slot,
					      gpa_t gpa, u64 npages,
					      enum userfault_backing backing)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, userfault_guest_code);
	struct userfault_slot *s;

	s = userfault_slot_alloc(vm, slot, gpa, npages, backing);
	virt_map(vm, gpa, gpa, npages);
	for (u64 i = 0; i < npages; i++)
		userfault_guest_fill(s, i, 0);
	return s;
}

void userfault_guest_destroy(struct userfault_slot *s)
{
	struct kvm_vm *vm = s->vm;

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

void userfault_guest_fill(struct userfault_slot *s, u64 page, u64 generation)
{
	userfault_pattern_fill(userfault_alias(s, page), s->page_size, page,
			       generation);
}

void userfault_guest_resolve(struct userfault_slot *s, u64 page, u64 generation)
{
	userfault_guest_fill(s, page, generation);
	userfault_clear_bit(s, page);
}

void userfault_guest_set(struct kvm_vm *vm, gpa_t base, u64 first, u64 nr,
			 u64 generation, bool write)
{
	guest_work.base = base;
	guest_work.first = first;
	guest_work.nr = nr;
	guest_work.generation = generation;
	guest_work.write = write;
	sync_global_to_guest(vm, guest_work);
}

void userfault_guest_set_tries(struct kvm_vm *vm, int tries)
{
	guest_tries = tries;
	sync_global_to_guest(vm, guest_tries);
}

void userfault_guest_run_on(struct kvm_vcpu *vcpu)
{
	u64 exits = vcpu_get_stat(vcpu, userfault_exits);

	vcpu_run(vcpu);
	userfault_assert_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), exits);
}

void userfault_guest_read(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			  u64 first, u64 nr, u64 generation)
{
	userfault_guest_set(vcpu->vm, userfault_gpa(s, 0), first, nr, generation, false);
	userfault_guest_run_on(vcpu);
}

void userfault_guest_write(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			   u64 first, u64 nr, u64 generation)
{
	userfault_guest_set(vcpu->vm, userfault_gpa(s, 0), first, nr, generation, true);
	userfault_guest_run_on(vcpu);
}

void userfault_guest_read_absent(struct kvm_vcpu *vcpu, struct userfault_slot *s,
				 u64 page, u64 generation)
{
	memset(userfault_alias(s, page), 0xee, s->page_size);
	userfault_guest_set(vcpu->vm, userfault_gpa(s, 0), page, 1, generation, false);
	userfault_run_expect(vcpu, userfault_gpa(s, page), 0);
	userfault_guest_resolve(s, page, generation);
	userfault_guest_run_on(vcpu);
}

bool userfault_guest_mmio(struct kvm_vcpu *vcpu, gpa_t base, u64 generation)
{
	struct kvm_run *run = vcpu->run;
	u64 offset = run->mmio.phys_addr - base, word;

	if (run->exit_reason != KVM_EXIT_MMIO)
		return false;

	TEST_ASSERT(!run->mmio.is_write && run->mmio.len == sizeof(word) &&
		    !(offset % sizeof(word)), "MMIO %s of %u bytes at 0x%llx",
		    run->mmio.is_write ? "write" : "read", run->mmio.len,
		    run->mmio.phys_addr);
	word = userfault_pattern_word(offset / PAGE_SIZE, generation,
				      offset % PAGE_SIZE / sizeof(word));
	memcpy(run->mmio.data, &word, sizeof(word));
	return true;
}

void userfault_guest_read_missing(struct kvm_vcpu *vcpu, gpa_t base, u64 page,
				  u64 generation)
{
	u64 words;

	userfault_guest_set(vcpu->vm, base, page, 1, generation, false);
	for (words = 0; ; words++) {
		vcpu_run(vcpu);
		if (!userfault_guest_mmio(vcpu, base, generation))
			break;
	}
	userfault_assert_sync(vcpu);
	TEST_ASSERT_EQ(words, PAGE_SIZE / sizeof(u64));
}
