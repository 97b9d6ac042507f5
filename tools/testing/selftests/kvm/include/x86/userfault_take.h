/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages that are taken back from a guest with all that they hold, and given back to
 * it when KVM itself asks for them.
 */
#ifndef SELFTEST_KVM_USERFAULT_TAKE_H
#define SELFTEST_KVM_USERFAULT_TAKE_H

#include "userfault_fd.h"

/* Flags of an event for an access of KVM's own. */
#define USERFAULT_OWN							\
	(KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_OWN)
#define USERFAULT_OWN_READ	(USERFAULT_OWN | KVM_MEMORY_EXIT_FLAG_READ)
#define USERFAULT_OWN_WRITE	(USERFAULT_OWN | KVM_MEMORY_EXIT_FLAG_WRITE)
#define USERFAULT_OWN_WALK	(USERFAULT_OWN_READ | KVM_MEMORY_EXIT_FLAG_PAGE_WALK)

/* What an absent page holds; as an entry of a page table it maps nothing. */
#define USERFAULT_JUNK		0xee

struct userfault_taker {
	struct userfault_slot *s;
	int fd;				/* -1: none yet */
	u8 *saved;			/* the content of what is away */
	/* A slot in another address space, whose events come to this fd. */
	struct userfault_taker *other;

	/* The last events that were served. */
	unsigned int nr_events;
	struct kvm_userfault_event events[8];
};

/* All features that userfault_take() and KVM's own accesses need; OWN if @own. */
void userfault_enable_take(struct kvm_vm *vm, bool own);
/* With fd if @fd. */
struct userfault_taker *userfault_taker_create(struct userfault_slot *s, bool fd);
/* Its slot stays. */
void userfault_taker_free(struct userfault_taker *t);

/* RESCAN of these pages, which do it in one call. */
void userfault_rescan(struct userfault_slot *s, u64 page, u64 nr);

/* From now on nobody finds anything but junk there, and nobody may look. */
void userfault_take(struct userfault_taker *t, u64 page);
/* As it was; asserts that nobody has written to it meanwhile. */
void userfault_give(struct userfault_taker *t, u64 page);

/* An event comes, for that page and with exactly these flags. */
void userfault_take_event(struct userfault_taker *t, u64 page, u64 flags);

/*
 * KVM_RUN, once, in a thread, with every page given back that an event asks for.
 * Returns what KVM_RUN does (errno in *@error).
 */
int userfault_take_run(struct userfault_taker *t, struct kvm_vcpu *vcpu, int *error);
/* The same; asserts that it worked. */
void userfault_take_run_ok(struct userfault_taker *t, struct kvm_vcpu *vcpu);
/* There was one event, this one. */
#define userfault_take_assert_one(t, page, flags)				\
	userfault_take_assert_event(t, 1, 0, page, flags)
/* There were @nr events, and this was number @i. */
void userfault_take_assert_event(struct userfault_taker *t, unsigned int nr,
				 unsigned int i, u64 page, u64 flags);

/*
 * Guest page tables in the first pages of a slot, one page a level, for a part of the
 * address space that the guest has nothing else in.  They map all of the slot.
 */
#define USERFAULT_TABLES_GVA	BIT_ULL(39)
#define USERFAULT_PDPT		0
#define USERFAULT_PD		1
#define USERFAULT_PT		2
#define USERFAULT_NR_TABLES	3

void userfault_tables_create(struct userfault_slot *s);
/* The same, and nothing of the guest's refers to them yet. */
void userfault_tables_fill(struct userfault_slot *s);

/* KVM_FEP works up to the end of the test; false if it cannot. */
bool userfault_force_emulation(void);

#endif /* SELFTEST_KVM_USERFAULT_TAKE_H */
