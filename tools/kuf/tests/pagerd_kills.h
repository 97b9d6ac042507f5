/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_PAGERD_KILLS_H
#define KUF_TESTS_PAGERD_KILLS_H

#include "fakevm.h"

/* A pager that is a process of its own, and VMs here, which have no KVM. */
/* Pagers lock the directory; /tmp is locked by who runs the tests. */
#define DIRECTORY	"/tmp/kuf-pagerd-kills"
#define SOCKET		DIRECTORY "/socket"
#define FILE_NAME	"/tmp/kuf-pagerd-kills-saved"
#define NOBODY		65534
#define VMS		3
#define PATIENCE_S	60

extern struct fakevm fakes[VMS];

/* This program again; @user: as somebody else, who lets others connect. */
pid_t start_pager(const char *user);
int run_pager(const char *user);
/* It listens; not the one before, whose socket may be there still. */
void await_pager(void);
int end_pager(pid_t pid, int how);

u64 *page_of(struct fakevm *f, u64 page);
/* All that is there: as it was saved, or as the guest left it. */
u64 wrong_pages(struct fakevm *f);
/* A page that the guest has written to, in a way that tells what was there. */
bool is_marked(struct fakevm *f, u64 page);
void mark_page(struct fakevm *f, u64 page);
#define MARK(page)	(~(page) * 31)

/* pagerd_ends.c: one VM, and one page now and then: so many results. */
#define ENDS_RESULTS	14
void ends_test(void);

#endif /* KUF_TESTS_PAGERD_KILLS_H */
