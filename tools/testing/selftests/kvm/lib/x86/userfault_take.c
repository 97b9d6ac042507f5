// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are taken back from a guest, and given back when KVM asks for them.
 */
#include <fcntl.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "userfault_take.h"

/* How long the server of a vCPU looks for an event before it looks at the vCPU. */
#define SLICE_MS	5

void userfault_enable_take(struct kvm_vm *vm, bool own)
{
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_ACCESS | KVM_USERFAULT_FEATURE_RESCAN |
		      KVM_USERFAULT_FEATURE_FD |
		      (own ? KVM_USERFAULT_FEATURE_OWN : 0));
}

struct userfault_taker *userfault_taker_create(struct userfault_slot *s, bool fd)
{
	struct userfault_taker *t = calloc(1, sizeof(*t));

	TEST_ASSERT(t, "calloc");
	t->s = s;
	t->fd = fd ? userfault_fd_create(s->vm, KVM_USERFAULT_FD_NONBLOCK) : -1;
	t->saved = calloc(s->npages, s->page_size);
	TEST_ASSERT(t->saved, "calloc");
	return t;
}

void userfault_taker_free(struct userfault_taker *t)
{
	if (t->fd >= 0)
		close(t->fd);
	free(t->saved);
	free(t);
}

void userfault_rescan(struct userfault_slot *s, u64 page, u64 nr)
{
	struct kvm_userfault_range range = {
		.gpa = userfault_gpa(s, page),
		.size = nr * s->page_size,
		.as_id = KVM_USERFAULT_AS_ALL,
	};
	int r = __vm_ioctl(s->vm, KVM_USERFAULT_RESCAN, &range);

	TEST_ASSERT(!r && !range.size, "RESCAN: %d (%s), left 0x%llx at 0x%llx", r,
		    strerror(errno), range.size, range.gpa);
}

static u8 *saved_page(struct userfault_taker *t, u64 page)
{
	return t->saved + page * t->s->page_size;
}

void userfault_take(struct userfault_taker *t, u64 page)
{
	struct userfault_slot *s = t->s;

	userfault_set_bit(s, page);
	userfault_rescan(s, page, 1);
	memcpy(saved_page(t, page), userfault_alias(s, page), s->page_size);
	memset(userfault_alias(s, page), USERFAULT_JUNK, s->page_size);
}

void userfault_give(struct userfault_taker *t, u64 page)
{
	struct userfault_slot *s = t->s;
	u8 *p = userfault_alias(s, page);
	size_t i;

	for (i = 0; i < s->page_size; i++)
		TEST_ASSERT(p[i] == USERFAULT_JUNK,
			    "Absent page %lu was written to: 0x%x at 0x%lx", page, p[i], i);
	memcpy(p, saved_page(t, page), s->page_size);
	userfault_clear_bit(s, page);
}

void userfault_take_assert_event(struct userfault_taker *t, unsigned int nr,
				 unsigned int i, u64 page, u64 flags)
{
	const struct kvm_userfault_event *e = &t->events[i];
	unsigned int j;

	for (j = 0; j < t->nr_events && t->nr_events != nr; j++)
		pr_info("event %u: gpa 0x%llx flags 0x%llx\n", j, t->events[j].gpa,
			t->events[j].flags);
	TEST_ASSERT(t->nr_events == nr, "Wanted %u events, got %u", nr, t->nr_events);
	TEST_ASSERT(e->gpa == userfault_gpa(t->s, page) && e->flags == flags &&
		    e->size == t->s->page_size && e->vcpu_id != ~0u &&
		    e->as_id == t->s->region.slot >> 16,
		    "Wanted event %u at 0x%lx, flags 0x%lx; got 0x%llx, flags 0x%llx, size 0x%llx, vCPU %u, address space %u",
		    i, userfault_gpa(t->s, page), flags, e->gpa, e->flags, e->size,
		    e->vcpu_id, e->as_id);
}

static void note_event(struct userfault_taker *t, const struct kvm_userfault_event *e)
{
	TEST_ASSERT(t->nr_events < ARRAY_SIZE(t->events),
		    "There is no end of events; gpa 0x%llx, flags 0x%llx", e->gpa,
		    e->flags);
	t->events[t->nr_events++] = *e;
}

