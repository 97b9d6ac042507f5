// SPDX-License-Identifier: GPL-2.0
/*
 * Poison of a machine that comes, or goes elsewhere: what an operator asks for by kuf
 * poison, and what has to be recorded of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "dma.h"
#include "migrate.h"
#include "origin_read.h"
#include "poison_host.h"
#include "stream_source.h"
#include "world.h"

#define SOCKET		"/tmp/kuf-poison-host-control"
#define JOURNAL		"/tmp/kuf-poison-host-journal"
#define NOBODY		"unix:/tmp/kuf-poison-host-nobody"
#define MEMORY		"/tmp/kuf-poison-host-memory"

static struct control control;

static int ask(enum control_op op, u64 gpa, u64 len)
{
	struct control_request request = { .op = op, .gpa = gpa, .len = len };
	struct control_reply reply = {};

	return control_ask(SOCKET, &request, &reply) ?: reply.err;
}

/* With its memory in a file, and recorded, as one that kuf send takes away. */
static bool begin(u64 features)
{
	/* Of a test that did not end. */
	unlink(SOCKET);
	unlink(JOURNAL);
	unlink(MEMORY);
	make_machine_in(MEMORY, features);
	return !machine_start_pager(&machine, NULL) && !journal_open(&machine.journal, JOURNAL) &&
	       !journal_write(&machine.journal, machine.session, 7, JOURNAL_HERE) &&
	       !control_start(&control, &machine, SOCKET);
}

static bool give_up(void)
{
	struct journal_given given = {
		.mem_size = machine.vm.mem.size,
		.mem_file = machine.vm.mem.file,
	};

	control.outgoing.given_up = true;
	control.outgoing.phase = OUTGOING_CUT;
	return !journal_give_up(&machine.journal, machine.session, 8, &given);
}

static void end(void)
{
	control_stop(&control);
	free_machine();
	unlink(JOURNAL);
	unlink(JOURNAL ".lock");
}

/* Would kuf recover --journal go on with it? */
static bool may_serve(void)
{
	struct journal j;

	return !journal_read(&j, JOURNAL) && !journal_may_serve(&j);
}

/* What is refused loses nothing. */
static void test_refused(void)
{
	u64 size;
	bool ok = begin(POISON_FEATURES) && give_up();

	size = machine.vm.mem.size;
	ok = ok && ask(CONTROL_POISON, size, PAGE_SIZE) == -EFAULT &&
	     ask(CONTROL_POISON, 0, 100) == -EINVAL && may_serve() &&
	     !ask(CONTROL_POISON, size - PAGE_SIZE, PAGE_SIZE) && !may_serve();
	end();
	report(ok, "asked-beyond");

	ok = begin(0) && give_up() && ask(CONTROL_POISON, 0, PAGE_SIZE) == -EOPNOTSUPP &&
	     may_serve();
	end();
	report(ok, "asked-without");
}

static int map(void *opaque, u64 gpa, u64 len, void **ptr)
{
	return dma_try_map(&machine.vm, gpa, len, ptr);
}

/* Who has the VM never gets zeroes in place of what was lost here. */
static void test_clear_given_up(void)
{
	bool ok = begin(POISON_FEATURES) && !ask(CONTROL_POISON, PAGE_SIZE, PAGE_SIZE) &&
		  !ask(CONTROL_UNPOISON, PAGE_SIZE, PAGE_SIZE) && give_up();
	struct origin o = { .mem = &machine.vm.mem, .map = map };
	u8 page[PAGE_SIZE];

	ok = ok && !ask(CONTROL_POISON, 7 * PAGE_SIZE, PAGE_SIZE) &&
	     ask(CONTROL_UNPOISON, 7 * PAGE_SIZE, PAGE_SIZE) == -EBUSY &&
	     vm_poisoned(&machine.vm) == 1 && !origin_begin(&o) &&
	     origin_read(&o, 7 * PAGE_SIZE, 1, page) == -EHWPOISON;
	origin_end(&o);
	end();
	report(ok, "clear-given-up");
}

/* The source is right about all that was not poisoned here. */
static void test_clear_much(void)
{
	struct stream streams[2] = { { .fd = -1 }, { .fd = -1 } };
	bool ok = begin(POISON_FEATURES);
	u64 size = machine.vm.mem.size;
	struct stream_source ss;

	ok = ok && !stream_source_init(&ss, &machine.vm.mem, &streams[0], &streams[1]);
	machine.from = &ss;
	ok = ok && !ask(CONTROL_POISON, 7 * PAGE_SIZE, 3 * PAGE_SIZE) &&
	     ask(CONTROL_UNPOISON, 0, 100) == -EINVAL &&
	     ask(CONTROL_UNPOISON, 0, size + PAGE_SIZE) == -EFAULT && !ss.cleared.count &&
	     !ask(CONTROL_UNPOISON, 8 * PAGE_SIZE, PAGE_SIZE) &&
	     ss.cleared.count == 1 && pageset_has(&ss.cleared, 8) &&
	     vm_poisoned(&machine.vm) == 2 && !ask(CONTROL_UNPOISON, 0, size) &&
	     ss.cleared.count == 3 && !vm_poisoned(&machine.vm);
	end();
	machine.from = NULL;
	stream_source_free(&ss);
	report(ok, "clear-much");
}

/*
 * Taken away by kuf send.
 */

static struct outgoing out;

