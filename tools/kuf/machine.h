/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_MACHINE_H
#define KUF_MACHINE_H

#include "blk.h"
#include "journal.h"
#include "pager.h"
#include "poison.h"
#include "uart.h"
#include "vcpu.h"

/* Clocks that stand still. */
struct machine_time {
	u64 clock_ns;		/* kvmclock */
	u64 tsc[MAX_CPUS];
	u64 deadline[MAX_CPUS];	/* of the timers that go by the TSC; 0: not running */
	u32 tsc_khz;
	u32 reserved;
};

struct stream_source;

/* How far a VM is that comes from another host. */
enum machine_coming {
	MACHINE_HERE,		/* it may run; also if it never came */
	MACHINE_LISTENS,	/* for any VM: all of the machine but this is nobody else's yet */
	MACHINE_RECEIVES,	/* session and epoch are known, and no more */
	MACHINE_WAITS_FOR_GO,	/* it is complete */
};

/* A VM with its devices, and who fills its memory. */
struct machine {
	struct vm vm;
	struct uart uart;
	struct blk blk;
	bool has_blk;
	int console_fd;
	u8 session[16];		/* random, from the boot on */
	u64 epoch;		/* how often it was offered to another host */
	struct journal journal;	/* of who owns it */
	pthread_mutex_t given_lock;	/* its record, from the first offer on, and @lost_since */
	bool lost_since;	/* pages were lost after the VM was given up */
	u64 poison_saved;	/* pages that are poisoned in the state that was sent last */
	u32 coming;		/* enum machine_coming; atomic: says what others may look at */
	/* Others may look there as well: where its memory comes from. */
	struct stream_source *from;	/* or NULL: not from another host */
	bool stuck;		/* machine_wait(): a vCPU does not end */
	struct machine_time time;	/* what was loaded, if time_stands */
	bool time_stands;

	struct pager pager;	/* when pages are absent, or poisoned */
	struct poison_list *poisoned;	/* what was loaded, or NULL */
};

void machine_init(struct machine *m);
/* @console: file, or NULL: stdout.  @disk: file, or NULL. */
int machine_plug_devices(struct machine *m, const char *console, const char *disk);

/* With PAGER_PROCESS, when the source is there and before vm_create(). */
int machine_fork_pager(struct machine *m, const struct pager_config *config);
/*
 * When the VM has its memory and state: from here on all pages are absent.  With
 * PAGER_UFFD memory has to be plugged in, otherwise it may be.  @config NULL: no page is
 * absent, but pages can be poisoned.
 */
int machine_start_pager(struct machine *m, const struct pager_config *config);
/* At any time after that, from any thread; all zeroes if nothing was absent. */
void machine_report(struct machine *m, struct kuf_report *report);

/* Nothing in it moves: vCPUs are out of the guest, the disk has no request at work. */
int machine_pause(struct machine *m);
void machine_resume(struct machine *m);
/* While it is paused. */
void machine_say_paused(struct machine *m);

/*
 * Until the VM is stopped: after an error of whoever started it (@err), or when the
 * guest ends or @timeout_s passed.  Nobody waits for pages any more then, so that who has
 * a job can be waited for.  Returns an exit code, for machine_finish().
 */
int machine_wait(struct machine *m, int err, unsigned int timeout_s);
/* With nobody else at the VM any more.  What kuf is to exit with. */
int machine_finish(struct machine *m, int code);
void machine_release(struct machine *m);

/* dump.c: after machine_wait(), with the vCPUs joined. */
void machine_say_where(struct machine *m);

#endif /* KUF_MACHINE_H */
