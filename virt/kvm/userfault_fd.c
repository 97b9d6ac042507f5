// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: the file descriptor through which another thread, or another
 * process, learns which pages are wanted; and those who wait for them, as far as it
 * is concerned.  What they do meanwhile is in userfault_wait.c.
 *
 * A waiter is queued in the bucket of its page, and only then looks at the bit
 * and at who serves faults.  Whoever changes one of these, i.e. fills a page
 * and calls WAKE, closes or replaces the file, changes it first and then goes
 * through the bucket.  Both take the bucket's lock, so one of the two sees the
 * other and no wakeup gets lost.
 *
 * An event is not an object: it is a waiter that has not been told about yet.
 * So there is nothing to allocate, events end with the wait, and after a reader
 * died, all that it takes is to tell about the same waiters again.  Waiters for
 * one page are told about once.
 *
 * Nothing in here needs the VM, which may be gone while the file is open.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/kvm_host.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "userfault.h"

#define KVM_USERFAULT_FD_FLAGS						\
	(KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_STALL |		\
	 KVM_USERFAULT_FD_REPLACE | KVM_USERFAULT_FD_NONBLOCK |		\
	 KVM_USERFAULT_FD_MAY_POISON)

struct kvm_userfault_file {
	struct kvm_userfault *uf;
	u32 flags;
	bool retired;			/* replaced by another one */
	/* Its own, so that a predecessor's pollers are nobody else's burden. */
	wait_queue_head_t readers;
	struct rcu_head rcu;
};

static_assert(sizeof(struct kvm_userfault_event) == 64);

void kvm_userfault_init_waiters(struct kvm_userfault *uf)
{
	int i;

	mutex_init(&uf->file_lock);
	for (i = 0; i < KVM_USERFAULT_BUCKETS; i++) {
		spin_lock_init(&uf->buckets[i].lock);
		INIT_LIST_HEAD(&uf->buckets[i].waiters);
	}
}

static unsigned int kvm_userfault_bucket_of(gfn_t gfn)
{
	return hash_64(gfn, ilog2(KVM_USERFAULT_BUCKETS));
}

/* There is an event to be read. */
static void kvm_userfault_notify(struct kvm_userfault *uf)
{
	struct kvm_userfault_file *f;

	rcu_read_lock();
	f = rcu_dereference(uf->live);
	/* Has the barrier that orders "pending" before the look at the queue. */
	if (f && wq_has_sleeper(&f->readers))
		wake_up_interruptible_poll(&f->readers, EPOLLIN | EPOLLRDNORM);
	rcu_read_unlock();
}

static void kvm_userfault_set_state(struct kvm_userfault *uf, unsigned int nr,
				    struct kvm_userfault_waiter *w,
				    enum kvm_userfault_waiter_state state)
{
	struct kvm_userfault_bucket *b = &uf->buckets[nr];

	lockdep_assert_held(&b->lock);

	b->pending += (state == KVM_USERFAULT_PENDING) -
		      (w->state == KVM_USERFAULT_PENDING);
	w->state = state;

	/* All buckets share this word, so leave it alone if possible. */
	if (!!b->pending != test_bit(nr, &uf->pending))
		change_bit(nr, &uf->pending);
}

static bool kvm_userfault_same_page(const struct kvm_userfault_waiter *w,
				    gfn_t gfn, u16 as_id)
{
	return w->gfn == gfn && w->as_id == as_id;
}

void kvm_userfault_enqueue(struct kvm_userfault *uf,
			   struct kvm_userfault_waiter *w)
{
	struct kvm_userfault_bucket *b;

	b = &uf->buckets[kvm_userfault_bucket_of(w->gfn)];
	w->state = KVM_USERFAULT_CHECKING;

	spin_lock(&b->lock);
	list_add_tail(&w->node, &b->waiters);
	spin_unlock(&b->lock);
}

void kvm_userfault_dequeue(struct kvm_userfault *uf,
			   struct kvm_userfault_waiter *w)
{
	unsigned int nr = kvm_userfault_bucket_of(w->gfn);

	spin_lock(&uf->buckets[nr].lock);
	kvm_userfault_set_state(uf, nr, w, KVM_USERFAULT_TOLD);
	list_del(&w->node);
	spin_unlock(&uf->buckets[nr].lock);
}

/*
 * Make an event of a waiter that has found its bit set.  If a reader was told of
 * the page for somebody else and has not called WAKE since, it is still going to.
 */
void kvm_userfault_announce(struct kvm_userfault *uf,
			    struct kvm_userfault_waiter *w)
{
	unsigned int nr = kvm_userfault_bucket_of(w->gfn);
	struct kvm_userfault_bucket *b = &uf->buckets[nr];
	enum kvm_userfault_waiter_state state = KVM_USERFAULT_PENDING;
	struct kvm_userfault_waiter *other;
	bool notify = false;

