// SPDX-License-Identifier: GPL-2.0
/*
 * A source and a destination without VMs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "world.h"

char world_said[8192];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void hear(const char *fmt, va_list ap)
{
	size_t len;

	pthread_mutex_lock(&said_lock);
	len = strlen(world_said);
	vsnprintf(world_said + len, sizeof(world_said) - len, fmt, ap);
	len = strlen(world_said);
	snprintf(world_said + len, sizeof(world_said) - len, "\n");
	pthread_mutex_unlock(&said_lock);
}

bool world_heard(const char *text)
{
	bool heard;

	pthread_mutex_lock(&said_lock);
	heard = strstr(world_said, text);
	pthread_mutex_unlock(&said_lock);
	return heard;
}

void world_forget(void)
{
	pthread_mutex_lock(&said_lock);
	world_said[0] = '\0';
	pthread_mutex_unlock(&said_lock);
}

int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	hear(fmt, ap);
	va_end(ap);
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	hear(fmt, ap);
	va_end(ap);
}

static void die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Every third page is zero, and some runs of them are long. */
static u64 word_of(u64 page, u64 i)
{
	return page % 3 == 1 || page / 100 % 4 == 3 ? 0 : (page + 1) * 0x9e3779b97f4a7c15 ^ i;
}

/*
 * The source.
 */

static void set_runs(struct world *w, int who, unsigned int runs)
{
	if (w->runs)
		__atomic_store_n(&w->runs[who], runs, __ATOMIC_SEQ_CST);
}

static int record(struct world *w, int who, u64 epoch, enum journal_owner owner)
{
	u8 session[PROTO_ID_SIZE];

	memset(session, 0xab, sizeof(session));
	return journal_write(&w->journal[who], session, epoch, owner);
}

static int pause_vm(void *vm)
{
	struct world *w = vm;

	set_runs(w, 0, 0);
	w->paused = true;
	return 0;
}

static int save_vm(void *vm, struct frame_writer *writer)
{
	struct world *w = vm;
	static u8 data[WORLD_STATE];

	memset(data, 0x5a, sizeof(data));
	if (w->error == WORLD_NO_SAVE)
		return kuf_error(-EIO, "no state");
	return frame_add(writer, 1, 1, 0, data, sizeof(data));
}

static int offer(void *vm, u64 epoch)
{
	struct world *w = vm;

	w->offers++;
	w->epoch = epoch;
	return record(w, 0, epoch, w->journal[0].record.owner == JOURNAL_VACANT ? JOURNAL_VACANT :
		      JOURNAL_HERE);
}

static int give_up(void *vm, u64 epoch, const u8 *token)
{
	struct world *w = vm;
	struct journal_given given = { .mem_size = w->source.size, .mem_file = w->source.file };

	if (w->error == WORLD_NO_GIVE_UP)
		return kuf_error(-EIO, "the disk");
	w->gave_up = true;
	memcpy(given.token, token, sizeof(given.token));
	return journal_give_up(&w->journal[0], w->out.session, epoch, &given);
}

static void resume_vm(void *vm)
{
	struct world *w = vm;

	w->resumed = true;
	set_runs(w, 0, 1);
}

static int map_source(void *opaque, u64 gpa, u64 len, void **ptr)
{
	struct world *w = opaque;
	int64_t offset = mem_offset(&w->source, gpa, len);

	if (offset < 0)
		return -EFAULT;
	if (w->bad_page && gpa / PAGE_SIZE <= w->bad_page &&
	    w->bad_page < (gpa + len) / PAGE_SIZE)
		return w->bad_error ?: -EIO;
	if (READ_ONCE(w->absent_page) && gpa / PAGE_SIZE <= w->absent_page &&
	    w->absent_page < (gpa + len) / PAGE_SIZE)
		return -EAGAIN;
	if (READ_ONCE(w->lost_page) && gpa / PAGE_SIZE <= w->lost_page &&
	    w->lost_page < (gpa + len) / PAGE_SIZE)
		return -EHWPOISON;
	if (w->changing_page && gpa / PAGE_SIZE <= w->changing_page &&
	    w->changing_page < (gpa + len) / PAGE_SIZE &&
	    __atomic_fetch_add(&w->reads, 1, __ATOMIC_RELAXED) && len == PAGE_SIZE)
		offset += 2 * PAGE_SIZE;
	*ptr = w->source.area + offset;
	return 0;
}

