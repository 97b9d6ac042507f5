// SPDX-License-Identifier: GPL-2.0
/*
 * The control socket of a VM that runs.  A VM that was saved or sent ends, as what goes
 * on is the saved or sent one; when that fails it goes on, unless it was given up.
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

#include "bell.h"
#include "control.h"
#include "migrate.h"
#include "net.h"
#include "snapshot.h"
#include "stream_source.h"

int control_address(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return kuf_error(0, "%s: too long for a socket", path);
	strcpy(address->sun_path, path);
	return 0;
}

int control_ask(const char *path, const struct control_request *request,
		struct control_reply *reply)
{
	struct sockaddr_un address;
	int fd, err;

	err = control_address(&address, path);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return kuf_error(-errno, "socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err = kuf_error(-errno, "%s", path);
	else if (send(fd, request, sizeof(*request), MSG_NOSIGNAL) != sizeof(*request) ||
		 recv(fd, reply, sizeof(*reply), 0) != sizeof(*reply))
		err = kuf_error(-EPIPE, "the VM of %s does not answer", path);
	close(fd);
	return err;
}

static int save(struct machine *m, const char *path)
{
	int err = machine_pause(m);

	if (err) {
		kuf_error(err, "the VM has ended");
	} else {
		machine_say_paused(m);
		err = snapshot_write(m, path);
	}
	if (err)
		machine_resume(m);
	return err;
}

static int send_vm(struct control *c, const struct control_request *request)
{
	struct net_address to;
	int err;

	strcpy(c->to, request->text);
	c->outgoing = (struct outgoing){
		.cancel = c->stop,
		.retry_ms = request->retry_ms,
		.origin.latency_ns = request->latency_us * 1000,
		.origin.bandwidth = request->bandwidth,
	};
	err = net_parse(&to, c->to);
	return err ?: migrate_send(c->machine, &c->outgoing, &to);
}

static int recover(struct control *c, const struct control_request *request)
{
	struct net_address to;
	int err;

	if (request->text[0])
		strcpy(c->to, request->text);
	c->outgoing.retry_ms = request->retry_ms;
	err = net_parse(&to, c->to);
	if (err)
		return err;
	if (request->op == CONTROL_ANOTHER)
		return migrate_to_another(c->machine, &c->outgoing, request->revoke, &to);
	return migrate_recover(&c->outgoing, &to);
}

static u32 coming(const struct machine *m)
{
	return __atomic_load_n(&m->coming, __ATOMIC_ACQUIRE);
}

/* Of a VM that is not here, or not all of it. */
static u32 coming_state(const struct machine *m, const struct kuf_report *report)
{
	if (coming(m) == MACHINE_WAITS_FOR_GO)
		return CONTROL_WAITS_FOR_GO;
	if (m->from && READ_ONCE(m->from->end) == STREAM_SOURCE_CUT &&
	    !READ_ONCE(m->from->complete))
		return CONTROL_RECOVERABLE;
	return report->armed_ns && !report->populated_ns ? CONTROL_POSTCOPY : CONTROL_RUNNING;
}

static u32 sending_state(const struct control *c)
{
	if (c->request.op == CONTROL_SAVE)
		return CONTROL_SAVING;
	return READ_ONCE(c->outgoing.paused_ns) ? CONTROL_PAUSED : CONTROL_SENDING;
}

static u32 state_of(struct control *c, const struct kuf_report *report)
{
	if (vm_is_stopped(&c->machine->vm))
		return CONTROL_ENDED;
	if (READ_ONCE(c->outgoing.given_up) && READ_ONCE(c->outgoing.vacant))
		return CONTROL_VACANT;
	if (READ_ONCE(c->outgoing.given_up))
		return READ_ONCE(c->outgoing.phase) == OUTGOING_CUT ? CONTROL_RECOVERABLE :
		       CONTROL_GIVEN_UP;
	if (__atomic_load_n(&c->busy, __ATOMIC_ACQUIRE))
		return sending_state(c);
	return coming_state(c->machine, report);
}

/* There is no VM to look at. */
static bool fill_early_status(const struct machine *m, struct control_status *status)
{
	u32 how = coming(m);

	if (how != MACHINE_LISTENS && how != MACHINE_RECEIVES)
		return false;
	*status = (struct control_status){ .state = CONTROL_LISTENING };
	if (how == MACHINE_RECEIVES) {
		status->state = CONTROL_RECEIVING;
		status->epoch = m->epoch;
		memcpy(status->session, m->session, sizeof(status->session));
	}
	return true;
}

