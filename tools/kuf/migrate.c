// SPDX-License-Identifier: GPL-2.0
/*
 * What a migration does with the machine that it takes away.
 */
#include <errno.h>
#include <string.h>

#include "dma.h"
#include "migrate.h"
#include "state.h"

static int pause_machine(void *vm)
{
	int err = machine_pause(vm);

	if (err)
		return kuf_error(err, "the VM has ended");
	machine_say_paused(vm);
	return 0;
}

static int save_machine(void *vm, struct frame_writer *w)
{
	struct machine *m = vm;

	/* First this: what is lost meanwhile may be in the state or not. */
	m->poison_saved = vm_poisoned(&m->vm);
	return state_save(m, w);
}

/* One that was given up before does not run here, whatever becomes of this offer. */
static int offer_machine(void *vm, u64 epoch)
{
	struct machine *m = vm;
	bool vacant = m->journal.record.owner == JOURNAL_VACANT;
	int err;

	pthread_mutex_lock(&m->given_lock);
	err = journal_write(&m->journal, m->session, epoch, vacant ? JOURNAL_VACANT : JOURNAL_HERE);
	pthread_mutex_unlock(&m->given_lock);
	if (!err)
		m->epoch = epoch;
	return err;
}

/*
 * Is all of it in a file, whoever may be killed from here on?  What became poison since the
 * state was saved is in neither, though no page may be absent any more.
 */
static bool memory_is_in_file(struct machine *m)
{
	struct kuf_report report;

	machine_report(m, &report);
	return m->vm.mem.path && (!report.armed_ns || report.populated_ns) && !m->lost_since &&
	       vm_poisoned(&m->vm) == m->poison_saved;
}

/*
 * Neither the state nor the file tells of pages that are lost after the VM was given up:
 * who would go on with the file would take what is there for their content.
 */
int migrate_lost(struct machine *m)
{
	struct journal_given given;
	int err = 0;

	pthread_mutex_lock(&m->given_lock);
	m->lost_since = true;
	given = m->journal.record.given;
	if (m->journal.record.owner == JOURNAL_GIVEN_UP && given.mem_file) {
		given.mem_file = 0;
		err = journal_give_up(&m->journal, m->session, m->journal.record.epoch, &given);
	}
	pthread_mutex_unlock(&m->given_lock);
	return err;
}

static int record_given_up(struct machine *m, u64 epoch, const u8 *token)
{
	enum journal_owner before = m->journal.record.owner;
	struct journal_given given = { .mem_size = m->vm.mem.size };
	int err;

	memcpy(given.token, token, sizeof(given.token));
	pthread_mutex_lock(&m->given_lock);
	given.mem_file = memory_is_in_file(m) ? m->vm.mem.file : 0;
	err = journal_give_up(&m->journal, m->session, epoch, &given);
	/* Should this fail, too, nobody starts this VM from what is recorded. */
	if (err)
		journal_write(&m->journal, m->session, epoch, before);
	pthread_mutex_unlock(&m->given_lock);
	return err;
}

/*
 * Its disk is the only thing that both hosts have: who is to go on from the record finds it
 * as the guest left it.
 */
static int give_up_machine(void *vm, u64 epoch, const u8 *token)
{
	struct machine *m = vm;
	bool vacant = m->journal.record.owner == JOURNAL_VACANT;
	int err;

	err = vm_give_up(&m->vm);
	if (err)
		return kuf_error(err, "the VM has ended");
	err = blk_sync(&m->blk);
	if (!err)
		err = record_given_up(m, epoch, token);
	if (!err)
		blk_let_go(&m->blk);
	else if (!vacant)
		vm_take_back(&m->vm);
	return err;
}

static void resume_machine(void *vm)
{
	machine_resume(vm);
}

/* The destination is told once it is recorded, by the next connection if need be. */
static int record_loss(struct machine *m)
{
	int err = migrate_lost(m);

	return err ? kuf_error(err, "the loss of a page is not recorded, and nobody is told") : 0;
}

/* Its memory may itself be absent still, if it came from elsewhere: others do not wait. */
static int map_memory(void *opaque, u64 gpa, u64 len, void **ptr)
{
	struct machine *m = opaque;
	int err = dma_try_map(&m->vm, gpa, len, ptr);

	/* Which an engine that looks at the page may have found only now. */
	if (err == -EHWPOISON && record_loss(m))
		return -ENOLINK;
	return err;
}

/* The VM does not run here any more, so that no more can be done about it. */
static int lost_memory(void *opaque, const void *ptr)
{
	struct machine *m = opaque;
	int err = record_loss(m);

	if (!err)
		vm_lost(&m->vm, ptr);
	return err;
}

static u64 ms(u64 from, u64 to)
{
	return to > from ? (to - from) / 1000000 : 0;
}

static void report(const struct outgoing *o)
{
	const struct origin *origin = &o->origin;
	const struct origin_counts *c = &origin->counts;

	if (!o->given_up)
		return;
	kuf_say("sent: paused, given up after %llu ms, runs there after %llu ms",
		(unsigned long long)ms(o->paused_ns, o->go_ns),
		(unsigned long long)ms(o->paused_ns, origin->started_ns));
	kuf_say("sent: %llu urgent pages, %llu in the background, %llu zeroes, %llu failed",
		(unsigned long long)c->pages[1], (unsigned long long)c->pages[0],
		(unsigned long long)(c->zero_pages[0] + c->zero_pages[1]),
		(unsigned long long)c->failed);
	if (c->poisoned)
		kuf_say("sent: %llu pages are lost, and were poisoned there",
			(unsigned long long)c->poisoned);
}

int migrate_recover(struct outgoing *o, const struct net_address *to)
{
	int err = outgoing_recover(o, to);

	report(o);
	return err;
}

int migrate_to_another(struct machine *m, struct outgoing *o, const char *revoke,
		       const struct net_address *to)
{
	int err = 0;

	if (!o->vacant && !revoke[0])
		return kuf_error(-EINVAL, "--revoke=JOURNAL is needed: who has the VM may run it");
	if (!o->vacant) {
		err = journal_revoke(revoke, &m->journal, m->session, o->epoch + 1);
		if (err)
			return err;
		pthread_mutex_lock(&m->given_lock);
		err = journal_write(&m->journal, m->session, o->epoch + 1, JOURNAL_VACANT);
		pthread_mutex_unlock(&m->given_lock);
		if (err)
			return err;
		outgoing_vacate(o);
		kuf_say("%s is revoked: the VM is to be offered to another one", revoke);
	}
	err = outgoing_to_another(o, to);
	report(o);
	return err;
}

int migrate_send(struct machine *m, struct outgoing *o, const struct net_address *to)
{
	static const struct outgoing_ops ops = {
		pause_machine, offer_machine, save_machine, give_up_machine, resume_machine,
	};
	int err;

	o->ops = &ops;
	o->vm = m;
	o->epoch = m->epoch;
	memcpy(o->session, m->session, sizeof(o->session));
	o->config = (struct proto_config){
		.mem_size = m->vm.mem.size,
		.nr_cpus = m->vm.nr_vcpus,
	};
	o->origin.mem = &m->vm.mem;
	o->origin.map = map_memory;
	o->origin.lost = lost_memory;
	o->origin.opaque = m;
	err = outgoing_run(o, to);
	report(o);
	if (!err && o->origin.done.kind == PROTO_DONE_ENDED)
		kuf_say("sent: the guest ended there, without the rest of its memory");
	if (err && o->given_up && o->phase != OUTGOING_CUT)
		kuf_error(0, "the VM was given up: it cannot go on here");
	return err;
}