static int lose_page(void *opaque, const void *ptr)
{
	struct world *w = opaque;

	if (__atomic_add_fetch(&w->found, 1, __ATOMIC_RELAXED) <= w->unrecorded)
		return kuf_error(-ENOSPC, "the record");
	__atomic_store_n(&w->lost_page, ((u8 *)ptr - w->source.area) / PAGE_SIZE,
			 __ATOMIC_RELAXED);
	return 0;
}

static void init_source(struct world *w)
{
	static const struct outgoing_ops ops = { pause_vm, offer, save_vm, give_up, resume_vm };

	w->out = (struct outgoing){
		.ops = &ops,
		.vm = w,
		.epoch = 7,
		.config = { .mem_size = w->source.size, .nr_cpus = 2 },
		.cancel = -1,
		.retry_ms = w->retry_ms,
		.origin = {
			.mem = &w->source,
			.map = map_source,
			.lost = lose_page,
			.opaque = w,
			.latency_ns = w->latency_ns,
			.bandwidth = w->bandwidth,
		},
	};
	memset(w->out.session, 0xab, sizeof(w->out.session));
}

int world_come_back(struct world *w, const u8 *token)
{
	int err;

	init_source(w);
	memcpy(w->out.token, token, sizeof(w->out.token));
	err = outgoing_adopt(&w->out);
	return err ?: outgoing_recover(&w->out, &w->to);
}

