// SPDX-License-Identifier: GPL-2.0
/*
 * The source: until GO was sent it can go on with its VM, from then on it cannot.
 */
#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "maps.h"
#include "outgoing.h"

#define CONNECT_MS	10000
#define PHASE_MS	30000
#define TAKE_BACK_MS	2000
#define RETRY_MS	200
/* For one that is there, and says each time that it cannot start the VM. */
#define NOT_STARTED_MS	1000

static const char * const phase_names[] = {
	[OUTGOING_NONE] = "none",
	[OUTGOING_CONNECTING] = "connecting",
	[OUTGOING_STATE] = "sending-state",
	[OUTGOING_READY] = "waiting-for-ready",
	[OUTGOING_GIVEN_UP] = "given-up",
	[OUTGOING_CUT] = "recoverable",
	[OUTGOING_DONE] = "completed",
	[OUTGOING_FAILED] = "failed",
};

const char *outgoing_phase_name(enum outgoing_phase phase)
{
	return phase_names[phase];
}

static void set_phase(struct outgoing *o, enum outgoing_phase phase)
{
	__atomic_store_n(&o->phase, phase, __ATOMIC_RELAXED);
}

/* Says who this is, and hears who the other one is. */
static int greet(struct outgoing *o, const struct net_address *to, struct stream *s,
		 struct proto_hello *hello, const char *name)
{
	struct stream_frame frame;
	struct proto_hello answer;
	int fd, err;

	fd = net_connect(to, CONNECT_MS, o->cancel);
	if (fd < 0)
		return fd;
	err = stream_open(s, fd, name, 0, o->cancel);
	if (!err)
		err = stream_send(s, PROTO_HELLO, hello, sizeof(*hello), PHASE_MS);
	if (!err)
		err = stream_receive(s, PROTO_HELLO, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&answer, frame.data, sizeof(answer));
	err = lobby_check_features(&answer);
	if (err)
		return err;
	if (memcmp(answer.session, hello->session, sizeof(answer.session)) ||
	    answer.epoch != hello->epoch || answer.role != hello->role || answer.reserved)
		return kuf_error(-EBADMSG, "%s expects another VM", to->text);
	memcpy(hello->token, answer.token, sizeof(hello->token));
	s->epoch = hello->epoch;
	return 0;
}

static void say_who(const struct outgoing *o, struct proto_hello *hello, enum proto_role role)
{
	*hello = (struct proto_hello){ .required = PROTO_REQUIRED, .role = role };
	hello->epoch = role == PROTO_MAIN ? o->epoch : o->epoch + 1;
	memcpy(hello->session, o->session, sizeof(hello->session));
	if (role != PROTO_MAIN)
		memcpy(hello->token, o->token, sizeof(hello->token));
}

static int connect_both(struct outgoing *o, const struct net_address *to, enum proto_role role)
{
	struct proto_hello hello;
	int err;

	say_who(o, &hello, role);
	err = greet(o, to, &o->main, &hello, "main");
	if (err)
		return err;
	if (role == PROTO_MAIN)
		memcpy(o->token, hello.token, sizeof(o->token));
	hello.role = PROTO_URGENT;
	return greet(o, to, &o->urgent, &hello, "urgent");
}

static int send_state(struct outgoing *o, const struct frame_writer *w)
{
	struct proto_end end = { .state_size = w->size, .state_crc = crc32c(0, w->data, w->size) };
	u64 at, n;
	int err;

	if (w->size > PROTO_STATE_MAX)
		return kuf_error(-E2BIG, "a state of %llu bytes", (unsigned long long)w->size);
	o->config.state_size = w->size;
	o->config.state_frames = w->nr;
	o->config.page_size = PAGE_SIZE;
	err = stream_send(&o->main, PROTO_CONFIG, &o->config, sizeof(o->config), PHASE_MS);
	for (at = 0; !err && at < w->size; at += n) {
		n = w->size - at < PROTO_STATE_CHUNK ? w->size - at : PROTO_STATE_CHUNK;
		err = stream_send(&o->main, PROTO_STATE, w->data + at, n, PHASE_MS);
	}
	return err ?: stream_send(&o->main, PROTO_END_OF_STATE, &end, sizeof(end), PHASE_MS);
}

