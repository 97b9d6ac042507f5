/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A page of a userfault_slot that KVM itself reads or writes, as its guest has told
 * it to: taken away, wanted by KVM_RUN in every way there is, filled, and then
 * looked at.  What KVM does to it must come on top of what it was filled with, and
 * before that nothing may reach it.
 */
#ifndef SELFTEST_KVM_USERFAULT_OWN_PAGE_H
#define SELFTEST_KVM_USERFAULT_OWN_PAGE_H

#include "userfault_fd.h"

/* How KVM_RUN gets the page that it wants. */
enum userfault_own_way {
	USERFAULT_OWN_EXIT,		/* no fd: it exits, or looks by itself */
	USERFAULT_OWN_FD,		/* from the reader of the fd */
	USERFAULT_OWN_LATE_FD,		/* of a fd that comes when somebody waits */
	USERFAULT_OWN_CLOSED,		/* the fd is closed meanwhile */
	USERFAULT_OWN_SIGNAL,		/* the fd; and a signal comes in between */
	USERFAULT_OWN_UNREADABLE,	/* the bitmap has to be mended first */
	NR_USERFAULT_OWN_WAYS,
};

const char *userfault_own_way_name(enum userfault_own_way way);

struct userfault_own {
	struct kvm_vcpu *vcpu;
	struct userfault_slot *s;
	u64 page;
	/* KVM is in the middle of something, and waits; otherwise it can exit. */
	bool in_place;
	/* READ or WRITE, whichever KVM does first. */
	u64 access;

	/* The part that KVM changes; it gets this, and the rest a pattern. */
	size_t offset, size;
	const void *content;
};

#define USERFAULT_OWN_FEATURES						\
	(KVM_USERFAULT_FEATURE_ACCESS | KVM_USERFAULT_FEATURE_RESCAN |	\
	 KVM_USERFAULT_FEATURE_FD | KVM_USERFAULT_FEATURE_OWN)

/* The memslot and the VM. */
void userfault_own_destroy(const struct userfault_own *o);

static inline u64 userfault_own_flags(const struct userfault_own *o)
{
	return KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_OWN | o->access;
}

static inline gpa_t userfault_own_gpa(const struct userfault_own *o)
{
	return userfault_gpa(o->s, o->page);
}

/* The part that KVM changes. */
static inline void *userfault_own_part(const struct userfault_own *o)
{
	return userfault_alias(o->s, o->page) + o->offset;
}

void userfault_own_rescan(const struct userfault_own *o);
/* Full of what nobody must see. */
void userfault_own_scribble(const struct userfault_own *o);
/* That, absent, and no longer used by anybody. */
void userfault_own_take(const struct userfault_own *o);
void userfault_own_assert_untouched(const struct userfault_own *o);
/* Fill it and clear its bit. */
void userfault_own_give(const struct userfault_own *o);
/* Asserts that nothing but the part has changed since. */
void userfault_own_assert_rest(const struct userfault_own *o);

/* The event for it; asserts that it says what it should. */
void userfault_own_read_event(const struct userfault_own *o, int fd, u64 extra);

/*
 * The page was taken, and the next KVM_RUN wants it and would then end with a
 * GUEST_SYNC(): see that it gets it that way.
 */
void userfault_own_run(const struct userfault_own *o, enum userfault_own_way way);

#endif /* SELFTEST_KVM_USERFAULT_OWN_PAGE_H */