static void *run_source(void *arg)
{
	struct world *w = arg;
	struct net_address again;

	init_source(w);
	w->source_err = outgoing_run(&w->out, &w->to);
	while (w->out.phase == OUTGOING_CUT && w->recovered < w->recovers) {
		w->recovered++;
		if (w->part == WORLD_SOURCE)
			usleep(50000);
		if (net_parse(&again, w->recover_at))
			die(w->recover_at);
		w->source_err = outgoing_recover(&w->out, &again);
	}
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * The destination.
 */

static void *serve(void *arg)
{
	struct kuf_service service;
	struct world *w = arg;
	struct pollfd fds[8];
	struct kuf_poll p;
	int err;

	for (;;) {
		service = (struct kuf_service){ .size = sizeof(service) };
		err = kuf_service(w->k, &service);
		if (err) {
			__atomic_store_n(&w->service_err, err, __ATOMIC_RELEASE);
			return NULL;
		}
		p = (struct kuf_poll){ .size = sizeof(p), .fds = fds, .nr = 7 };
		if (kuf_pollfds(w->k, &p))
			die("kuf_pollfds");
		if (service.more)
			p.timeout_ms = 0;
		fds[p.used] = (struct pollfd){ w->stop, POLLIN };
		poll(fds, p.used + 1, p.timeout_ms);
		if (fds[p.used].revents)
			return NULL;
	}
}

static void create_context(struct world *w)
{
	struct kuf_policy policy = { .size = sizeof(policy), .kind = w->policy,
				     .replay = w->replay, .nr_replay = w->nr_replay };
	struct kuf_params params = { .size = sizeof(params), .vm_fd = -1 };
	struct kuf_region region = {
		.size = sizeof(region), .len = w->source.size, .gmem_fd = -1,
	};

	w->memory = (struct mem){ .size = w->source.size, .fd = -1 };
	w->memory_fd = memfd_create("memory", MFD_CLOEXEC);
	if (w->memory_fd < 0 || ftruncate(w->memory_fd, w->memory.size))
		die("memfd");
	w->memory.area = mmap(NULL, w->memory.size, PROT_READ | PROT_WRITE, MAP_SHARED,
			      w->memory_fd, 0);
	if (w->memory.area == MAP_FAILED)
		die("mmap");
	/* What is left there is not to be taken for content. */
	memset(w->memory.area, 0xee, 64 * PAGE_SIZE);
	region.hva = w->memory.area;
	region.fd = w->memory_fd;
	if (kuf_create(&params, &w->k) || kuf_region_add(w->k, &region))
		die("kuf_create");
	if (stream_source_init(&w->ss, &w->memory, &w->in.main, &w->in.urgent))
		die("stream_source_init");
	w->ss.k = w->k;
	w->in.comeback.mem = &w->memory;
	w->in.comeback.k = w->k;
	w->ss.fault = w->fault;
	if (w->timeout_ms)
		w->ss.timeout_ms = w->timeout_ms;
	if (w->prepare)
		w->prepare(w);
	if (kuf_set_source(w->k, stream_source_ops(), &w->ss) || kuf_set_policy(w->k, &policy))
		die("kuf_set_source");
}

/* The state arrived as it was sent. */
static int load(struct world *w)
{
	struct frame_reader r = { .data = w->in.state, .size = w->in.config.state_size };
	struct frame frame;
	const void *data;

	if (w->load)
		return w->load(w);
	if (w->error == WORLD_NO_LOAD)
		return kuf_error(0, "state that cannot be loaded");
	if (w->in.config.state_frames != 1 || frame_next(&r, &frame, &data) != 1 ||
	    frame.length != WORLD_STATE || *(const u8 *)data != 0x5a)
		return kuf_error(0, "this is not the state that was sent");
	return 0;
}

static int receive(struct world *w)
{
	/* Somebody else's source may not come, and one between the two may keep it. */
	bool comes = w->patient || (w->part == WORLD_BOTH && !w->connect);
	int err = incoming_accept(&w->in, comes ? WORLD_PATIENCE_MS : 5000);

	if (!err)
		err = journal_may_come(&w->journal[1], w->in.hello.session,
				       w->in.hello.epoch + 1);
	if (!err)
		err = record(w, 1, w->in.hello.epoch + 1, JOURNAL_COMES);
	if (!err)
		err = incoming_receive(&w->in);
	if (!err)
		err = load(w);
	if (!err && w->error == WORLD_VANISH)
		return -EPIPE;
	if (!err) {
		create_context(w);
		w->serving = !pthread_create(&w->service_thread, NULL, serve, w);
		err = comeback_prepare(&w->in.comeback) ?: incoming_go(&w->in);
	}
	if (err) {
		incoming_abort(&w->in, "the test says so");
		return err;
	}
	if (record(w, 1, w->in.hello.epoch + 1, JOURNAL_HERE))
		die(w->journals[1]);
	set_runs(w, 1, 1);
	incoming_started(&w->in, stream_now_ns());
	stream_source_start(&w->ss);
	comeback_start(&w->in.comeback, &w->ss);
	return 0;
}

/* Made once: nobody writes there. */
static u8 *source_memory(void)
{
	static u8 *area;
	u64 page, i, *p;

	if (area)
		return area;
	area = mmap(NULL, WORLD_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		die("mmap");
	for (page = 0; page < WORLD_PAGES; page++) {
		p = (u64 *)(area + page * PAGE_SIZE);
		for (i = 0; word_of(page, 5) && i < PAGE_SIZE / sizeof(*p); i++)
			p[i] = word_of(page, i);
	}
	return area;
}

static void move_to_file(struct world *w)
{
	struct mem file;

	if (mem_create_file(&file, w->mem_path, w->source.size))
		die(w->mem_path);
	memcpy(file.area, w->source.area, file.size);
	w->source = file;
}

void world_listen(struct world *w)
{
	world_said[0] = '\0';
	if (net_parse(&w->at, w->listen))
		die(w->listen);
	w->listen_fd = w->part == WORLD_SOURCE ? dup(0) : net_listen(&w->at);
	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->listen_fd < 0 || w->stop < 0)
		die(world_said);
	if (w->part != WORLD_SOURCE)
		net_say_address(w->listen_fd, &w->at, w->to_text);

	w->source = (struct mem){ .size = w->mem_size ?: WORLD_MEM, .fd = -1 };
	w->source.area = source_memory();
	if (w->mem_path)
		move_to_file(w);
}

int world_start(struct world *w)
{
	if (net_parse(&w->to, w->connect ?: w->to_text))
		die(w->to_text);
	incoming_init(&w->in, w->listen_fd, -1);
	w->in.go_timeout_ms = w->go_timeout_ms ?: 300;
	if (journal_open(&w->journal[0], w->journals[0]) ||
	    journal_open(&w->journal[1], w->journals[1]))
		return -EINVAL;
	if (w->part == WORLD_SOURCE) {
		run_source(w);
		return w->source_err;
	}
	if (w->part == WORLD_BOTH && pthread_create(&w->source_thread, NULL, run_source, w))
		die("pthread_create");
	return receive(w);
}

static bool is_right(struct world *w, u64 page)
{
	u64 *p = (u64 *)(w->memory.area + page * PAGE_SIZE), i;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++) {
		if (p[i] != word_of(page, i))
			return false;
	}
	return true;
}

