// SPDX-License-Identifier: GPL-2.0
/*
 * What happens to a machine when a VM changes hands: at the source when it is given up, and
 * at the destination from READY until it runs; and when it ends with a job at work.  Runs on
 * any host: there is no KVM, and what may fail does so when told to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control.h"
#include "guard.h"
#include "guest.h"
#include "migrate.h"
#include "origin_read.h"

#define DISK		"/tmp/kuf-handover-disk"
#define JOURNAL		"/tmp/kuf-handover-journal"
#define MEMORY		"/tmp/kuf-handover-memory"
#define NOBODY		"unix:/tmp/kuf-handover-nobody"
#define CONTROL		"/tmp/kuf-handover-control"
#define SAVED		"/tmp/kuf-handover-saved"

int kuf_error(int err, const char *fmt, ...)
{
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

static u32 owner(void)
{
	struct journal j;

	return journal_read(&j, JOURNAL) ? ~0u : j.record.owner;
}

/* The disk, while it is made durable: what is recorded then? */
static u32 owner_at_sync;
static int sync_fails, journal_fails;

int __wrap_fdatasync(int fd)
{
	owner_at_sync = owner();
	errno = sync_fails;
	return sync_fails ? -1 : 0;
}

int __real_journal_give_up(struct journal *j, const u8 *session, u64 epoch,
			   const struct journal_given *given);

int __wrap_journal_give_up(struct journal *j, const u8 *session, u64 epoch,
			   const struct journal_given *given)
{
	int err = __real_journal_give_up(j, session, epoch, given);

	return journal_fails ?: err;
}

static struct machine machine;
static struct outgoing out;
static const u8 token[PROTO_ID_SIZE] = "the other side's";

static void make_machine(void)
{
	pthread_condattr_t attr;

	machine_init(&machine);
	pthread_mutex_init(&machine.vm.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&machine.vm.stopped_cond, &attr);
}

static bool begin(void)
{
	struct net_address to;
	int fd = open(DISK, O_RDWR | O_CREAT | O_TRUNC, 0600);
	bool ok = fd >= 0 && !ftruncate(fd, PAGE_SIZE);

	close(fd);
	unlink(JOURNAL);
	/* A run that was killed may have left it. */
	unlink(MEMORY);
	make_machine();
	out = (struct outgoing){ .cancel = -1 };
	/* It only takes the operations: nobody is there. */
	ok = ok && !blk_start(&machine.blk, &machine.vm, DISK) &&
	     !journal_open(&machine.journal, JOURNAL) &&
	     !journal_write(&machine.journal, machine.session, 7, JOURNAL_HERE) &&
	     !net_parse(&to, NOBODY) && migrate_send(&machine, &out, &to) && out.ops;
	owner_at_sync = ~0u;
	sync_fails = 0;
	journal_fails = 0;
	return ok;
}

static void end(void)
{
	blk_stop(&machine.blk);
	unlink(DISK);
	unlink(JOURNAL);
	unlink(JOURNAL ".lock");
}

static void test_give_up(void)
{
	bool ok = begin() && !out.ops->give_up(&machine, 8, token);

	ktap_result(ok && owner_at_sync == JOURNAL_HERE && owner() == JOURNAL_GIVEN_UP &&
		    machine.blk.fd < 0 && machine.vm.given_up, "give-up");
	end();
}

/* It goes on here: with its disk, and nobody finds a record that says otherwise. */
static void test_not_given_up(void)
{
	bool ok = begin();

	sync_fails = EIO;
	journal_fails = 0;
	ok = ok && out.ops->give_up(&machine, 8, token) == -EIO &&
	     owner_at_sync == JOURNAL_HERE && owner() == JOURNAL_HERE;
	ktap_result(ok && machine.blk.fd >= 0 && !machine.vm.given_up, "disk-not-durable");
	sync_fails = 0;
	journal_fails = -ENOSPC;
	ok = ok && out.ops->give_up(&machine, 8, token) == -ENOSPC && owner() == JOURNAL_HERE;
	ktap_result(ok && machine.blk.fd >= 0 && !machine.vm.given_up, "not-recorded");
	journal_fails = 0;
	vm_stop(&machine.vm, KUF_EXIT_TIMEOUT);
	owner_at_sync = ~0u;
	ktap_result(ok && out.ops->give_up(&machine, 8, token) == -ECANCELED &&
		    owner_at_sync == ~0u && owner() == JOURNAL_HERE, "ended");
	end();
}

/* Nobody takes it, who was to have it in place of another one: it stays given up. */
static void test_vacant(void)
{
	bool ok = begin() && !out.ops->give_up(&machine, 8, token) &&
		  !journal_write(&machine.journal, machine.session, 8, JOURNAL_VACANT);

	journal_fails = -ENOSPC;
	ktap_result(ok && out.ops->give_up(&machine, 9, token) == -ENOSPC &&
		    machine.vm.given_up && owner() == JOURNAL_VACANT, "vacant");
	end();
}

/* As if that loss had not been recorded: here the record is written, and said not to be. */
static bool restore(const struct journal *j)
{
	return !__real_journal_give_up(&machine.journal, machine.session, 8, &j->record.given);
}

