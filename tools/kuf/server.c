// SPDX-License-Identifier: GPL-2.0
/*
 * The pager's process, or thread.
 *
 * The process is forked before the VMM opens /dev/kvm and gets what it needs by a
 * socket: the userfault fd, the bitmap, the source, and the guest's memory.  For
 * shmem and guest_memfd that is the file.  Anonymous memory has none, but the VMM's
 * /proc/self/mem, which only the VMM itself needs permission to open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server.h"

enum { FD_USERFAULT, FD_MEMORY, FD_BITMAP, FD_SOURCE, FD_COUNTS, NR_FDS };

/* What goes beside the files. */
struct order {
	u32 backing;
	u32 pad;
	u64 size;
	u64 area;		/* anon: where memory is in the VMM's process */
	u64 source_size, data_offset, crc_offset;
};

union control {
	char buf[CMSG_SPACE(NR_FDS * sizeof(int))];
	struct cmsghdr align;
};

static int send_order(int socket, const struct order *order, const int *fds)
{
	union control control = {};
	struct iovec iov = { .iov_base = (void *)order, .iov_len = sizeof(*order) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(NR_FDS * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, NR_FDS * sizeof(int));
	if (sendmsg(socket, &msg, MSG_NOSIGNAL) != sizeof(*order))
		return kuf_error(-errno, "the pager's process takes no order");
	return 0;
}

/* 1: there will be none. */
static int receive_order(int socket, struct order *order, int *fds)
{
	union control control;
	struct iovec iov = { .iov_base = order, .iov_len = sizeof(*order) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	ssize_t n;

	do {
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (!n)
		return 1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (n != sizeof(*order) || !cmsg || cmsg->cmsg_type != SCM_RIGHTS ||
	    cmsg->cmsg_len != CMSG_LEN(NR_FDS * sizeof(int)))
		return kuf_error(-EPROTO, "a malformed order to the pager's process");
	memcpy(fds, CMSG_DATA(cmsg), NR_FDS * sizeof(int));
	return 0;
}

static void *map(int fd, u64 size, int prot, const char *what)
{
	void *p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);

	if (p != MAP_FAILED)
		return p;
	kuf_error(-errno, "the pager's process cannot map %s", what);
	return NULL;
}

static int take_order(struct pager *pager, const struct order *order, const int *fds)
{
	struct mem *mem = &pager->mem;

	*pager = (struct pager){
		.mode = PAGER_PROCESS,
		.mem = { .backing = order->backing, .size = order->size },
		.uffd = fds[FD_USERFAULT],
		.remote_fd = -1,
		.ask_fd = -1,
	};
	pthread_mutex_init(&pager->lock, NULL);
	if (order->backing == MEM_ANON) {
		pager->remote_fd = fds[FD_MEMORY];
		mem->area = (u8 *)(uintptr_t)order->area;
	} else {
		mem->area = map(fds[FD_MEMORY], mem->size, PROT_READ | PROT_WRITE, "memory");
	}
	mem->bitmap = map(fds[FD_BITMAP], mem_bitmap_size(mem), PROT_READ | PROT_WRITE,
			  "the bitmap");
	pager->source = (struct pager_source){
		.map = map(fds[FD_SOURCE], order->source_size, PROT_READ, "the source"),
		.map_size = order->source_size,
		.data_offset = order->data_offset,
		.crc_offset = order->crc_offset,
	};
	pager->counts = map(fds[FD_COUNTS], pager_counts_size(mem->size),
			    PROT_READ | PROT_WRITE, "the counts");
	return mem->area && mem->bitmap && pager->source.map && pager->counts ? 0 : -ENOMEM;
}

static int serve_process(int socket)
{
	struct pager pager;
	struct order order;
	int fds[NR_FDS];
	char err;

	switch (receive_order(socket, &order, fds)) {
	case 0:
		break;
	case 1:
		return 0;
	default:
		return 1;
	}
	err = !!take_order(&pager, &order, fds);
	if (write(socket, &err, 1) != 1 || err)
		return 1;
	/* The VMM's end of the socket is closed when it ends, in whatever way. */
	return !!pager_serve(&pager, socket);
}

int server_fork(struct server *server)
{
	pid_t pid, vmm = getpid();
	int sockets[2];

	*server = (struct server){ .socket = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return kuf_error(-errno, "a socket for the pager's process");
	pid = fork();
	if (pid < 0) {
		pid = -errno;
		close(sockets[0]);
		close(sockets[1]);
		return kuf_error(pid, "a process for the pager");
	}
	if (!pid) {
		prctl(PR_SET_NAME, "kuf-pager");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sockets[0]);
		_exit(getppid() == vmm ? serve_process(sockets[1]) : 1);
	}
	close(sockets[1]);
	server->socket = sockets[0];
	server->pid = pid;
	return 0;
}

int server_start_process(struct server *server, struct pager *pager, int source_fd,
			 int counts_fd)
{
	const struct mem *mem = &pager->mem;
	struct order order = {
		.backing = mem->backing,
		.size = mem->size,
		.area = (uintptr_t)mem->area,
		.source_size = pager->source.map_size,
		.data_offset = pager->source.data_offset,
		.crc_offset = pager->source.crc_offset,
	};
	int fds[NR_FDS] = {
		[FD_USERFAULT] = pager->uffd,
		[FD_MEMORY] = mem->fd,
		[FD_BITMAP] = mem->bitmap_fd,
		[FD_SOURCE] = source_fd,
		[FD_COUNTS] = counts_fd,
	};
	char failed = 1;
	int err;

	if (mem->backing == MEM_ANON) {
		fds[FD_MEMORY] = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		if (fds[FD_MEMORY] < 0)
			return kuf_error(-errno, "/proc/self/mem, for the pager's process");
	}
	err = send_order(server->socket, &order, fds);
	if (mem->backing == MEM_ANON)
		close(fds[FD_MEMORY]);
	if (err)
		return err;
	if (read(server->socket, &failed, 1) != 1 || failed)
		return kuf_error(-EIO, "the pager's process (%d) does not serve", server->pid);
	pager->ask_fd = server->socket;
	return 0;
}

static void *serve_thread(void *arg)
{
	struct server *server = arg;

	server->thread_err = pager_serve(server->pager, server->socket);
	if (server->thread_err)
		/* Nobody answers any more: what vCPUs notice by the last close. */
		close(server->pager->uffd);
	return NULL;
}

int server_start_thread(struct server *server, struct pager *pager)
{
	int err;

	*server = (struct server){ .pager = pager };
	server->socket = eventfd(0, EFD_CLOEXEC);
	if (server->socket < 0)
		return kuf_error(-errno, "eventfd");
	err = pthread_create(&server->thread, NULL, serve_thread, server);
	if (err)
		return kuf_error(-err, "a thread for the pager");
	server->has_thread = true;
	return 0;
}

static int stop_process(struct server *server)
{
	int status;
	pid_t pid;

	close(server->socket);
	do {
		pid = waitpid(server->pid, &status, 0);
	} while (pid < 0 && errno == EINTR);
	if (pid < 0)
		return kuf_error(-errno, "the pager's process");
	if (WIFSIGNALED(status))
		return kuf_error(-EIO, "the pager's process was killed by signal %d",
				 WTERMSIG(status));
	return WEXITSTATUS(status) ? kuf_error(-EIO, "the pager's process has failed") : 0;
}

static int stop_thread(struct server *server)
{
	u64 one = 1;

	if (write(server->socket, &one, sizeof(one)) != sizeof(one))
		return kuf_error(-errno, "eventfd");
	pthread_join(server->thread, NULL);
	close(server->socket);
	if (!server->thread_err)
		close(server->pager->uffd);
	return server->thread_err ? -EIO : 0;
}

int server_stop(struct server *server)
{
	int err = 0;

	if (server->pid)
		err = stop_process(server);
	else if (server->has_thread)
		err = stop_thread(server);
	*server = (struct server){ .socket = -1 };
	return err;
}
