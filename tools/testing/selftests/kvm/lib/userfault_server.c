// SPDX-License-Identifier: GPL-2.0
/*
 * Serving the faults of a guest, here or from another process.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvm_util.h"
#include "test_util.h"
#include "userfault_server.h"

#define SERVER_ARG	"userfault-server"
#define SERVER_SOCKET	3

const char *userfault_step_name(enum userfault_step step)
{
	static const char * const names[NR_USERFAULT_STEPS] = {
		[USERFAULT_STEP_NEVER] = "never",
		[USERFAULT_STEP_READ] = "read",
		[USERFAULT_STEP_HALF] = "half",
		[USERFAULT_STEP_FILLED] = "filled",
		[USERFAULT_STEP_CLEARED] = "cleared",
		[USERFAULT_STEP_WAKE] = "wake",
		[USERFAULT_STEP_RANDOM] = "random",
	};

	return names[step];
}

static void step(struct userfault_server *server, enum userfault_step at)
{
	if (server->die_at == at && server->c->served >= server->die_after)
		raise(SIGKILL);
}

static int wake(struct userfault_server *server, u64 page, u64 nr)
{
	struct userfault_slot *s = server->s;
	struct uffdio_range range = {
		.start = server->uffd_base + page * s->page_size,
		.len = nr * s->page_size,
	};

	if (server->uffd)
		return ioctl(server->fd, UFFDIO_WAKE, &range);
	return __userfault_fd_wake(server->fd, userfault_gpa(s, page),
				   nr * s->page_size, KVM_USERFAULT_AS_ALL);
}

/* To be killed in WAKE, be in WAKE. */
static void wake_for_ever(struct userfault_server *server)
{
	__atomic_store_n(&server->c->waking, 1, __ATOMIC_SEQ_CST);
	for (;;)
		wake(server, 0, server->s->npages);
}

static void copy_page(struct userfault_server *server, u64 page)
{
	struct uffdio_copy copy = {
		.dst = server->uffd_base + page * server->s->page_size,
		.src = (uintptr_t)server->buffer,
		.len = server->s->page_size,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};
	int r = ioctl(server->fd, UFFDIO_COPY, &copy);

	/* EEXIST: by the predecessor; ENOENT: the registration is gone. */
	TEST_ASSERT(!r || errno == EEXIST || errno == ENOENT || errno == ESRCH,
		    "UFFDIO_COPY: %s", strerror(errno));
}

void userfault_server_fill(struct userfault_server *server, u64 page)
{
	struct userfault_slot *s = server->s;
	u64 generation, i, word;
	u64 *p;

	/* The bit before the generation: the pager writes them in the other order. */
	if (!userfault_test_bit(s, page))
		return;
	while ((generation = __atomic_load_n(&server->c->generation[page],
					     __ATOMIC_SEQ_CST)) & 1)
		sched_yield();

	p = server->uffd ? (u64 *)server->buffer : userfault_alias(s, page);
	word = userfault_pattern_first(userfault_gfn(s, page), generation);
	for (i = 0; i < s->page_size / sizeof(*p); i++) {
		if (i == s->page_size / sizeof(*p) / 2)
			step(server, USERFAULT_STEP_HALF);
		WRITE_ONCE(p[i], word);
		word += USERFAULT_PATTERN_STEP;
	}
	if (server->uffd)
		copy_page(server, page);
	step(server, USERFAULT_STEP_FILLED);
	userfault_clear_bit(s, page);
}

static void serve(struct userfault_server *server, u64 page)
{
	int r;

	step(server, USERFAULT_STEP_READ);
	if (server->lock)
		pthread_mutex_lock(server->lock);
	userfault_server_fill(server, page);
	if (server->lock)
		pthread_mutex_unlock(server->lock);

	step(server, USERFAULT_STEP_CLEARED);
	if (server->die_at == USERFAULT_STEP_WAKE &&
	    server->c->served >= server->die_after)
		wake_for_ever(server);
	r = wake(server, page, 1);
	/* The VM, or whoever gave the file, may go at any time. */
	TEST_ASSERT(!r || (!server->uffd && errno == EPIPE), "WAKE: %s", strerror(errno));
	__atomic_fetch_add(&server->c->served, 1, __ATOMIC_SEQ_CST);
}

void userfault_server_run(struct userfault_server *server)
{
	struct kvm_userfault_event events[8];
	struct uffd_msg msg;
	ssize_t n, i;

	for (;;) {
		if (server->uffd)
			n = read(server->fd, &msg, sizeof(msg));
		else
			n = read(server->fd, events, sizeof(events));
		if (n == -1 && (errno == EINTR || errno == EAGAIN))
			continue;
		TEST_ASSERT(n >= 0, "read: %s", strerror(errno));
		if (!n)
			return;

		if (server->uffd) {
			TEST_ASSERT_EQ(n, sizeof(msg));
			TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
			serve(server, (msg.arg.pagefault.address - server->uffd_base) /
				      server->s->page_size);
			continue;
		}
		TEST_ASSERT(!(n % sizeof(events[0])), "read: %zd", n);
		for (i = 0; i < n / (ssize_t)sizeof(events[0]); i++)
			serve(server, userfault_page_of(server->s, events[i].gpa));
	}
}