static bool begin_send(const struct pager_config *config)
{
	struct net_address to;

	/* Of a test that did not end. */
	unlink(JOURNAL);
	make_machine_in(NULL, POISON_FEATURES);
	/* userfaultfd wants shmem, and not every /tmp is: it does not have that name. */
	machine.vm.mem.path = MEMORY;
	machine.vm.mem.file = 1;
	out = (struct outgoing){ .cancel = -1 };
	/* It only takes the operations: nobody is there. */
	return !machine_start_pager(&machine, config) &&
	       !journal_open(&machine.journal, JOURNAL) &&
	       !journal_write(&machine.journal, machine.session, 7, JOURNAL_HERE) &&
	       !net_parse(&to, NOBODY) && migrate_send(&machine, &out, &to) && out.ops;
}

static bool give_away(void)
{
	static const u8 token[PROTO_ID_SIZE] = "the other side's";

	return !out.ops->give_up(&machine, 8, token);
}

static void end_send(void)
{
	outgoing_free(&out);
	free_machine();
	unlink(JOURNAL);
	unlink(JOURNAL ".lock");
}

/* What is lost between the two is in neither: the state, nor the file. */
static void test_lost_between(bool between, const char *name)
{
	struct frame_writer *w = &out.state;
	bool ok = begin_send(NULL) && !vm_poison(&machine.vm, 0, PAGE_SIZE);

	/* There is no KVM for the rest of its state. */
	ok = ok && out.ops->save(&machine, w);
	if (between)
		ok = ok && !vm_poison(&machine.vm, 7 * PAGE_SIZE, PAGE_SIZE);
	ok = ok && give_away() && may_serve() == !between;
	end_send();
	report(ok, name);
}

/* All of memory, and nobody has asked. */
static bool has_come;

static int request(void *source, const struct kuf_request *request)
{
	return 0;
}

static int receive(void *source, struct kuf_reply *reply)
{
	if (has_come)
		return -EAGAIN;
	has_come = true;
	reply->gpa = 0;
	reply->len = machine.vm.mem.size;
	reply->type = KUF_REPLY_ZERO;
	return 0;
}

static bool is_populated(void)
{
	struct kuf_report r = {};
	int i;

	for (i = 0; i < 6000 && !r.populated_ns; i++) {
		usleep(10000);
		machine_report(&machine, &r);
	}
	return r.populated_ns;
}

/* The engine looks at pages before they are read, and so finds first what is broken. */
static void test_uffd_breaks(void)
{
	static const struct kuf_source_ops ops = {
		.size = sizeof(ops), .request = request, .receive = receive,
	};
	struct pager_config config = {
		.engine = PAGER_UFFD, .mode = PAGER_THREAD, .ops = &ops, .policy.kind = KUF_LAZY,
	};
	u8 page[PAGE_SIZE];
	bool ok;
	u64 end;

	has_come = false;
	ok = begin_send(&config) && is_populated() && give_away() && may_serve();
	end = machine.vm.mem.size - PAGE_SIZE;
	/* At first it cannot be recorded. */
	machine.journal.path = "/none/journal";
	ok = ok && !ftruncate(machine.vm.mem.fd, end) && !origin_begin(&out.origin) &&
	     origin_read(&out.origin, end, 1, page) == -ENOLINK && may_serve() &&
	     world_heard("is not recorded, and nobody is told");
	machine.journal.path = JOURNAL;
	ok = ok && origin_read(&out.origin, end, 1, page) == -EHWPOISON && !may_serve() &&
	     vm_poisoned(&machine.vm) == 1;
	pager_stop(&machine.pager);
	end_send();
	report(ok, "uffd-breaks");
}

/* A page that is needed. */
static u64 asked = ~0ull;

static int request_one(void *source, const struct kuf_request *request)
{
	asked = request->gpa;
	return 0;
}

static int receive_one(void *source, struct kuf_reply *reply)
{
	static u8 content[PAGE_SIZE] = { 0x5a };

	if (asked == ~0ull)
		return -EAGAIN;
	reply->gpa = asked;
	reply->len = PAGE_SIZE;
	reply->type = KUF_REPLY_DATA;
	reply->data = content;
	asked = ~0ull;
	return 0;
}

/* What was not asked for before is asked for in spite of poison that was. */
static void test_uffd_clear(void)
{
	static const struct kuf_source_ops ops = {
		.size = sizeof(ops), .request = request_one, .receive = receive_one,
	};
	struct pager_config config = {
		.engine = PAGER_UFFD, .mode = PAGER_THREAD, .ops = &ops, .policy.kind = KUF_LAZY,
	};
	struct vm *vm = &machine.vm;
	u8 page[PAGE_SIZE];
	bool ok = begin_send(&config);

	ok = ok && !dma_read_page(vm, 0, page) && page[0] == 0x5a &&
	     !vm_poison(vm, 0, 2 * PAGE_SIZE) && dma_read_page(vm, 0, page) == -EHWPOISON &&
	     !vm_unpoison(vm, 0, 2 * PAGE_SIZE) && !dma_read_page(vm, 0, page) && !page[0] &&
	     !dma_read_page(vm, PAGE_SIZE, page) && page[0] == 0x5a;
	pager_stop(&machine.pager);
	end_send();
	report(ok, "uffd-clear");
}

void poison_asked_test(void)
{
	test_lost_between(false, "lost-before");
	test_lost_between(true, "lost-between");
	test_uffd_breaks();
	test_uffd_clear();
	test_refused();
	test_clear_given_up();
	test_clear_much();
}