static int wait_ready(struct outgoing *o)
{
	struct stream_frame frame;
	struct proto_epoch ready;
	int err;

	err = stream_receive(&o->main, PROTO_READY, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(&ready, frame.data, sizeof(ready));
	if (ready.epoch != o->epoch + 1)
		return kuf_error(-EBADMSG, "READY for another epoch");
	return 0;
}

/* From here on the destination may run the VM, and nobody else. */
static int send_go(struct outgoing *o)
{
	struct proto_epoch next = { .epoch = o->epoch + 1 };
	int err;

	err = stream_send(&o->main, PROTO_GO, &next, sizeof(next), PHASE_MS);
	o->main.epoch = next.epoch;
	o->urgent.epoch = next.epoch;
	return err;
}

/* The VM stands still; it is only given up when the destination can run it. */
static int hand_over(struct outgoing *o)
{
	int err;

	err = o->ops->offer(o->vm, o->epoch + 1);
	if (!err)
		err = send_state(o, &o->state);
	if (err)
		return err;
	set_phase(o, OUTGOING_READY);
	err = wait_ready(o);
	if (!err)
		err = o->ops->give_up(o->vm, o->epoch + 1, o->token);
	if (err)
		return err;
	/* GO may be received from the moment on at which it is tried to be sent. */
	__atomic_store_n(&o->given_up, true, __ATOMIC_RELAXED);
	__atomic_store_n(&o->vacant, false, __ATOMIC_RELAXED);
	set_phase(o, OUTGOING_GIVEN_UP);
	o->go_ns = stream_now_ns();
	return send_go(o);
}

/* It waits for GO, or will: nobody but the source knows that it will not come. */
static void take_back(struct outgoing *o, const struct net_address *to)
{
	struct proto_hello hello;
	struct stream s = { .fd = -1 };
	int fd;

	stream_abort(&o->main, "the source goes on with the VM");
	if (READ_ONCE(o->phase) != OUTGOING_READY)
		return;
	kuf_say("tells %s that the VM goes on here", to->text);
	fd = net_connect(to, TAKE_BACK_MS, o->cancel);
	if (fd < 0)
		return;
	say_who(o, &hello, PROTO_TAKEN_BACK);
	if (!stream_open(&s, fd, "main", 0, o->cancel))
		stream_send(&s, PROTO_HELLO, &hello, sizeof(hello), TAKE_BACK_MS);
	stream_close(&s);
}

/* The other side may be there still, and wait. */
static bool may_recover(const struct outgoing *o, int err)
{
	return o->given_up && err && err != -ECANCELED && o->origin.done.kind != PROTO_DONE_BAD &&
	       !o->origin.differs;
}

static void hang_up(struct outgoing *o)
{
	stream_close(&o->main);
	stream_close(&o->urgent);
}

static int serve(struct outgoing *o)
{
	return origin_serve(&o->origin, &o->main, &o->urgent, o->cancel);
}

static int check_resume(struct outgoing *o, const struct proto_resume *r)
{
	if (memcmp(r->session, o->session, sizeof(r->session)) || r->epoch != o->epoch + 1 ||
	    r->reserved || r->started > 1 || r->pages != o->config.mem_size / PAGE_SIZE)
		return stream_bad(&o->main, "RESUME of another VM");
	if (r->absent > r->pages || r->poisoned > r->pages - r->absent ||
	    (!r->started && r->absent + r->poisoned != r->pages))
		return stream_bad(&o->main, "RESUME: %llu absent and %llu poisoned pages of %llu",
				  (unsigned long long)r->absent, (unsigned long long)r->poisoned,
				  (unsigned long long)r->pages);
	return 0;
}

/* No page is both. */
static int check_maps(struct outgoing *o, const struct pageset *absent,
		      const struct pageset *poisoned)
{
	u64 page = 0, nr;

	for (; pageset_next(poisoned, &page, &nr); page++) {
		if (pageset_has(absent, page))
			return stream_bad(&o->main, "page %llu is absent and poisoned",
					  (unsigned long long)page);
	}
	return 0;
}

/* What the destination has. */
static int take_resume(struct outgoing *o, struct proto_resume *resume)
{
	struct pageset absent, poisoned = {};
	const struct mem *mem = o->origin.mem;
	struct stream_frame frame;
	int err;

	err = stream_receive(&o->main, PROTO_RESUME, &frame, PHASE_MS);
	if (err)
		return err;
	memcpy(resume, frame.data, sizeof(*resume));
	err = check_resume(o, resume);
	if (err)
		return err;
	err = pageset_make(&absent, resume->pages);
	if (!err)
		err = pageset_make(&poisoned, resume->pages);
	if (!err)
		err = maps_receive(&absent, mem, &o->main, PROTO_ABSENT, resume->absent, PHASE_MS);
	if (!err)
		err = maps_receive(&poisoned, mem, &o->main, PROTO_POISONED, resume->poisoned,
				   PHASE_MS);
	if (!err)
		err = check_maps(o, &absent, &poisoned);
	if (!err)
		origin_resume(&o->origin, &absent, &poisoned);
	pageset_free(&absent);
	pageset_free(&poisoned);
	return err;
}

/* What is there says what it has, and hears GO, whether or not it heard it before. */
static int come_back(struct outgoing *o, const struct net_address *to)
{
	struct proto_resume resume;
	int err;

	err = connect_both(o, to, PROTO_MAIN_AGAIN);
	if (!err)
		err = take_resume(o, &resume);
	if (err) {
		if (err == -EBADMSG)
			stream_abort(&o->main, o->main.why);
		return err;
	}
	kuf_say("%s is there again: the VM %s, %llu of %llu pages absent, %llu poisoned", to->text,
		resume.started ? "was started" : "was not started yet",
		(unsigned long long)resume.absent, (unsigned long long)resume.pages,
		(unsigned long long)resume.poisoned);
	o->origin.done = (struct proto_done){};
	if (resume.started && !o->origin.started_ns)
		__atomic_store_n(&o->origin.started_ns, stream_now_ns(), __ATOMIC_RELEASE);
	return send_go(o);
}

/* It said so, or needed pages. */
static bool is_started(const struct outgoing *o)
{
	const struct origin_counts *c = &o->origin.counts;

	return o->origin.started_ns || c->requests[0] || c->requests[1];
}

/*
 * Again and again, for as long as is wished for, and so long after each cut once the VM was
 * started.  What @err was, or became; whoever is at @to and does not know this VM, or is not
 * there yet, is tried again as well.
 */
static int retry(struct outgoing *o, const struct net_address *to, int err)
{
	u64 until = stream_now_ns() + o->retry_ms * 1000000ull;
	int wait_ms = RETRY_MS;

	while (may_recover(o, err) && !o->vacant && stream_now_ns() < until) {
		hang_up(o);
		if (net_wait(-1, 0, wait_ms, o->cancel) == -ECANCELED)
			return -ECANCELED;
		wait_ms = RETRY_MS;
		err = come_back(o, to);
		if (err)
			continue;
		set_phase(o, OUTGOING_GIVEN_UP);
		err = serve(o);
		if (is_started(o))
			until = stream_now_ns() + o->retry_ms * 1000000ull;
		else
			wait_ms = NOT_STARTED_MS;
	}
	return err;
}

void outgoing_free(struct outgoing *o)
{
	frame_writer_free(&o->state);
	origin_end(&o->origin);
}

static int finish(struct outgoing *o, const struct net_address *to, int err)
{
	err = retry(o, to, err);
	hang_up(o);
	if (!may_recover(o, err)) {
		outgoing_free(o);
		set_phase(o, err ? OUTGOING_FAILED : OUTGOING_DONE);
		return err;
	}
	set_phase(o, OUTGOING_CUT);
	if (o->vacant)
		kuf_say("nobody has the VM: kuf recover --to-another=ADDRESS offers it again");
	else
		kuf_say("the VM was given up, its memory is kept here: kuf recover connects again");
	return err;
}

int outgoing_run(struct outgoing *o, const struct net_address *to)
{
	int err;

	o->main.fd = -1;
	o->urgent.fd = -1;
	set_phase(o, OUTGOING_CONNECTING);
	err = origin_begin(&o->origin);
	if (!err)
		err = connect_both(o, to, PROTO_MAIN);
	if (err)
		goto out;
	set_phase(o, OUTGOING_STATE);
	o->paused_ns = stream_now_ns();
	err = o->ops->pause(o->vm);
	if (!err)
		err = o->ops->save(o->vm, &o->state);
	if (!err)
		err = hand_over(o);
	if (!err)
		err = serve(o);
	if (err && !o->given_up)
		o->ops->resume(o->vm);
out:
	if (err && !o->given_up)
		take_back(o, to);
	return finish(o, to, err);
}

int outgoing_adopt(struct outgoing *o)
{
	o->main.fd = -1;
	o->urgent.fd = -1;
	o->given_up = true;
	set_phase(o, OUTGOING_CUT);
	return origin_begin(&o->origin);
}

int outgoing_recover(struct outgoing *o, const struct net_address *to)
{
	int err;

	if (READ_ONCE(o->phase) != OUTGOING_CUT)
		return kuf_error(-EINVAL, "the VM was not given up, or its connections are there");
	if (o->vacant)
		return kuf_error(-EINVAL, "nobody has the VM: --to-another=ADDRESS says who is to");
	o->main.fd = -1;
	o->urgent.fd = -1;
	err = come_back(o, to);
	if (!err) {
		set_phase(o, OUTGOING_GIVEN_UP);
		err = serve(o);
	}
	return finish(o, to, err);
}

void outgoing_vacate(struct outgoing *o)
{
	__atomic_store_n(&o->vacant, true, __ATOMIC_RELAXED);
}

int outgoing_to_another(struct outgoing *o, const struct net_address *to)
{
	int err;

	if (READ_ONCE(o->phase) != OUTGOING_CUT || !o->vacant)
		return kuf_error(-EINVAL, "somebody may have the VM");
	o->main.fd = -1;
	o->urgent.fd = -1;
	/* The last offer's epoch is used up, whether or not it was made. */
	o->epoch++;
	set_phase(o, OUTGOING_CONNECTING);
	origin_end(&o->origin);
	o->origin.done = (struct proto_done){};
	__atomic_store_n(&o->origin.started_ns, 0, __ATOMIC_RELEASE);
	err = origin_begin(&o->origin);
	if (!err)
		err = connect_both(o, to, PROTO_MAIN);
	if (!err)
		err = hand_over(o);
	if (!err)
		err = serve(o);
	if (err && o->vacant)
		take_back(o, to);
	return finish(o, to, err);
}
