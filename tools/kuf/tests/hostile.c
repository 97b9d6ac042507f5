// SPDX-License-Identifier: GPL-2.0
/*
 * What nobody should say to a source or to a destination, and files that nobody should
 * restore: each is refused as its file says, and the VM runs on, or is recovered.  Needs
 * no KVM.
 *
 * Arguments: a directory of such files, and, to see what was said, names of some of them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "corpus.h"
#include "guest.h"
#include "rebuild.h"
#include "snapshot.h"
#include "world.h"

#define AT		"unix:/tmp/kuf-hostile"
#define FILE_NAME	"/tmp/kuf-hostile-file"
#define PATIENCE_MS	60000
#define CPUID_ROOM	(sizeof(struct kvm_cpuid2) + 8)

static struct world world;
static bool verbose;

/* Tokens are the same each time. */
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned int flags)
{
	memset(buf, CORPUS_TOKEN, size);
	return size;
}

struct file {
	char *bytes;
	size_t size;
	char side[16], outcome[16], says[120];
	size_t ops;
};

static bool read_file(const char *dir, const char *name, struct file *f)
{
	char path[PATH_MAX], *line, *end;
	FILE *in;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	in = fopen(path, "r");
	*f = (struct file){ .bytes = calloc(1, CORPUS_FILE_MAX + 1) };
	if (!in || !f->bytes)
		return false;
	f->size = fread(f->bytes, 1, CORPUS_FILE_MAX, in);
	fclose(in);
	line = strchr(f->bytes, '\n');
	end = line ? strchr(line + 1, '\n') : NULL;
	if (!end)
		return false;
	*end = '\0';
	f->ops = end + 1 - f->bytes;
	return sscanf(line + 1, "%15s %15s %119[^\n]", f->side, f->outcome, f->says) >= 2;
}

/*
 * The player.
 */

static int fds[CORPUS_CONNECTIONS];
static int listen_fd;
static struct net_address at;
static bool started;		/* the destination runs the VM */
static bool ended;		/* what it does in its own thread */

/* False: the side that is played with has ended, or does not go on. */
static bool ready(int fd, short events)
{
	unsigned int i;

	for (i = 0; i < PATIENCE_MS / 20; i++) {
		if (!net_wait(fd, events, 20, -1))
			return true;
		if (__atomic_load_n(&ended, __ATOMIC_ACQUIRE) && net_wait(fd, events, 20, -1))
			return false;
	}
	return false;
}

static void send_all(int *fd, const void *data, size_t size)
{
	const char *p = data;
	ssize_t n;

	while (size && *fd >= 0) {
		n = ready(*fd, POLLOUT) ? send(*fd, p, size, MSG_NOSIGNAL) : -1;
		if (n < 0) {
			close(*fd);
			*fd = -1;
			return;
		}
		p += n;
		size -= n;
	}
}

static void send_run(int *fd, const u8 *word, u32 nr)
{
	u8 *all = malloc(4ul * nr);
	u32 i;

	for (i = 0; i < nr; i++)
		memcpy(all + 4ul * i, word, 4);
	send_all(fd, all, 4ul * nr);
	free(all);
}

static bool take(int fd, void *data, size_t size)
{
	char *p = data;
	ssize_t n;

	while (size) {
		if (fd < 0 || !ready(fd, POLLIN))
			return false;
		n = recv(fd, p, size, 0);
		if (n <= 0)
			return false;
		p += n;
		size -= n;
	}
	return true;
}

static void await(int fd, u16 type)
{
	static u8 data[128 << 10];
	struct proto_header h;

	do {
		if (!take(fd, &h, sizeof(h)) || h.length > sizeof(data) ||
		    !take(fd, data, h.length))
			return;
	} while (h.type != type);
}