void userfault_take_event(struct userfault_taker *t, u64 page, u64 flags)
{
	struct kvm_userfault_event e = userfault_fd_read(t->fd);

	t->nr_events = 0;
	note_event(t, &e);
	userfault_take_assert_one(t, page, flags);
}

int userfault_take_run(struct userfault_taker *t, struct kvm_vcpu *vcpu, int *error)
{
	struct userfault_taker *give_to;
	struct kvm_userfault_event e;
	struct userfault_runner r;
	int slices = 0;

	t->nr_events = 0;
	userfault_runner_start(&r, vcpu);
	while (!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE)) {
		TEST_ASSERT(slices++ < USERFAULT_TIMEOUT_MS / SLICE_MS,
			    "KVM_RUN does not return, after %u events", t->nr_events);
		if (!userfault_fd_poll(t->fd, SLICE_MS))
			continue;
		e = userfault_fd_read(t->fd);
		note_event(t, &e);
		give_to = t->other && e.as_id == t->other->s->region.slot >> 16 ? t->other : t;
		userfault_give(give_to, userfault_page_of(give_to->s, e.gpa));
		userfault_fd_wake(t->fd, e.gpa, e.size);
	}
	userfault_runner_join(&r);
	*error = r.error;
	return r.ret;
}

void userfault_take_run_ok(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	int error, ret = userfault_take_run(t, vcpu, &error);

	TEST_ASSERT(!ret, "KVM_RUN: %d (%s), exit reason %u (%s), flags 0x%llx gpa 0x%llx",
		    ret, strerror(error), vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason),
		    vcpu->run->memory_fault.flags, vcpu->run->memory_fault.gpa);
}

static u64 table_entry(struct userfault_slot *s, u64 page)
{
	/* Present, writable, user. */
	return userfault_gpa(s, page) | 0x7;
}

void userfault_tables_fill(struct userfault_slot *s)
{
	unsigned int i;
	u64 *pt;

	TEST_ASSERT(s->npages <= 512, "There is one page of entries only");
	for (i = 0; i < USERFAULT_NR_TABLES; i++)
		memset(userfault_alias(s, i), 0, s->page_size);
	*(u64 *)userfault_alias(s, USERFAULT_PDPT) = table_entry(s, USERFAULT_PD);
	*(u64 *)userfault_alias(s, USERFAULT_PD) = table_entry(s, USERFAULT_PT);
	pt = userfault_alias(s, USERFAULT_PT);
	for (i = 0; i < s->npages; i++)
		pt[i] = table_entry(s, i);
}

void userfault_tables_create(struct userfault_slot *s)
{
	u64 *top = addr_gpa2hva(s->vm, s->vm->mmu.pgd);

	userfault_tables_fill(s);
	/* With five levels the guest's own first entry serves for all there is. */
	if (s->vm->mmu.pgtable_levels == 5)
		top = addr_gpa2hva(s->vm, top[0] & GENMASK_ULL(51, 12));
	top[(USERFAULT_TABLES_GVA >> 39) & 511] = table_entry(s, USERFAULT_PDPT);
}

#define FEP_PARAM	"/sys/module/kvm/parameters/force_emulation_prefix"

static char fep_was[16];

static bool fep_write(const char *value, size_t len)
{
	int fd = open(FEP_PARAM, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, len) == (ssize_t)len;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* For the tests that come after this one. */
static void fep_restore(void)
{
	fep_write(fep_was, strlen(fep_was));
}

bool userfault_force_emulation(void)
{
	int fd = open(FEP_PARAM, O_RDONLY);

	if (fd < 0)
		return false;
	if (read(fd, fep_was, sizeof(fep_was) - 1) > 0 && fep_write("1", 1))
		TEST_ASSERT(!atexit(fep_restore), "atexit");
	close(fd);

	is_forced_emulation_enabled = kvm_is_forced_emulation_enabled();
	return is_forced_emulation_enabled;
}