static void fill_status(struct control *c, struct control_status *status)
{
	const struct outgoing *o = &c->outgoing;
	const struct machine *m = c->machine;
	int i;

	if (fill_early_status(m, status))
		return;
	*status = (struct control_status){
		.outgoing_phase = READ_ONCE(o->phase),
		.epoch = m->epoch,
		.mem_size = m->vm.mem.size,
		.nr_cpus = m->vm.nr_vcpus,
		.has_disk = m->has_blk,
		.disk_requests = m->has_blk ? READ_ONCE(m->blk.requests) : 0,
		.engine = m->pager.config.engine,
		.policy = m->pager.config.policy.kind,
		.now_ns = stream_now_ns(),
		.paused_ns = READ_ONCE(o->paused_ns),
		.go_ns = READ_ONCE(o->go_ns),
		.started_ns = READ_ONCE(o->origin.started_ns),
		.sent.failed = READ_ONCE(o->origin.counts.failed),
		.left_pages = READ_ONCE(o->origin.absent.count),
		.lost_pages = READ_ONCE(o->origin.poisoned.count),
	};
	memcpy(status->session, m->session, sizeof(status->session));
	for (i = 0; i < 2; i++) {
		status->sent.requests[i] = READ_ONCE(o->origin.counts.requests[i]);
		status->sent.pages[i] = READ_ONCE(o->origin.counts.pages[i]);
		status->sent.zero_pages[i] = READ_ONCE(o->origin.counts.zero_pages[i]);
	}
	machine_report(c->machine, &status->report);
	remote_get_status(&c->machine->pager, &status->remote);
	status->state = state_of(c, &status->report);
}

/* Closes @fd. */
static void reply(struct control *c, int fd, int err, bool given_up, bool recoverable)
{
	struct control_reply reply = {
		.err = err, .given_up = given_up, .recoverable = recoverable,
	};

	fill_status(c, &reply.status);
	send(fd, &reply, sizeof(reply), MSG_NOSIGNAL);
	close(fd);
}

/*
 * The VM ends here if it goes on elsewhere, or cannot any more.  While its connections are
 * cut it stays, as others need its memory.
 */
static void *do_job(void *arg)
{
	struct control *c = arg;
	const struct control_request *r = &c->request;
	bool given_up = false, recoverable = false;
	int err;

	if (r->op == CONTROL_SAVE) {
		err = save(c->machine, r->text);
	} else {
		err = r->op == CONTROL_SEND ? send_vm(c, r) : recover(c, r);
		given_up = c->outgoing.given_up;
		recoverable = c->outgoing.phase == OUTGOING_CUT;
	}
	/* What others need of it may be all that is left. */
	c->machine->vm.mem.keeps_file = given_up && err;
	/* Whoever gets the reply may have the next job at once; it begins after this thread. */
	__atomic_store_n(&c->busy, false, __ATOMIC_RELEASE);
	reply(c, c->job_fd, err, given_up, recoverable);
	if (!err)
		vm_stop(&c->machine->vm, KUF_EXIT_OK);
	else if (given_up && !recoverable)
		vm_stop(&c->machine->vm, KUF_EXIT_LOST);
	return NULL;
}

static void join_job(struct control *c)
{
	if (c->has_job)
		pthread_join(c->job, NULL);
	c->has_job = false;
}

static bool recovers(const struct control_request *request)
{
	return request->op == CONTROL_RECOVER || request->op == CONTROL_ANOTHER;
}

/* Takes @fd over. */
static int start_job(struct control *c, int fd, const struct control_request *request)
{
	int err;

	if (__atomic_load_n(&c->busy, __ATOMIC_ACQUIRE))
		return kuf_error(-EBUSY, "the VM is being saved, or sent, already");
	join_job(c);
	if (coming(c->machine) != MACHINE_HERE)
		return kuf_error(-EBUSY, "it does not run here yet: its source has it");
	if (vm_is_stopped(&c->machine->vm))
		return kuf_error(-ESRCH, "the VM has ended");
	if (recovers(request) && c->outgoing.phase != OUTGOING_CUT)
		return kuf_error(-EINVAL, "nothing is to be recovered (see kuf status)");
	if (!recovers(request) && c->outgoing.given_up)
		return kuf_error(-EBUSY, "the VM was given up: kuf recover connects to it again");
	c->request = *request;
	c->job_fd = fd;
	__atomic_store_n(&c->busy, true, __ATOMIC_RELEASE);
	err = -pthread_create(&c->job, NULL, do_job, c);
	c->has_job = !err;
	if (err)
		__atomic_store_n(&c->busy, false, __ATOMIC_RELEASE);
	return err ? kuf_error(err, "a thread to save or send the VM") : 0;
}

