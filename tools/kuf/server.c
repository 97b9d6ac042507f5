// SPDX-License-Identifier: GPL-2.0
/*
 * The pager's thread, or process.
 *
 * The process is forked before the VMM opens /dev/kvm, with the source and the policy
 * as they are then, and gets what it needs of KVM and memory by a socket.  The socket
 * also tells each of the two that the other one is gone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bell.h"
#include "pager.h"
#include "vm.h"

#define MAX_FDS		16

void server_init(struct server *server)
{
	*server = (struct server){ .socket = -1, .stop = -1 };
}

/* Nobody can go on without that page. */
static int poisoned(const struct kuf_service *s)
{
	return kuf_error(-EHWPOISON, "the guest needs the page at 0x%llx",
			 (unsigned long long)s->poison_gpa);
}

/* Until @stop is readable, or at its end; or the userfault fd is. */
static int serve(struct pager *p, struct kuf *k, int stop)
{
	struct pollfd fds[MAX_FDS] = { { .fd = stop, .events = POLLIN } };
	struct kuf_poll poll_args = { .size = sizeof(poll_args), .fds = fds + 1,
				      .nr = MAX_FDS - 1 };
	struct kuf_service s = { .size = sizeof(s) };
	int err;

	for (;;) {
		err = kuf_pollfds(k, &poll_args);
		if (err)
			return kuf_error(err, "the pager waits for more than %d files", MAX_FDS);
		if (poll(fds, 1 + poll_args.used, poll_args.timeout_ms) < 0 && errno != EINTR)
			return kuf_error(-errno, "poll of the userfault fd");
		if (fds[0].revents)
			return 0;
		err = kuf_service(k, &s);
		pager_note_progress(p, k);
		if (err)
			return kuf_error(err,
					 "pages cannot be filled any more, for what was said before: the VM ends");
		if (s.poison_hit)
			return poisoned(&s);
		if (s.end)
			return 0;
	}
}

static int import(int socket, struct kuf **k)
{
	struct kuf_export ex = { .size = sizeof(ex) };
	unsigned int i;
	int err, uffd;

	err = kuf_recv(&ex, socket);
	if (err)
		return err;
	err = kuf_import(&ex, k, &uffd);
	for (i = 0; i < ex.nr_fds; i++) {
		if (err || ex.fds[i] != uffd)
			close(ex.fds[i]);
	}
	return err ?: kuf_set_fd(*k, uffd);
}

static int serve_process(struct pager *p, int socket)
{
	struct kuf *k;
	char ready = 1;
	int err;

	err = import(socket, &k);
	/* The VMM ended before there was anything to serve. */
	if (err == -EPIPE)
		return 0;
	if (!err)
		err = kuf_set_source(k, p->config.ops, p->config.source);
	if (!err)
		err = pager_set_policy(p, k);
	if (err) {
		kuf_error(err,
			  "the pager's process cannot take the memory over: --pager=thread (or --lazy=thread) has none");
		return 1;
	}
	if (write(socket, &ready, 1) != 1)
		return 1;
	return !!serve(p, k, socket);
}

int server_fork(struct server *server, struct pager *pager)
{
	pid_t pid, vmm = getpid();
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return kuf_error(-errno, "a socket for the pager's process: raise ulimit -n");
	pid = fork();
	if (pid < 0) {
		pid = -errno;
		close(sockets[0]);
		close(sockets[1]);
		return kuf_error(pid,
				 "a process for the pager: raise ulimit -u, or use --pager=thread (--lazy=thread)");
	}
	if (!pid) {
		prctl(PR_SET_NAME, "kuf-pager");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sockets[0]);
		_exit(getppid() == vmm ? serve_process(pager, sockets[1]) : 1);
	}
	close(sockets[1]);
	server->socket = sockets[0];
	server->pid = pid;
	return 0;
}

static void *serve_thread(void *arg)
{
	struct pager *p = arg;
	struct server *server = &p->server;

	server->err = serve(p, p->k, server->stop);
	if (server->err)
		vm_stop(p->vm, KUF_EXIT_PAGER);
	return NULL;
}

/* Nothing comes by the socket but its end. */
static void *watch_process(void *arg)
{
	struct pager *p = arg;
	struct pollfd fds[] = {
		{ .fd = p->server.stop, .events = POLLIN },
		{ .fd = p->server.socket, .events = POLLIN },
	};

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	if (!fds[0].revents)
		vm_stop(p->vm, KUF_EXIT_PAGER);
	return NULL;
}

int server_start(struct server *server, struct pager *pager, void *(*serve)(void *))
{
	int err;

	server->stop = eventfd(0, EFD_CLOEXEC);
	if (server->stop < 0)
		return kuf_error(-errno, "an eventfd for the pager: raise ulimit -n");
	err = pthread_create(&server->thread, NULL, serve, pager);
	if (err)
		return kuf_error(-err, "a thread for the pager: raise ulimit -u");
	server->has_thread = true;
	return 0;
}

int server_start_thread(struct server *server, struct pager *pager)
{
	return server_start(server, pager, serve_thread);
}

int server_start_process(struct server *server, struct pager *pager,
			 const struct kuf_export *ex)
{
	char ready;
	int err;

	err = kuf_send(ex, server->socket);
	if (err)
		return kuf_error(err, "the pager's process (%d) takes no order: was it killed?",
				 server->pid);
	if (read(server->socket, &ready, 1) != 1)
		return kuf_error(-EIO,
				 "the pager's process (%d) does not serve: it was killed, or says why above",
				 server->pid);
	return server_start(server, pager, watch_process);
}

static void stop_thread(struct server *server)
{
	bell_ring(server->stop);
	pthread_join(server->thread, NULL);
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
		return kuf_error(-errno, "waiting for the pager's process (%d)", server->pid);
	if (WIFSIGNALED(status))
		return kuf_error(-EIO,
				 "the pager's process was killed by signal %d: restore again; a kuf pager (--pager=unix:PATH) may be killed",
				 WTERMSIG(status));
	return WEXITSTATUS(status) ? kuf_error(-EIO,
				"the pager's process has failed, and says why above") : 0;
}

int server_stop(struct server *server)
{
	int err = 0;

	if (server->has_thread) {
		stop_thread(server);
		err = server->err ? -EIO : 0;
	}
	if (server->stop >= 0)
		close(server->stop);
	if (server->pid && stop_process(server))
		err = -EIO;
	server_init(server);
	return err;
}
