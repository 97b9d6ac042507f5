// SPDX-License-Identifier: GPL-2.0
/*
 * A page of a userfault_slot that KVM itself reads or writes.
 */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"
#include "test_util.h"
#include "userfault_own_page.h"

#define GENERATION	77
#define SCRIBBLE	0xee

const char *userfault_own_way_name(enum userfault_own_way way)
{
	static const char * const names[NR_USERFAULT_OWN_WAYS] = {
		[USERFAULT_OWN_EXIT] = "no fd",
		[USERFAULT_OWN_FD] = "fd",
		[USERFAULT_OWN_LATE_FD] = "late fd",
		[USERFAULT_OWN_CLOSED] = "fd closed",
		[USERFAULT_OWN_SIGNAL] = "signal",
		[USERFAULT_OWN_UNREADABLE] = "bitmap unreadable",
	};

	return names[way];
}

void userfault_own_destroy(const struct userfault_own *o)
{
	struct kvm_vm *vm = o->s->vm;

	userfault_slot_free(o->s);
	kvm_vm_free(vm);
}

void userfault_own_rescan(const struct userfault_own *o)
{
	struct kvm_userfault_range range = {
		.gpa = userfault_own_gpa(o),
		.size = o->s->page_size,
		.as_id = o->s->region.slot >> 16,
	};

	vm_ioctl(o->s->vm, KVM_USERFAULT_RESCAN, &range);
	TEST_ASSERT_EQ(range.size, 0);
}

void userfault_own_scribble(const struct userfault_own *o)
{
	memset(userfault_alias(o->s, o->page), SCRIBBLE, o->s->page_size);
}

void userfault_own_take(const struct userfault_own *o)
{
	userfault_set_bit(o->s, o->page);
	userfault_own_rescan(o);
	userfault_own_scribble(o);
}

void userfault_own_assert_untouched(const struct userfault_own *o)
{
	const u8 *p = userfault_alias(o->s, o->page);

	for (size_t i = 0; i < o->s->page_size; i++)
		TEST_ASSERT(p[i] == SCRIBBLE, "Byte 0x%lx of the absent page was made 0x%x",
			    i, p[i]);
}

void userfault_own_give(const struct userfault_own *o)
{
	userfault_fill(o->s, o->page, GENERATION);
	memcpy(userfault_own_part(o), o->content, o->size);
	userfault_clear_bit(o->s, o->page);
}

void userfault_own_assert_rest(const struct userfault_own *o)
{
	const u8 *p = userfault_alias(o->s, o->page);
	u8 expected[o->s->page_size];

	userfault_pattern_fill(expected, o->s->page_size,
			       userfault_gfn(o->s, o->page), GENERATION);
	for (size_t i = 0; i < o->s->page_size; i++) {
		if (i >= o->offset && i < o->offset + o->size)
			continue;
		TEST_ASSERT(p[i] == expected[i], "Byte 0x%lx is 0x%x instead of 0x%x", i,
			    p[i], expected[i]);
	}
}

void userfault_own_read_event(const struct userfault_own *o, int fd, u64 extra)
{
	struct kvm_userfault_event e = userfault_fd_read(fd);

	TEST_ASSERT_EQ(e.gpa, userfault_own_gpa(o));
	TEST_ASSERT_EQ(e.size, o->s->page_size);
	TEST_ASSERT_EQ(e.flags, userfault_own_flags(o) | extra);
	TEST_ASSERT_EQ(e.vcpu_id, o->vcpu->id);
	TEST_ASSERT_EQ(e.as_id, 0);
}

static void assert_exits(const struct userfault_own *o, u64 extra)
{
	/* As often as it is run without the page. */
	for (int i = 0; i < 2; i++) {
		userfault_run_expect(o->vcpu, userfault_own_gpa(o),
				     KVM_MEMORY_EXIT_FLAG_OWN | o->access | extra);
		userfault_own_assert_untouched(o);
	}
}

static void give_and_wake(const struct userfault_own *o, int fd)
{
	userfault_own_give(o);
	userfault_fd_wake(fd, userfault_own_gpa(o), o->s->page_size);
}

/* No fd, and nobody to tell, so KVM has to look by itself. */
static void run_alone(const struct userfault_own *o)
{
	struct userfault_runner r;

	userfault_runner_start(&r, o->vcpu);
	userfault_runner_assert_waits(&r);
	userfault_own_assert_untouched(o);
	userfault_own_give(o);
	userfault_runner_join_sync(&r);
}

/* No fd, and nobody to tell; whoever comes later is told. */
static void run_late(const struct userfault_own *o)
{
	struct userfault_runner r;
	int fd;

	userfault_runner_start(&r, o->vcpu);
	userfault_runner_assert_waits(&r);
	fd = userfault_fd_create(o->s->vm, 0);
	userfault_own_read_event(o, fd, 0);
	userfault_own_assert_untouched(o);
	give_and_wake(o, fd);
	userfault_runner_join_sync(&r);
	close(fd);
}

