/* SPDX-License-Identifier: GPL-2.0 */
/*
 * demand_paging_test -k: the memory is paged in on KVM userfault exits, with a
 * content that depends on the page, and is verified at the end.
 */
#ifndef SELFTEST_KVM_USERFAULT_DEMAND_H
#define SELFTEST_KVM_USERFAULT_DEMAND_H

#include "kvm_util.h"

/*
 * Arm memstress's memslot, every page absent.  @page_size is what is paged in
 * at a time, @uffd_mode a UFFDIO_REGISTER_MODE_* or 0 if there is none.
 */
void userfault_demand_start(struct kvm_vm *vm, size_t page_size, int uffd_mode);
/* With a @uffd_mode: @uffd is registered for this range. */
void userfault_demand_add_uffd(void *hva, u64 size, int uffd);

/*
 * What to put into the page at @addr, in KVM's mapping or the alias: its
 * pattern, in a buffer of the calling thread, or @otherwise without -k.
 */
void *userfault_demand_source(void *addr, void *otherwise);

/* Resolve the exit if it was a userfault; if so, run the vCPU again. */
bool userfault_demand_handle(struct kvm_vcpu *vcpu, int ret);

/* Every page is there, has its pattern, and one write of the guest. */
void userfault_demand_verify(void);

#endif /* SELFTEST_KVM_USERFAULT_DEMAND_H */