	spin_lock(&b->lock);
	/* Otherwise it was announced before, or REPLAY was faster. */
	if (w->state == KVM_USERFAULT_CHECKING) {
		list_for_each_entry(other, &b->waiters, node) {
			if (other->state == KVM_USERFAULT_TOLD && !other->woken &&
			    kvm_userfault_same_page(other, w->gfn, w->as_id))
				state = KVM_USERFAULT_TOLD;
		}
		kvm_userfault_set_state(uf, nr, w, state);
		notify = state == KVM_USERFAULT_PENDING;
	}
	spin_unlock(&b->lock);

	if (notify)
		kvm_userfault_notify(uf);
}

static bool kvm_userfault_at_end(const struct kvm_userfault_file *f)
{
	return READ_ONCE(f->retired) || READ_ONCE(f->uf->dead);
}

/* Take an event out of a bucket, for all who wait for the same page. */
static bool kvm_userfault_take_event(const struct kvm_userfault_file *f,
				     unsigned int nr,
				     struct kvm_userfault_event *event)
{
	struct kvm_userfault *uf = f->uf;
	struct kvm_userfault_bucket *b = &uf->buckets[nr];
	struct kvm_userfault_waiter *w;
	bool found = false;

	spin_lock(&b->lock);
	list_for_each_entry(w, &b->waiters, node) {
		/* The successor takes all that there is, bucket by bucket. */
		if (kvm_userfault_at_end(f))
			break;
		if (w->state != KVM_USERFAULT_PENDING)
			continue;

		if (!found) {
			found = true;
			*event = (struct kvm_userfault_event) {
				.gpa = gfn_to_gpa(w->gfn),
				.size = PAGE_SIZE,
				.flags = w->flags,
				.vcpu_id = w->vcpu_id,
				.as_id = w->as_id,
				.type = KVM_USERFAULT_EVENT_FAULT,
				.seq = w->seq,
				.time_ns = w->time_ns,
			};
		} else if (!kvm_userfault_same_page(w, gpa_to_gfn(event->gpa),
						    event->as_id)) {
			continue;
		}
		kvm_userfault_set_state(uf, nr, w, KVM_USERFAULT_TOLD);
	}
	spin_unlock(&b->lock);

	return found;
}

/* The reader did not get it after all. */
static void kvm_userfault_return_event(struct kvm_userfault *uf,
				       const struct kvm_userfault_event *event)
{
	gfn_t gfn = gpa_to_gfn(event->gpa);
	unsigned int nr = kvm_userfault_bucket_of(gfn);
	struct kvm_userfault_bucket *b = &uf->buckets[nr];
	struct kvm_userfault_waiter *w;

	spin_lock(&b->lock);
	list_for_each_entry(w, &b->waiters, node) {
		if (w->state == KVM_USERFAULT_TOLD &&
		    kvm_userfault_same_page(w, gfn, event->as_id))
			kvm_userfault_set_state(uf, nr, w, KVM_USERFAULT_PENDING);
	}
	spin_unlock(&b->lock);
}

/* Start where the last one stopped, so that no bucket is starved. */
static bool kvm_userfault_next_event(const struct kvm_userfault_file *f,
				     struct kvm_userfault_event *event)
{
	struct kvm_userfault *uf = f->uf;
	unsigned int first = atomic_read(&uf->next_bucket), i, nr;

	for (i = 0; i < KVM_USERFAULT_BUCKETS; i++) {
		nr = (first + i) % KVM_USERFAULT_BUCKETS;
		if (!test_bit(nr, &uf->pending) ||
		    !kvm_userfault_take_event(f, nr, event))
			continue;
		atomic_set(&uf->next_bucket, nr + 1);
		return true;
	}
	return false;
}

static bool kvm_userfault_readable(const struct kvm_userfault_file *f)
{
	return READ_ONCE(f->uf->pending) || kvm_userfault_at_end(f);
}

static ssize_t kvm_userfault_fd_read(struct file *file, char __user *buf,
				     size_t size, loff_t *pos)
{
	struct kvm_userfault_file *f = file->private_data;
	struct kvm_userfault *uf = f->uf;
	struct kvm_userfault_event event;
	size_t done = 0;
	int r;

	if (size < sizeof(event))
		return -EINVAL;

	while (size - done >= sizeof(event) && !kvm_userfault_at_end(f)) {
		if (!kvm_userfault_next_event(f, &event)) {
			if (done)
				break;
			if (file->f_flags & O_NONBLOCK)
				return -EAGAIN;
			/* One event for one reader: not all of them get up. */
			r = wait_event_interruptible_exclusive(f->readers,
							       kvm_userfault_readable(f));
			if (r)
				return r;
			continue;
		}
		if (copy_to_user(buf + done, &event, sizeof(event))) {
			kvm_userfault_return_event(uf, &event);
			kvm_userfault_notify(uf);
			return done ?: -EFAULT;
		}
		done += sizeof(event);
		cond_resched();
	}

	/* This reader was woken for all that there was. */
	if (READ_ONCE(uf->pending))
		kvm_userfault_notify(uf);
	return done;
}