static void play_one(const struct corpus_op *op, const u8 *data)
{
	int *fd = &fds[op->connection % CORPUS_CONNECTIONS];
	unsigned int ms = PATIENCE_MS;

	switch (op->kind) {
	case CORPUS_CONNECT:
		if (listen_fd < 0)
			*fd = net_connect(&at, PATIENCE_MS, -1);
		else if (!net_wait(listen_fd, POLLIN, PATIENCE_MS, -1))
			*fd = net_accept(listen_fd);
		break;
	case CORPUS_BYTES:
		send_all(fd, data, op->length);
		break;
	case CORPUS_RUN:
		send_run(fd, data, op->length);
		break;
	case CORPUS_AWAIT:
		await(*fd, op->arg);
		break;
	case CORPUS_TOUCH:
		while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE) && ms--)
			usleep(1000);
		kuf_access(world.k, op->length * PAGE_SIZE, PAGE_SIZE, 0, 0, NULL);
		break;
	case CORPUS_CLOSE:
		close(*fd);
		*fd = -1;
		break;
	}
}

static void play(const struct file *f)
{
	struct corpus_op op;
	size_t at = f->ops, n;
	int i;

	for (i = 0; i < CORPUS_CONNECTIONS; i++)
		fds[i] = -1;
	while (f->size - at >= sizeof(op)) {
		memcpy(&op, f->bytes + at, sizeof(op));
		at += sizeof(op);
		n = op.kind == CORPUS_BYTES ? op.length : op.kind == CORPUS_RUN ? 4 : 0;
		if (n > f->size - at)
			return;
		play_one(&op, (u8 *)f->bytes + at);
		at += n;
	}
}

static void hang_up(void)
{
	int i;

	for (i = 0; i < CORPUS_CONNECTIONS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/*
 * A destination that is played with, and then met by an honest source.
 */

static int load_state(struct world *w)
{
	static u8 room[CPUID_ROOM];
	static struct vcpu vcpu = { .cpuid = (struct kvm_cpuid2 *)room };
	static struct machine m = { .vm.vcpus = &vcpu };
	static struct state state;
	struct options o = {};
	u32 i;
	int err;

	err = state_parse(&state, w->in.state, w->in.config.state_size, w->in.config.state_frames);
	if (!err)
		err = rebuild_check_sent(&state, &w->in.config, &o);
	/* Of the rest only what needs no KVM. */
	for (i = 0; !err && i < state.nr; i++) {
		if (state.items[i].frame.type == STATE_CPUID)
			err = state_cpuid.load(&m, 0, state.items[i].data,
					       state.items[i].frame.length);
	}
	return err;
}

static void *be_destination(void *arg)
{
	*(int *)arg = world_start(&world);
	__atomic_store_n(&started, !*(int *)arg, __ATOMIC_RELEASE);
	__atomic_store_n(&ended, *(int *)arg, __ATOMIC_RELEASE);
	return NULL;
}

struct guest_of {
	int err;
};

/* The guest needs some pages while an honest source is there, and ends. */
static void *touch_some(void *arg)
{
	struct guest_of *g = arg;
	unsigned int ms = PATIENCE_MS;
	u64 page;

	while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE) && ms--)
		usleep(1000);
	if (!__atomic_load_n(&started, __ATOMIC_ACQUIRE)) {
		g->err = -ETIMEDOUT;
		return NULL;
	}
	for (page = 0; !g->err && page < 12; page++) {
		do {
			g->err = world_touch(&world, page, 100);
		} while (g->err == -ETIMEDOUT && ms-- > PATIENCE_MS / 2);
	}
	comeback_stop(&world.in.comeback);
	/* Both of its connections; the source takes that for a cut. */
	shutdown(world.in.main.fd, SHUT_RDWR);
	shutdown(world.in.urgent.fd, SHUT_RDWR);
	return NULL;
}

static const char *recover_destination(void)
{
	u8 token[PROTO_ID_SIZE];
	struct guest_of g = {};
	pthread_t thread;
	u64 wrong;

	memset(token, CORPUS_TOKEN, sizeof(token));
	pthread_create(&thread, NULL, touch_some, &g);
	world_come_back(&world, token);
	pthread_join(thread, NULL);
	wrong = world_wrong(&world);
	if (g.err)
		return "it cannot be recovered";
	return wrong ? "wrong memory" : NULL;
}

static const char *judge_destination(const struct file *f, pthread_t thread, const int *err)
{
	unsigned int ms = PATIENCE_MS;
	const char *why = NULL;

	if (!strcmp(f->outcome, "refused")) {
		pthread_join(thread, NULL);
		return !*err || world.in.went || world.in.ready_ns ? "it was not refused" : NULL;
	}
	if (!strcmp(f->outcome, "recoverable")) {
		while (READ_ONCE(world.ss.end) == STREAM_SOURCE_SERVES && ms--)
			usleep(1000);
		if (world.ss.end != STREAM_SOURCE_CUT)
			why = "it is not recoverable";
	} else if (started) {
		why = "it runs";
	}
	why = why ?: recover_destination();
	pthread_join(thread, NULL);
	return why;
}

