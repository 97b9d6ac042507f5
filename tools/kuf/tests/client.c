// SPDX-License-Identifier: GPL-2.0
/*
 * VMs that speak for themselves with a pager in the same process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi.h"
#include "client.h"
#include "control.h"
#include "saved.h"

struct client one, two;
struct pagerd d;

bool pager_open(u64 bandwidth, unsigned int max_vms)
{
	struct pagerd_options o = { .path = SOCKET, .bandwidth = bandwidth, .max_vms = max_vms };

	return !pagerd_open(&d, &o);
}

void pager_rounds(unsigned int n)
{
	while (n--)
		pagerd_round(&d, 0);
}

int client_sealed_file(u64 size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return ftruncate(fd, size) || fcntl(fd, F_ADD_SEALS, seals) ? -1 : fd;
}

void client_connect(struct client *c)
{
	struct sockaddr_un address;

	c->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	control_address(&address, SOCKET);
	if (connect(c->socket, (struct sockaddr *)&address, sizeof(address)))
		perror(SOCKET);
}

bool client_new(struct client *c, unsigned int number)
{
	struct fakevm_options o = { .number = number, .backing = MEM_SHMEM };
	struct kuf_export ex = { .size = sizeof(ex) };

	memset(c, 0, sizeof(*c));
	if (!fakevm_create(&c->f, &o))
		return false;
	c->k = fakevm_context(&c->f);
	if (!c->k || kuf_fd_create(c->k, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK |
				   KVM_USERFAULT_FD_STALL, &c->uffd) ||
	    kuf_export(c->k, c->uffd, &ex))
		return false;
	c->file = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
	c->shared = client_sealed_file(pager_shared_size(false),
				       F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
	c->map = mmap(NULL, pager_shared_size(false), PROT_READ | PROT_WRITE, MAP_SHARED, c->shared,
		      0);
	c->map->stats.size = sizeof(c->map->stats);
	c->size = sizeof(c->packet.hello) + ex.nr_bytes;
	packet_head_init(&c->packet.hello.head, PACKET_HELLO, c->size);
	c->packet.hello.mem_size = MIN_MEM;
	saved_session(c->packet.hello.session, number);
	c->packet.hello.export_size = ex.nr_bytes;
	memcpy(c->packet.bytes, ex.bytes, ex.nr_bytes);
	c->fds[0] = c->file;
	c->fds[1] = c->shared;
	memcpy(c->fds + 2, ex.fds, ex.nr_fds * sizeof(int));
	c->nr_fds = 2 + ex.nr_fds;
	c->packet.hello.nr_fds = c->nr_fds;
	client_connect(c);
	return true;
}

void client_free(struct client *c)
{
	if (c->socket >= 0)
		close(c->socket);
	if (c->uffd >= 0)
		close(c->uffd);
	close(c->file);
	close(c->shared);
	munmap(c->map, pager_shared_size(false));
	fakevm_let_go(&c->f);
	kuf_destroy(c->k);
	fakevm_destroy(&c->f);
}

int client_heard(struct client *c, struct packet *packet)
{
	unsigned int nr_fds = 0;
	size_t len;
	int err;

	err = packet_receive(c->socket, packet, sizeof(*packet), &len, NULL, &nr_fds);
	if (err)
		return err == -EAGAIN ? 0 : -1;
	return packet_check(packet, len) ? -1 : (int)packet->head.type;
}

static void say_hello(struct client *c)
{
	int err = packet_send(c->socket, &c->packet, c->size, NULL, 0, NULL, 0);

	if (err)
		printf("# HELLO: %s\n", strerror(-err));
}

/* packet_send() has limits that others need not have. */
void client_hello(struct client *c)
{
	char control[CMSG_SPACE(sizeof(c->fds))] __attribute__((aligned(8))) = {};
	struct iovec iov = { .iov_base = &c->packet, .iov_len = c->size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;

	if (!c->nr_fds) {
		say_hello(c);
		return;
	}
	msg.msg_control = control;
	msg.msg_controllen = CMSG_SPACE(c->nr_fds * sizeof(int));
	h = CMSG_FIRSTHDR(&msg);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(c->nr_fds * sizeof(int));
	memcpy(CMSG_DATA(h), c->fds, c->nr_fds * sizeof(int));
	if (sendmsg(c->socket, &msg, MSG_NOSIGNAL) < 0)
		perror("HELLO");
}

bool client_serves(struct client *c)
{
	struct packet packet;

	client_hello(c);
	pager_rounds(3);
	if (client_heard(c, &packet) != PACKET_READY || packet_say(c->socket, PACKET_GO, 0, NULL))
		return false;
	pager_rounds(2);
	return !client_heard(c, &packet);
}

void client_need(struct client *c, u64 page, u64 nr)
{
	kuf_access(c->k, page * PAGE_SIZE, nr * PAGE_SIZE, 0, 0, NULL);
}

u64 client_filled(const struct client *c)
{
	return c->map->stats.installed + c->map->stats.zeroed;
}

u64 client_wrong_pages(struct client *c)
{
	u64 page, wrong = 0;

	for (page = 0; page < SAVED_PAGES; page++) {
		if (fakevm_present(&c->f, page))
			wrong += !saved_page_is(c->f.number, page,
						c->f.vm.mem.area + page * PAGE_SIZE);
	}
	return wrong;
}

bool client_start(struct client *c, unsigned int number)
{
	return client_new(c, number) && client_serves(c);
}

bool client_dropped(struct client *c, enum packet_type type)
{
	struct packet packet;

	return client_heard(c, &packet) == (int)type && client_heard(c, &packet) == -1;
}

bool client_eager(struct client *c, unsigned int number)
{
	bool ok = client_new(c, number);

	c->packet.hello.policy = KUF_EAGER;
	return ok && client_serves(c);
}