static __poll_t kvm_userfault_fd_poll(struct file *file, poll_table *table)
{
	struct kvm_userfault_file *f = file->private_data;

	poll_wait(file, &f->readers, table);

	if (kvm_userfault_at_end(f))
		return EPOLLIN | EPOLLRDNORM | EPOLLHUP;
	return READ_ONCE(f->uf->pending) ? EPOLLIN | EPOLLRDNORM : 0;
}

/* With the bucket's lock held, which keeps the waiter where it is. */
static void kvm_userfault_wake_waiter(struct kvm_userfault_waiter *w, bool *why)
{
	WRITE_ONCE(*why, true);
	rcuwait_wake_up(w->wait);
}

static void kvm_userfault_wake_bucket(struct kvm_userfault *uf, unsigned int nr,
				      gfn_t start, gfn_t end, u32 as_id, bool poison)
{
	struct kvm_userfault_bucket *b = &uf->buckets[nr];
	struct kvm_userfault_waiter *w;

	spin_lock(&b->lock);
	list_for_each_entry(w, &b->waiters, node) {
		if (w->gfn < start || w->gfn >= end ||
		    (as_id != KVM_USERFAULT_AS_ALL && as_id != w->as_id))
			continue;
		kvm_userfault_set_state(uf, nr, w, KVM_USERFAULT_TOLD);
		/* Before woken, which makes the waiter look. */
		if (poison)
			WRITE_ONCE(w->poison, true);
		kvm_userfault_wake_waiter(w, &w->woken);
	}
	spin_unlock(&b->lock);
}

static int kvm_userfault_wake(const struct kvm_userfault_file *f,
			      struct kvm_userfault_range *range)
{
	bool poison = range->flags & KVM_USERFAULT_WAKE_POISON;
	struct kvm_userfault *uf = f->uf;
	gfn_t start = gpa_to_gfn(range->gpa), gfn;
	gfn_t end = start + (range->size >> PAGE_SHIFT);
	unsigned int nr;

	range->flags &= ~KVM_USERFAULT_WAKE_POISON;
	if (!kvm_userfault_range_valid(range))
		return -EINVAL;
	if (range->as_id != KVM_USERFAULT_AS_ALL && range->as_id > U16_MAX)
		return -EINVAL;
	if (poison && !(f->flags & KVM_USERFAULT_FD_MAY_POISON))
		return -EPERM;

	if (end - start < KVM_USERFAULT_BUCKETS) {
		for (gfn = start; gfn < end; gfn++)
			kvm_userfault_wake_bucket(uf, kvm_userfault_bucket_of(gfn),
						  gfn, gfn + 1, range->as_id, poison);
	} else {
		for (nr = 0; nr < KVM_USERFAULT_BUCKETS; nr++)
			kvm_userfault_wake_bucket(uf, nr, start, end, range->as_id,
						  poison);
	}
	return 0;
}

/*
 * Make everybody look again at the bit and at who serves faults; with @replay
 * make events of them once more as well.
 */
static void kvm_userfault_poke(struct kvm_userfault *uf, bool replay)
{
	struct kvm_userfault_waiter *w;
	unsigned int nr;

	/*
	 * What the waiters are to look at was changed before.  Pairs with
	 * smp_store_mb() in userfault_wait.c.
	 */
	smp_mb();

	for (nr = 0; nr < KVM_USERFAULT_BUCKETS; nr++) {
		spin_lock(&uf->buckets[nr].lock);
		list_for_each_entry(w, &uf->buckets[nr].waiters, node) {
			if (replay && !w->woken)
				kvm_userfault_set_state(uf, nr, w, KVM_USERFAULT_PENDING);
			kvm_userfault_wake_waiter(w, &w->recheck);
		}
		spin_unlock(&uf->buckets[nr].lock);
	}
	if (READ_ONCE(uf->pending))
		kvm_userfault_notify(uf);
}

void kvm_userfault_recheck_waiters(struct kvm_userfault *uf)
{
	kvm_userfault_poke(uf, false);
}