static const char *test_recv(const struct file *f)
{
	pthread_t thread;
	const char *why;
	int err = 0;

	world = (struct world){
		.part = WORLD_DESTINATION, .listen = AT, .load = load_state,
		.go_timeout_ms = 2 * PATIENCE_MS, .timeout_ms = PATIENCE_MS,
	};
	started = false;
	ended = false;
	listen_fd = -1;
	unlink(AT + strlen("unix:"));
	world_listen(&world);
	net_parse(&at, AT);
	pthread_create(&thread, NULL, be_destination, &err);
	play(f);
	if (strcmp(f->outcome, "recoverable"))
		hang_up();
	why = judge_destination(f, thread, &err);
	hang_up();
	world_end(&world);
	return why;
}

/*
 * A source, and then an honest destination, which wants two pages of it.
 */

static void *be_source(void *arg)
{
	world_start(&world);
	__atomic_store_n(&ended, true, __ATOMIC_RELEASE);
	return NULL;
}

static int greet(struct stream *s, enum proto_role role)
{
	struct proto_hello hello;
	struct stream_frame f;
	int err = net_wait(listen_fd, POLLIN, PATIENCE_MS, -1);

	if (err)
		return err;
	stream_open(s, net_accept(listen_fd), "honest", 0, -1);
	err = stream_receive(s, PROTO_HELLO, &f, PATIENCE_MS);
	if (err)
		return err;
	memcpy(&hello, f.data, sizeof(hello));
	s->epoch = 0;
	err = hello.role == role ? stream_send(s, PROTO_HELLO, &hello, sizeof(hello),
					       1000) : -EPROTO;
	s->epoch = CORPUS_EPOCH + 1;
	return err;
}

static void *be_honest(void *arg)
{
	struct proto_resume resume = {
		.epoch = CORPUS_EPOCH + 1, .pages = WORLD_PAGES, .absent = WORLD_PAGES,
	};
	struct proto_range all = { 0, WORLD_MEM }, want = { 0, 2 * PAGE_SIZE };
	struct proto_done done = { .kind = PROTO_DONE_ENDED };
	struct stream main = { .fd = -1 }, urgent = { .fd = -1 };
	struct stream_frame f;
	int err;

	memset(resume.session, CORPUS_SESSION, sizeof(resume.session));
	err = greet(&main, PROTO_MAIN_AGAIN);
	err = err ?: greet(&urgent, PROTO_URGENT);
	err = err ?: stream_send(&main, PROTO_RESUME, &resume, sizeof(resume), PATIENCE_MS);
	err = err ?: stream_send(&main, PROTO_ABSENT, &all, sizeof(all), PATIENCE_MS);
	err = err ?: stream_receive(&main, PROTO_GO, &f, PATIENCE_MS);
	err = err ?: stream_send(&urgent, PROTO_REQUEST, &want, sizeof(want), PATIENCE_MS);
	err = err ?: stream_receive(&urgent, PROTO_PAGE, &f, PATIENCE_MS);
	if (!err && memcmp((u8 *)f.data + sizeof(struct proto_page) + 4, world.source.area,
			   PAGE_SIZE))
		err = -EILSEQ;
	err = err ?: stream_receive(&urgent, PROTO_ZERO, &f, PATIENCE_MS);
	err = err ?: stream_send(&main, PROTO_DONE, &done, sizeof(done), PATIENCE_MS);
	err = err ?: stream_receive(&main, PROTO_BYE, &f, PATIENCE_MS);
	stream_close(&main);
	stream_close(&urgent);
	*(int *)arg = err;
	return NULL;
}

