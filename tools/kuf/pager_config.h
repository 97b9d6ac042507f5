/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PAGER_CONFIG_H
#define KUF_PAGER_CONFIG_H

#include <kuf/source.h>

#include "kuf.h"
#include "remote.h"

/*
 * How absent pages are to get their content.  Given to machine_fork_pager(), with
 * PAGER_PROCESS only and before /dev/kvm is opened, and then to machine_start_pager(),
 * when the VM has its memory and, if it goes on from somewhere, all of its state.
 */

enum pager_mode {
	PAGER_NONE,		/* no page is absent */
	PAGER_PROCESS,		/* another process, by the userfault fd */
	PAGER_THREAD,		/* a thread, by the userfault fd */
	PAGER_EXIT,		/* the vCPU's thread, when it exits: source with fetch() */
	PAGER_UNIX,		/* a process of somebody else's, remote.h: saved VMs only */
	NR_PAGER_MODES,
};

enum pager_engine {
	PAGER_KUF,		/* libkuf, on KVM userfault */
	PAGER_UFFD,		/* userfaultfd, to compare with: PAGER_THREAD; anon, shmem */
};

/* What is fetched although nobody waits for it. */
struct pager_policy {
	enum kuf_policy_kind kind;	/* KUF_EAGER: all of it, beside the guest */
	bool then_eager;		/* with KUF_RECORDED: then the rest */
	const struct kuf_trace_entry *replay;	/* KUF_RECORDED: what, in this order */
	u64 nr_replay;
	const char *record;	/* file that gets the order of first need, or NULL */
};

/*
 * The source says itself, by kuf_error(), what is wrong with a page or a connection.
 * An error that one of its functions returns, -EAGAIN apart, stops the VM with
 * KUF_EXIT_PAGER; one that can mend itself returns -EAGAIN meanwhile.  Its request(),
 * receive(), pollfds() and verify() are called by one thread.  With PAGER_PROCESS that
 * is in the other process, which has the source as it was at machine_fork_pager().
 */
struct pager_config {
	enum pager_engine engine;
	enum pager_mode mode;
	bool own;		/* KVM's own accesses wait for absent pages as well */
	const struct kuf_source_ops *ops;
	void *source;
	struct pager_policy policy;
	struct remote_config remote;	/* PAGER_UNIX, which has no use for the source */
};

const char *pager_mode_name(enum pager_mode mode);
/* -EINVAL if there is none of that name alone. */
int pager_mode_by_name(const char *name);

#endif /* KUF_PAGER_CONFIG_H */