static long kvm_userfault_fd_ioctl(struct file *file, unsigned int ioctl,
				   unsigned long arg)
{
	struct kvm_userfault_file *f = file->private_data;
	struct kvm_userfault_range range;

	switch (ioctl) {
	case KVM_USERFAULT_WAKE:
		if (copy_from_user(&range, (void __user *)arg, sizeof(range)))
			return -EFAULT;
		if (kvm_userfault_at_end(f))
			return -EPIPE;
		return kvm_userfault_wake(f, &range);
	case KVM_USERFAULT_REPLAY:
		if (arg)
			return -EINVAL;
		if (kvm_userfault_at_end(f))
			return -EPIPE;
		kvm_userfault_poke(f->uf, true);
		return 0;
	default:
		return -ENOTTY;
	}
}

static struct kvm_userfault_file *kvm_userfault_live(struct kvm_userfault *uf)
{
	return rcu_dereference_protected(uf->live, lockdep_is_held(&uf->file_lock));
}

/* The last of its file descriptors is closed, in whatever process that was. */
static int kvm_userfault_fd_release(struct inode *inode, struct file *file)
{
	struct kvm_userfault_file *f = file->private_data;
	struct kvm_userfault *uf = f->uf;

	mutex_lock(&uf->file_lock);
	if (kvm_userfault_live(uf) == f) {
		rcu_assign_pointer(uf->live, NULL);
		if (!(f->flags & KVM_USERFAULT_FD_STALL)) {
			WRITE_ONCE(uf->vcpus_wait, false);
			WRITE_ONCE(uf->own_waits, false);
		}
		kvm_userfault_poke(uf, false);
	}
	mutex_unlock(&uf->file_lock);

	kvm_userfault_put(uf);
	kfree_rcu(f, rcu);
	return 0;
}

static const struct file_operations kvm_userfault_fops = {
	.owner		= THIS_MODULE,
	.read		= kvm_userfault_fd_read,
	.poll		= kvm_userfault_fd_poll,
	.unlocked_ioctl	= kvm_userfault_fd_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.release	= kvm_userfault_fd_release,
	.llseek		= noop_llseek,
};

/* With file_lock held. */
static int kvm_userfault_go_live(struct kvm_userfault *uf,
				 struct kvm_userfault_file *f)
{
	struct kvm_userfault_file *old = kvm_userfault_live(uf);

	if (old) {
		if (!(f->flags & KVM_USERFAULT_FD_REPLACE))
			return -EBUSY;
		WRITE_ONCE(old->retired, true);
		wake_up_all(&old->readers);
	}
	rcu_assign_pointer(uf->live, f);
	WRITE_ONCE(uf->vcpus_wait, f->flags & KVM_USERFAULT_FD_VCPU);
	WRITE_ONCE(uf->own_waits, true);
	/* Those who wait, with STALL or for the predecessor. */
	kvm_userfault_poke(uf, true);
	return 0;
}

int kvm_userfault_create_fd(struct kvm *kvm, const struct kvm_userfault_fd *args)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);
	struct kvm_userfault_file *f;
	struct file *file;
	int fd, r;

	if (!kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_FD))
		return -EPERM;
	if (args->flags & ~KVM_USERFAULT_FD_FLAGS ||
	    args->event_size != sizeof(struct kvm_userfault_event) ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return -EINVAL;
	if (args->flags & KVM_USERFAULT_FD_MAY_POISON &&
	    !kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_POISON))
		return -EPERM;

	f = kzalloc_obj(*f, GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->uf = uf;
	f->flags = args->flags;
	init_waitqueue_head(&f->readers);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		r = fd;
		goto out_free;
	}

	file = anon_inode_getfile("kvm-userfault", &kvm_userfault_fops, f,
				  O_RDWR | (f->flags & KVM_USERFAULT_FD_NONBLOCK ?
					    O_NONBLOCK : 0));
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto out_fd;
	}
	kref_get(&uf->ref);

	mutex_lock(&uf->file_lock);
	r = kvm_userfault_go_live(uf, f);
	mutex_unlock(&uf->file_lock);
	if (r) {
		/* Frees f as well. */
		fput(file);
		put_unused_fd(fd);
		return r;
	}

	fd_install(fd, file);
	return fd;

out_fd:
	put_unused_fd(fd);
out_free:
	kfree(f);
	return r;
}

/* The VM is being destroyed: nobody waits any more, and nobody will. */
void kvm_userfault_kill(struct kvm_userfault *uf)
{
	struct kvm_userfault_file *f;

	mutex_lock(&uf->file_lock);
	WRITE_ONCE(uf->dead, true);
	f = kvm_userfault_live(uf);
	if (f)
		wake_up_all(&f->readers);
	mutex_unlock(&uf->file_lock);
}
