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

#define SOCKET		"/tmp/kuf-poison-host-control"
#define JOURNAL		"/tmp/kuf-poison-host-journal"
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

void poison_asked_test(void)
{
	test_refused();
	test_clear_given_up();
	test_clear_much();
}