static void run_closed(const struct userfault_own *o)
{
	struct userfault_runner r;
	int fd;

	fd = userfault_fd_create(o->s->vm, 0);
	userfault_runner_start(&r, o->vcpu);
	userfault_own_read_event(o, fd, 0);
	close(fd);

	if (!o->in_place) {
		userfault_runner_join(&r);
		errno = r.error;
		userfault_assert_exit(o->vcpu, r.ret, userfault_own_gpa(o),
				      userfault_own_flags(o));
		assert_exits(o, 0);
		userfault_own_give(o);
		userfault_run_sync(o->vcpu);
		return;
	}

	userfault_runner_assert_waits(&r);
	userfault_own_assert_untouched(o);
	fd = userfault_fd_create(o->s->vm, 0);
	userfault_own_read_event(o, fd, 0);
	give_and_wake(o, fd);
	userfault_runner_join_sync(&r);
	close(fd);
}

static void run_signal(const struct userfault_own *o)
{
	struct userfault_runner r;
	int fd;

	fd = userfault_fd_create(o->s->vm, 0);
	userfault_runner_start(&r, o->vcpu);
	userfault_own_read_event(o, fd, 0);
	userfault_runner_kick(&r);

	if (o->in_place) {
		/* It cannot go back, and the signal is for later. */
		userfault_runner_assert_waits(&r);
		userfault_own_assert_untouched(o);
		give_and_wake(o, fd);
		userfault_runner_join(&r);
		if (!r.ret) {
			/* The guest had exited already. */
			userfault_assert_sync(o->vcpu);
			close(fd);
			return;
		}
	} else {
		userfault_runner_join(&r);
		userfault_own_assert_untouched(o);
		userfault_own_give(o);
	}
	TEST_ASSERT(r.ret == -1 && r.error == EINTR, "KVM_RUN: %d (%s)", r.ret,
		    strerror(r.error));
	userfault_run_sync(o->vcpu);
	close(fd);
}

static void run_unreadable(const struct userfault_own *o)
{
	struct userfault_slot *s = o->s;
	struct userfault_runner r;
	int fd;

	fd = userfault_fd_create(s->vm, 0);
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_NONE), "mprotect");
	if (!o->in_place) {
		/* For the VMM to repair, fd or no fd. */
		assert_exits(o, KVM_MEMORY_EXIT_FLAG_BITMAP);
	} else {
		userfault_runner_start(&r, o->vcpu);
		userfault_own_read_event(o, fd, KVM_MEMORY_EXIT_FLAG_BITMAP);
		userfault_runner_assert_waits(&r);
	}
	userfault_own_assert_untouched(o);

	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_READ | PROT_WRITE), "mprotect");
	if (o->in_place) {
		give_and_wake(o, fd);
		userfault_runner_join_sync(&r);
	} else {
		userfault_own_give(o);
		userfault_run_sync(o->vcpu);
	}
	close(fd);
}

void userfault_own_run(const struct userfault_own *o, enum userfault_own_way way)
{
	u64 own_waits = vcpu_get_stat(o->vcpu, userfault_own_waits);
	u64 waits = vcpu_get_stat(o->vcpu, userfault_waits);
	struct userfault_runner r;
	int fd;

	switch (way) {
	case USERFAULT_OWN_EXIT:
		/* There is no exit from the middle. */
		if (o->in_place) {
			run_alone(o);
			break;
		}
		assert_exits(o, 0);
		userfault_own_give(o);
		userfault_run_sync(o->vcpu);
		break;
	case USERFAULT_OWN_FD:
		fd = userfault_fd_create(o->s->vm, KVM_USERFAULT_FD_VCPU);
		userfault_runner_start(&r, o->vcpu);
		userfault_own_read_event(o, fd, 0);
		userfault_runner_assert_waits(&r);
		userfault_own_assert_untouched(o);
		give_and_wake(o, fd);
		userfault_runner_join_sync(&r);
		userfault_fd_assert_quiet(fd);
		close(fd);
		break;
	case USERFAULT_OWN_LATE_FD:
		if (o->in_place) {
			run_late(o);
			break;
		}
		/* It has exited, and there is one when it is run again. */
		assert_exits(o, 0);
		fd = userfault_fd_create(o->s->vm, 0);
		userfault_runner_start(&r, o->vcpu);
		userfault_own_read_event(o, fd, 0);
		userfault_own_assert_untouched(o);
		give_and_wake(o, fd);
		userfault_runner_join_sync(&r);
		close(fd);
		break;
	case USERFAULT_OWN_CLOSED:
		run_closed(o);
		break;
	case USERFAULT_OWN_SIGNAL:
		run_signal(o);
		break;
	case USERFAULT_OWN_UNREADABLE:
		run_unreadable(o);
		break;
	default:
		TEST_FAIL("No way %d", way);
	}

	if (o->in_place)
		TEST_ASSERT_EQ(vcpu_get_stat(o->vcpu, userfault_own_waits), own_waits + 1);
	else
		TEST_ASSERT(vcpu_get_stat(o->vcpu, userfault_waits) > waits &&
			    vcpu_get_stat(o->vcpu, userfault_own_waits) == own_waits,
			    "It has not waited where it should");
	userfault_own_assert_rest(o);
}
