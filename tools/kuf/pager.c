// SPDX-License-Identifier: GPL-2.0
/*
 * Filling absent pages, and answering the userfault fd.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi.h"
#include "crc32c.h"
#include "pager.h"

#define EVENTS	16

static const char * const names[NR_PAGER_MODES] = {
	[PAGER_NONE] = "none",
	[PAGER_PROCESS] = "process",
	[PAGER_THREAD] = "thread",
	[PAGER_EXIT] = "exit",
};

const char *pager_mode_name(enum pager_mode mode)
{
	return names[mode];
}

int pager_mode_by_name(const char *name)
{
	int i;

	for (i = 0; i < NR_PAGER_MODES; i++) {
		if (!strcmp(names[i], name))
			return i;
	}
	return -EINVAL;
}

u64 pager_counts_size(u64 mem_size)
{
	return align_up(sizeof(struct pager_counts) + mem_size / PAGE_SIZE, PAGE_SIZE);
}

int pager_source_page(const struct pager_source *source, u64 offset, const u8 **page)
{
	u32 crc;

	*page = (const u8 *)source->map + source->data_offset + offset;
	if (!source->crc_offset)
		return 0;
	memcpy(&crc, (u8 *)source->map + source->crc_offset + offset / PAGE_SIZE * sizeof(crc),
	       sizeof(crc));
	if (crc32c(0, *page, PAGE_SIZE) == crc)
		return 0;
	return kuf_error(-EBADMSG, "the saved page at offset 0x%llx is damaged (CRC32C)",
			 (unsigned long long)offset);
}

/* All of the page, whatever is there: it may have been allocated by an access. */
static int write_page(struct pager *pager, u64 offset)
{
	const u8 *page;
	ssize_t n;
	int err;

	err = pager_source_page(&pager->source, offset, &page);
	if (err)
		return err;
	if (pager->remote_fd < 0) {
		memcpy(pager->mem.area + offset, page, PAGE_SIZE);
		return 0;
	}
	do {
		n = pwrite(pager->remote_fd, page, PAGE_SIZE, (uintptr_t)pager->mem.area + offset);
	} while (n < 0 && errno == EINTR);
	if (n != PAGE_SIZE)
		return kuf_error(n < 0 ? -errno : -EIO, "writing the page at offset 0x%llx",
				 (unsigned long long)offset);
	return 0;
}

/* One page of the guest's, for a fault with @flags. */
static int fill(struct pager *pager, u64 gpa, u64 flags)
{
	int64_t offset = mem_offset(&pager->mem, gpa, PAGE_SIZE);
	struct pager_counts *c = pager->counts;
	u64 page;
	int err;

	if (offset < 0 || offset % PAGE_SIZE)
		return kuf_error(-ERANGE, "a fault at 0x%llx, where no memory is",
				 (unsigned long long)gpa);
	if (flags & KVM_MEMORY_EXIT_FLAG_BITMAP)
		return kuf_error(-EFAULT, "KVM cannot read the bitmap");
	c->own += !!(flags & KVM_MEMORY_EXIT_FLAG_OWN);
	c->walks += !!(flags & KVM_MEMORY_EXIT_FLAG_PAGE_WALK);

	page = offset / PAGE_SIZE;
	if (!mem_bit_test(pager->mem.bitmap, page)) {
		c->repeated++;
		return 0;
	}
	err = write_page(pager, offset);
	if (err)
		return err;
	c->times[page]++;
	c->served++;
	mem_bit_clear(pager->mem.bitmap, page);
	return 0;
}

static int wake(struct pager *pager, u64 gpa)
{
	struct kvm_userfault_range range = {
		.gpa = gpa,
		.size = PAGE_SIZE,
		.as_id = KVM_USERFAULT_AS_ALL,
	};

	/* EPIPE: the VM is gone, nobody waits any more. */
	if (ioctl(pager->uffd, KVM_USERFAULT_WAKE, &range) && errno != EPIPE)
		return kuf_error(-errno, "KVM_USERFAULT_WAKE");
	return 0;
}