static bool is_sound(const struct control_request *r, ssize_t size)
{
	if (size != sizeof(*r) || r->reserved || !memchr(r->text, 0, sizeof(r->text)) ||
	    !memchr(r->revoke, 0, sizeof(r->revoke)))
		return false;
	switch (r->op) {
	case CONTROL_SAVE:
		return r->text[0] == '/';
	case CONTROL_SEND:
	case CONTROL_RECOVER:
		return r->retry_ms <= CONTROL_RETRY_MAX && r->latency_us <= CONTROL_LATENCY_MAX;
	case CONTROL_ANOTHER:
		return r->retry_ms <= CONTROL_RETRY_MAX && r->text[0] &&
		       (!r->revoke[0] || r->revoke[0] == '/');
	case CONTROL_STATUS:
	case CONTROL_POISON:
	case CONTROL_UNPOISON:
		return true;
	default:
		return false;
	}
}

/*
 * Only what is poisoned: of other pages the source knows best what they are.  Whatever is
 * lost meanwhile stays lost.
 */
static int clear(struct control *c, u64 gpa, u64 len)
{
	struct machine *m = c->machine;
	u64 end = gpa + len, nr;
	int err = 0;

	/* The destination has it as it was, or is told that it is lost: it is not to be zero. */
	if (READ_ONCE(c->outgoing.given_up))
		return kuf_error(-EBUSY, "the VM was given up: kuf poison --clear where it runs");
	for (; !err && !pager_next_poisoned(m->vm.pager, &gpa, &nr) && gpa < end; gpa += nr) {
		if (nr > end - gpa)
			nr = end - gpa;
		if (m->from)
			stream_source_clear(m->from, gpa, nr);
		err = vm_unpoison(&m->vm, gpa, nr);
	}
	return err;
}

/*
 * Here, so that no job begins meanwhile, whose state would not have it.  A VM that was given
 * up is poisoned for the destination, as far as it did not get the pages yet.
 */
static int poison(struct control *c, const struct control_request *r)
{
	struct vm *vm = &c->machine->vm;
	int err;

	if (vm_is_stopped(vm))
		return kuf_error(-ESRCH, "the VM has ended");
	if (coming(c->machine) != MACHINE_HERE)
		return kuf_error(-EBUSY, "it does not run here yet: its source has it");
	if (__atomic_load_n(&c->busy, __ATOMIC_ACQUIRE) && !READ_ONCE(c->outgoing.given_up))
		return kuf_error(-EBUSY, "the VM is being saved, or sent, already");
	/* Before anything is recorded that would have no reason. */
	err = vm_may_poison(vm, r->gpa, r->len);
	if (err)
		return err;
	if (r->op == CONTROL_UNPOISON)
		return clear(c, r->gpa, r->len);
	if (READ_ONCE(c->outgoing.given_up))
		err = migrate_lost(c->machine);
	return err ?: vm_poison(vm, r->gpa, r->len);
}

static void answer(struct control *c, int fd)
{
	struct timeval patience = { .tv_sec = 5 };
	struct control_request request;
	ssize_t n;
	int err = 0;

	/* One who connects and says nothing keeps others waiting, but not for long. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	n = recv(fd, &request, sizeof(request), 0);
	if (!is_sound(&request, n)) {
		err = kuf_error(-EPROTO, "a malformed request to the control socket");
	} else if (request.op == CONTROL_POISON || request.op == CONTROL_UNPOISON) {
		err = poison(c, &request);
	} else if (request.op != CONTROL_STATUS) {
		err = start_job(c, fd, &request);
		if (!err)
			return;
	}
	reply(c, fd, err, false, false);
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
		if (fd < 0) {
			net_back_off(errno);
			continue;
		}
		answer(c, fd);
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
	if (!c->has_thread)
		return;
	bell_ring(c->stop);
	pthread_join(c->thread, NULL);
	c->has_thread = false;
	join_job(c);
	outgoing_free(&c->outgoing);
	unlink(c->path);
	close(c->socket);
	close(c->stop);
}