static const char *judge_source(const struct file *f)
{
	int honest = 0, err;
	pthread_t thread;

	if (!strcmp(f->outcome, "runs"))
		return world.paused || world.out.given_up ? "it was paused" : NULL;
	if (!strcmp(f->outcome, "stays"))
		return world.resumed && !world.out.given_up ? NULL : "it does not run on";
	if (world.out.phase != OUTGOING_CUT || world.resumed)
		return "it is not recoverable";
	pthread_create(&thread, NULL, be_honest, &honest);
	err = outgoing_recover(&world.out, &at);
	pthread_join(thread, NULL);
	return err || honest ? "it cannot be recovered" : NULL;
}

static const char *test_send(const struct file *f)
{
	pthread_t thread;
	const char *why;

	unlink(AT + strlen("unix:"));
	world = (struct world){
		.part = WORLD_SOURCE, .listen = AT, .connect = AT, .recover_at = AT,
		.recovers = !strcmp(f->outcome, "comes-back"),
	};
	ended = false;
	world_listen(&world);
	net_parse(&at, AT);
	listen_fd = net_listen(&at);
	pthread_create(&thread, NULL, be_source, NULL);
	play(f);
	hang_up();
	pthread_join(thread, NULL);
	why = judge_source(f);
	net_unlisten(&at, listen_fd);
	world_end(&world);
	return why;
}

/*
 * Files.
 */

static bool write_snapshot(const struct file *f)
{
	FILE *out = fopen(FILE_NAME, "w");
	struct corpus_op op;
	size_t at = f->ops, n;
	u32 i;

	while (out && f->size - at >= sizeof(op)) {
		memcpy(&op, f->bytes + at, sizeof(op));
		at += sizeof(op);
		n = op.kind == CORPUS_BYTES ? op.length : op.kind == CORPUS_RUN ? 4 : 0;
		for (i = 0; i < (op.kind == CORPUS_RUN ? op.length : 1); i++)
			fwrite(f->bytes + at, n, 1, out);
		if (op.kind == CORPUS_HOLE)
			fseek(out, op.length * PAGE_SIZE, SEEK_CUR);
		at += n;
	}
	return out && !ftruncate(fileno(out), ftell(out)) && !fclose(out);
}

static const char *test_snapshot(const struct file *f)
{
	struct mem mem = { .size = MIN_MEM, .fd = -1 };
	struct snapshot s;
	struct image image;
	int err;

	world_said[0] = '\0';
	if (!write_snapshot(f))
		return "it cannot be written";
	err = snapshot_open(&s, FILE_NAME);
	if (!err) {
		mem.area = calloc(1, mem.size);
		snapshot_image(&s, &image);
		err = snapshot_load_memory(&image, &mem);
		free(mem.area);
	}
	snapshot_close(&s);
	unlink(FILE_NAME);
	return !err == !strcmp(f->outcome, "completes") ? NULL :
	       err ? "it was refused" : "it was not refused";
}

static bool one(const char *dir, const char *name)
{
	const char *why = "it cannot be read";
	struct file f;

	if (read_file(dir, name, &f)) {
		why = !strcmp(f.side, "recv") ? test_recv(&f) :
		      !strcmp(f.side, "send") ? test_send(&f) : test_snapshot(&f);
		if (!why && !world_heard(f.says))
			why = "it says something else";
	}
	if (why || verbose)
		printf("# %s: %s; wanted: %s '%s'; said: %s\n", name, why ?: "ok", f.outcome,
		       f.says,
		       world_said);
	free(f.bytes);
	return !why;
}

static int is_file(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	unsigned int bad[3] = {}, nr[3] = {}, i;
	static const char * const sides[] = { "recv", "send", "snapshot" };
	struct dirent **names;
	int n, side;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2) {
		printf("Bail out! which directory?\n");
		return 1;
	}
	verbose = argc > 2;
	for (n = 2; n < argc; n++)
		one(argv[1], argv[n]);
	if (verbose)
		return 0;
	n = scandir(argv[1], &names, is_file, alphasort);
	ktap_plan(3);
	for (i = 0; (int)i < n; i++) {
		for (side = 0; side < 2 && strncmp(names[i]->d_name, sides[side],
						   strlen(sides[side])); side++)
			;
		nr[side]++;
		bad[side] += !one(argv[1], names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	for (i = 0; i < 3; i++) {
		printf("# %s: %u files, %u bad\n", sides[i], nr[i], bad[i]);
		ktap_result(nr[i] > 10 && !bad[i], "%s", sides[i]);
	}
	return ktap_end();
}
