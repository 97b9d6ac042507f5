// SPDX-License-Identifier: GPL-2.0
/*
 * The control socket of a VM that runs.  A VM that was saved ends, as what goes on is
 * the saved one; when saving fails it goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "snapshot.h"
#include "status.h"

int control_address(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return kuf_error(0, "%s: too long for a socket", path);
	strcpy(address->sun_path, path);
	return 0;
}

/* All of it, and no more than it says. */
static bool is_answer(const struct control_answer *a, ssize_t n)
{
	const ssize_t head = offsetof(struct control_answer, text);

	return n >= head && a->length <= sizeof(a->text) && n == head + (ssize_t)a->length &&
	       (!a->length || !a->text[a->length - 1]);
}

int control_ask(const char *path, const struct control_request *request,
		struct control_answer *answer)
{
	struct sockaddr_un address;
	int fd, err;

	err = control_address(&address, path);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return kuf_error(-errno, "socket");
	answer->text[0] = 0;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err = kuf_error(-errno, "%s", path);
	else if (send(fd, request, sizeof(*request), MSG_NOSIGNAL) != sizeof(*request) ||
		 !is_answer(answer, recv(fd, answer, sizeof(*answer), 0)))
		err = kuf_error(-EPIPE, "the VM of %s does not answer", path);
	else if (answer->err)
		err = kuf_error(answer->err, "the VM of %s refused; its kuf says why", path);
	close(fd);
	return err;
}

static int save(struct machine *m, const char *path)
{
	int err = machine_pause(m);

	if (err) {
		kuf_error(err, "the VM has ended");
	} else {
		kuf_say("the guest stands still, %u disk requests in flight",
			blk_in_flight(&m->blk));
		err = snapshot_write(m, path);
	}
	if (err) {
		machine_resume(m);
		kuf_say("the guest runs");
	}
	return err;
}

static bool is_path(const struct control_request *r)
{
	return r->path[0] == '/' && memchr(r->path, 0, sizeof(r->path));
}

static void status(struct machine *m, struct control_answer *answer)
{
	struct status s;

	status_of(m, &s);
	answer->err = status_text(&s, answer->text, sizeof(answer->text));
	answer->length = answer->err ? 0 : strlen(answer->text) + 1;
}

/* True: the VM is saved, and shall end. */
static bool act(struct control *c, const struct control_request *r, struct control_answer *answer)
{
	if (r->op == CONTROL_STATUS && !r->reserved) {
		status(c->machine, answer);
		return false;
	}
	if (r->op == CONTROL_SAVE && !r->reserved && is_path(r)) {
		answer->err = save(c->machine, r->path);
		return !answer->err;
	}
	answer->err = kuf_error(-EPROTO, "a malformed request to the control socket");
	return false;
}

static void serve_one(struct control *c, int fd)
{
	struct timeval patience = { .tv_sec = 5 };
	struct control_request request;
	struct control_answer *answer = &c->answer;
	bool end = false;
	ssize_t n;

	*answer = (struct control_answer){};
	/* One who connects and says nothing keeps others waiting, but not for long. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	n = recv(fd, &request, sizeof(request), 0);
	if (n == sizeof(request))
		end = act(c, &request, answer);
	else
		answer->err = kuf_error(-EPROTO, "a malformed request to the control socket");
	send(fd, answer, offsetof(struct control_answer, text) + answer->length, MSG_NOSIGNAL);
	if (end)
		vm_stop(&c->machine->vm, KUF_EXIT_OK);
}

static void *serve(void *arg)
{
	struct control *c = arg;
	struct pollfd fds[] = {
		{ .fd = c->socket, .events = POLLIN },
		{ .fd = c->stop, .events = POLLIN },
	};
	int fd;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		if (!fds[0].revents)
			continue;
		fd = accept4(c->socket, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		serve_one(c, fd);
		close(fd);
	}
	return NULL;
}

int control_start(struct control *c, struct machine *m, const char *path)
{
	struct sockaddr_un address;
	mode_t mask;
	int err;

	*c = (struct control){ .machine = m, .path = path, .socket = -1, .stop = -1 };
	err = control_address(&address, path);
	if (err)
		return err;
	c->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	c->stop = eventfd(0, EFD_CLOEXEC);
	if (c->socket < 0 || c->stop < 0) {
		err = kuf_error(-errno, "a control socket");
		goto err_fds;
	}
	mask = umask(0177);
	err = bind(c->socket, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	umask(mask);
	if (err) {
		kuf_error(err, "%s", path);
		goto err_fds;
	}
	if (listen(c->socket, 4)) {
		err = kuf_error(-errno, "%s", path);
		goto err_bound;
	}
	err = -pthread_create(&c->thread, NULL, serve, c);
	if (err) {
		kuf_error(err, "a thread for the control socket");
		goto err_bound;
	}
	c->has_thread = true;
	return 0;

err_bound:
	unlink(path);
err_fds:
	if (c->socket >= 0)
		close(c->socket);
	if (c->stop >= 0)
		close(c->stop);
	return err;
}

void control_stop(struct control *c)
{
	u64 one = 1;

	if (!c->has_thread)
		return;
	if (write(c->stop, &one, sizeof(one)) != sizeof(one))
		kuf_error(-errno, "eventfd");
	pthread_join(c->thread, NULL);
	c->has_thread = false;
	unlink(c->path);
	close(c->socket);
	close(c->stop);
}