void userfault_send_fds(int sock, const void *data, size_t size, const int *fds, int nr)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = {};
	struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	TEST_ASSERT(sendmsg(sock, &msg, 0) == (ssize_t)size, "sendmsg: %s", strerror(errno));
}

int userfault_recv_fds(int sock, void *data, size_t size, int *fds, int nr)
{
	char control[CMSG_SPACE(8 * sizeof(int))];
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	ssize_t n;

	n = recvmsg(sock, &msg, 0);
	if (!n)
		return 0;
	TEST_ASSERT(n == (ssize_t)size, "recvmsg: %zd (%s)", n, strerror(errno));
	cmsg = CMSG_FIRSTHDR(&msg);
	TEST_ASSERT(cmsg && cmsg->cmsg_type == SCM_RIGHTS &&
		    cmsg->cmsg_len == CMSG_LEN(nr * sizeof(int)), "no files came");
	memcpy(fds, CMSG_DATA(cmsg), nr * sizeof(int));
	return nr;
}

/* What goes beside the files. */
struct order {
	u64 gpa, npages, uffd_base;
	u32 uffd, die_at, die_after;
};

enum { FD_USERFAULT, FD_MEMORY, FD_BITMAP, FD_CONTROL, NR_FDS };

pid_t userfault_server_spawn(struct userfault_paging *p, int fd, bool uffd,
			     enum userfault_step die_at, u32 die_after)
{
	struct order order = {
		.gpa = userfault_gpa(p->s, 0),
		.npages = p->s->npages,
		.uffd_base = (uintptr_t)p->s->mem,
		.uffd = uffd,
		.die_at = die_at,
		.die_after = READ_ONCE(p->c->served) + die_after,
	};
	int fds[NR_FDS] = {
		[FD_USERFAULT] = fd,
		[FD_MEMORY] = p->s->fd,
		[FD_BITMAP] = p->s->bitmap_fd,
		[FD_CONTROL] = p->control_slot->fd,
	};
	char *const argv[] = { program_invocation_name, SERVER_ARG, NULL };
	posix_spawn_file_actions_t actions;
	int sock[2], r;
	char ready;
	pid_t pid;

	WRITE_ONCE(p->c->waking, 0);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), "socketpair");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, sock[1], SERVER_SOCKET);
	posix_spawn_file_actions_addclosefrom_np(&actions, SERVER_SOCKET + 1);
	r = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
	TEST_ASSERT(!r, "posix_spawn: %s", strerror(r));
	posix_spawn_file_actions_destroy(&actions);
	close(sock[1]);

	userfault_send_fds(sock[0], &order, sizeof(order), fds, NR_FDS);
	TEST_ASSERT(read(sock[0], &ready, 1) == 1, "the server does not start");
	close(sock[0]);
	return pid;
}

void userfault_server_main(int argc, char **argv)
{
	struct userfault_slot s = {};
	struct userfault_server server = { .s = &s };
	struct order order;
	int fds[NR_FDS];

	if (argc != 2 || strcmp(argv[1], SERVER_ARG))
		return;

	/* A test that fails leaves nothing behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	TEST_ASSERT(userfault_recv_fds(SERVER_SOCKET, &order, sizeof(order), fds,
				       NR_FDS) == NR_FDS, "no order");
	s.page_size = getpagesize();
	s.npages = order.npages;
	s.region.guest_phys_addr = order.gpa;
	s.alias = kvm_mmap(s.npages * s.page_size, PROT_READ | PROT_WRITE,
			   MAP_SHARED, fds[FD_MEMORY]);
	s.bitmap_size = align_up(DIV_ROUND_UP(s.npages, 8), s.page_size);
	s.bitmap = kvm_mmap(s.bitmap_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    fds[FD_BITMAP]);
	server.c = kvm_mmap(s.page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    fds[FD_CONTROL]);
	server.buffer = kvm_mmap(s.page_size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	server.fd = fds[FD_USERFAULT];
	server.uffd = order.uffd;
	server.uffd_base = order.uffd_base;
	server.die_at = order.die_at;
	server.die_after = order.die_after;
	TEST_ASSERT(write(SERVER_SOCKET, "r", 1) == 1, "no answer");
	close(SERVER_SOCKET);

	userfault_server_run(&server);
	exit(0);
}

void userfault_server_reap(pid_t pid)
{
	int status;

	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "The server should have been killed, but ended with status 0x%x",
		    status);
}