static bool serves(struct world *w)
{
	return !__atomic_load_n(&w->service_err, __ATOMIC_ACQUIRE) &&
	       __atomic_load_n(&w->ss.end, __ATOMIC_ACQUIRE) == STREAM_SOURCE_SERVES;
}

int world_touch(struct world *w, u64 page, int timeout_ms)
{
	u64 until = stream_now_ns() + timeout_ms * 1000000ull;
	int err;

	do {
		err = kuf_access(w->k, page * PAGE_SIZE, PAGE_SIZE, 0, 20000000, NULL);
	} while (err == -ETIMEDOUT && stream_now_ns() < until && serves(w));
	return err ?: is_right(w, page) ? 0 : -EILSEQ;
}

void world_wait(struct world *w, int timeout_ms)
{
	u64 until = stream_now_ns() + timeout_ms * 1000000ull;

	while (stream_now_ns() < until && serves(w))
		usleep(2000);
}

static u64 count(struct world *w, bool only_wrong)
{
	enum kuf_state state;
	u64 page, n = 0;

	for (page = 0; w->k && page < w->memory.size / PAGE_SIZE; page++) {
		if (kuf_page_state(w->k, 0, page * PAGE_SIZE, &state))
			die("kuf_page_state");
		n += state == KUF_PRESENT && !(only_wrong && is_right(w, page));
	}
	return n;
}

u64 world_wrong(struct world *w)
{
	return count(w, true);
}

u64 world_present(struct world *w)
{
	return count(w, false);
}

int world_end(struct world *w)
{
	u64 one = 1;

	comeback_stop(&w->in.comeback);
	if (w->serving) {
		if (write(w->stop, &one, sizeof(one)) != sizeof(one))
			die("eventfd");
		pthread_join(w->service_thread, NULL);
	}
	if (w->k) {
		stream_source_finish(&w->ss);
		kuf_set_source(w->k, NULL, NULL);
		kuf_destroy(w->k);
		stream_source_free(&w->ss);
		munmap(w->memory.area, w->memory.size);
		close(w->memory_fd);
		w->k = NULL;
	}
	incoming_free(&w->in);
	net_unlisten(&w->at, w->listen_fd);
	if (w->part == WORLD_BOTH)
		pthread_join(w->source_thread, NULL);
	outgoing_free(&w->out);
	close(w->stop);
	return w->source_err;
}