static int serve_event(struct pager *pager, const struct kvm_userfault_event *event)
{
	int err;

	pthread_mutex_lock(&pager->lock);
	pager->counts->events++;
	err = fill(pager, event->gpa, event->flags);
	pthread_mutex_unlock(&pager->lock);
	return err ?: wake(pager, event->gpa);
}

/* What pager_need() asks.  1: nobody will any more. */
static int serve_question(struct pager *pager, int fd)
{
	ssize_t n;
	u64 gpa;
	int err;

	n = recv(fd, &gpa, sizeof(gpa), MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n != sizeof(gpa))
		return 1;
	pthread_mutex_lock(&pager->lock);
	pager->counts->asked++;
	err = fill(pager, gpa, 0);
	pthread_mutex_unlock(&pager->lock);
	/* A vCPU that waits for that page has an event, whose answer wakes it. */
	return send(fd, &err, sizeof(err), MSG_NOSIGNAL) == sizeof(err) ? 0 : 1;
}

int pager_serve(struct pager *pager, int control_fd)
{
	struct pollfd fds[] = {
		{ .fd = pager->uffd, .events = POLLIN },
		{ .fd = control_fd, .events = POLLIN },
	};
	struct kvm_userfault_event events[EVENTS];
	ssize_t n, i;
	int err;

	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return kuf_error(-errno, "poll of the userfault fd");
		}
		if (fds[1].revents && serve_question(pager, control_fd))
			return 0;
		if (!fds[0].revents)
			continue;
		n = read(pager->uffd, events, sizeof(events));
		/* EAGAIN: who waited has gone, and its event with it. */
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return kuf_error(-errno, "read of the userfault fd");
		if (!n)
			return 0;
		for (i = 0; i < n / (ssize_t)sizeof(events[0]); i++) {
			err = serve_event(pager, &events[i]);
			if (err)
				return err;
		}
	}
}

int pager_need(struct pager *pager, u64 gpa)
{
	int err;

	pthread_mutex_lock(&pager->lock);
	if (pager->ask_fd < 0) {
		pager->counts->asked++;
		err = fill(pager, gpa, 0);
	} else if (send(pager->ask_fd, &gpa, sizeof(gpa), MSG_NOSIGNAL) != sizeof(gpa) ||
		   recv(pager->ask_fd, &err, sizeof(err), 0) != sizeof(err)) {
		err = kuf_error(-EPIPE, "the pager's process does not answer");
	}
	pthread_mutex_unlock(&pager->lock);
	return err;
}

int pager_exit(struct pager *pager, u64 gpa, u64 flags)
{
	int err;

	pthread_mutex_lock(&pager->lock);
	pager->counts->exits++;
	err = fill(pager, gpa, flags);
	pthread_mutex_unlock(&pager->lock);
	return err;
}

int pager_report(const struct pager *pager)
{
	const struct pager_counts *c = pager->counts;
	u64 npages = pager->mem.size / PAGE_SIZE, once = 0, wrong = 0, page;

	for (page = 0; page < npages; page++) {
		bool present = !mem_bit_test(pager->mem.bitmap, page);

		once += c->times[page] == 1;
		if (c->times[page] == present)
			continue;
		if (!wrong++)
			kuf_error(0, "the page at 0x%llx is %s and was served %u times",
				  (unsigned long long)mem_gpa(&pager->mem, page * PAGE_SIZE),
				  present ? "present" : "absent", c->times[page]);
	}
	kuf_say("lazy: %llu of %llu pages served, %llu just once, %llu wrong",
		(unsigned long long)c->served, (unsigned long long)npages,
		(unsigned long long)once, (unsigned long long)wrong);
	kuf_say("lazy: %llu events, %llu exits, %llu asked for",
		(unsigned long long)c->events, (unsigned long long)c->exits,
		(unsigned long long)c->asked);
	kuf_say("lazy: of these %llu own, %llu page walks, %llu repeated",
		(unsigned long long)c->own, (unsigned long long)c->walks,
		(unsigned long long)c->repeated);
	return wrong ? -EIO : 0;
}