/* The memory is in a file, and then some of it is lost. */
static void test_lost(void)
{
	u8 page[PAGE_SIZE];
	struct journal j;
	u64 sum;
	bool ok = begin() && !mem_create_file(&machine.vm.mem, MEMORY, MIN_MEM) &&
		  !origin_begin(&out.origin) && !out.ops->give_up(&machine, 8, token);

	ok = ok && !journal_read(&j, JOURNAL) && !journal_may_serve(&j) &&
	     j.record.given.mem_file;
	ktap_result(ok, "in-a-file");
	journal_fails = -ENOSPC;
	ktap_result(ok && migrate_lost(&machine) == -ENOSPC, "loss-not-recorded");
	/* Whoever finds it says nothing, and does not forget it. */
	ok = ok && !ftruncate(machine.vm.mem.fd, PAGE_SIZE);
	ktap_result(ok && restore(&j) && origin_read(&out.origin, PAGE_SIZE, 1, page) == -ENOLINK &&
		    restore(&j) && origin_digest(&out.origin, page, &sum) == -ENOLINK &&
		    !out.origin.poisoned.count, "loss-not-told");
	journal_fails = 0;
	ok = ok && restore(&j) && origin_read(&out.origin, PAGE_SIZE, 1, page) == -EHWPOISON &&
	     out.origin.poisoned.count == 1;
	ok = ok && !journal_read(&j, JOURNAL) && j.record.owner == JOURNAL_GIVEN_UP &&
	     j.record.epoch == 8 && !memcmp(j.record.given.token, token, sizeof(token)) &&
	     journal_may_serve(&j) == -EINVAL;
	ktap_result(ok, "lost-since");
	/* Nor for another one. */
	ok = ok && !journal_write(&machine.journal, machine.session, 8, JOURNAL_VACANT) &&
	     !out.ops->give_up(&machine, 9, token) && !journal_read(&j, JOURNAL) &&
	     j.record.epoch == 9 && journal_may_serve(&j) == -EINVAL;
	ktap_result(ok, "lost-and-given-again");
	outgoing_free(&out);
	mem_destroy(&machine.vm.mem);
	end();
}

static void *stop_later(void *arg)
{
	usleep(1500000);
	vm_stop(&machine.vm, KUF_EXIT_OK);
	return NULL;
}

/* --timeout=1 */
static void test_timeout(void)
{
	pthread_t thread;
	bool ok = begin();

	ok = ok && vm_wait(&machine.vm, 1) == -ETIMEDOUT && machine.vm.stopped &&
	     machine.vm.exit_code == KUF_EXIT_TIMEOUT;
	ktap_result(ok, "timeout");
	end();
	ok = begin() && !out.ops->give_up(&machine, 8, token) &&
	     !pthread_create(&thread, NULL, stop_later, NULL);
	ok = ok && !vm_wait(&machine.vm, 1) && machine.vm.exit_code == KUF_EXIT_OK;
	ktap_result(ok, "timeout-given-up");
	if (ok)
		pthread_join(thread, NULL);
	end();
}

static int request_nothing(void *source, const struct kuf_request *request)
{
	return 0;
}

static int receive_nothing(void *source, struct kuf_reply *reply)
{
	return -EAGAIN;
}

static struct control control;

static void *save(void *arg)
{
	struct control_request request = { .op = CONTROL_SAVE, .text = SAVED };
	struct control_reply *reply = arg;

	if (control_ask(CONTROL, &request, reply))
		reply->err = 0;
	return NULL;
}

static void *stop_control(void *arg)
{
	control_stop(&control);
	return NULL;
}

/* --engine=uffd, and kuf save waits for a page of a source that is gone. */
static void test_job(void)
{
	static const struct kuf_source_ops ops = {
		.size = sizeof(ops), .request = request_nothing, .receive = receive_nothing,
	};
	struct pager_config config = {
		.engine = PAGER_UFFD, .mode = PAGER_THREAD, .ops = &ops, .policy.kind = KUF_LAZY,
	};
	struct control_reply reply = {};
	struct kuf_report r = {};
	pthread_t asks, stops;
	struct timespec until;
	bool ok;
	int i;

	make_machine();
	unlink(CONTROL);
	ok = !mem_create(&machine.vm.mem, MEM_SHMEM, MIN_MEM, -1) &&
	     !machine_start_pager(&machine, &config) &&
	     !control_start(&control, &machine, CONTROL) &&
	     !pthread_create(&asks, NULL, save, &reply);
	for (i = 0; ok && i < 6000 && !r.events; i++) {
		usleep(10000);
		machine_report(&machine, &r);
	}
	ok = ok && r.events && machine_wait(&machine, 0, 1) == KUF_EXIT_TIMEOUT &&
	     !pthread_create(&stops, NULL, stop_control, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	if (!ok || pthread_timedjoin_np(stops, NULL, &until)) {
		ktap_result(false, "timeout-with-a-job");
		exit(1);
	}
	pthread_join(asks, NULL);
	ktap_result(machine_finish(&machine, KUF_EXIT_TIMEOUT) == KUF_EXIT_TIMEOUT &&
		    reply.err == -ECANCELED && access(SAVED, F_OK), "timeout-with-a-job");
	machine_release(&machine);
}

int main(void)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(12 + (fd >= 0));
	guard_init();
	test_give_up();
	test_not_given_up();
	test_vacant();
	test_lost();
	test_timeout();
	if (fd >= 0)
		test_job();
	else
		printf("# no userfaultfd here: %s\n", strerror(errno));
	return ktap_end();
}
