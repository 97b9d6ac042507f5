/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_MACHINE_H
#define KUF_MACHINE_H

#include "blk.h"
#include "server.h"
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

/* A VM with its devices, and who fills its memory. */
struct machine {
	struct vm vm;
	struct uart uart;
	struct blk blk;
	bool has_blk;
	int console_fd;
	u8 session[16];		/* random, from the boot on */
	struct machine_time time;	/* what was loaded, if time_stands */
	bool time_stands;

	/* When pages are absent: what memory is to hold, and who brings it there. */
	struct pager_source source;
	int source_fd;
	int counts_fd;
	struct pager pager;
	struct server server;
};

void machine_init(struct machine *m);
/* @console: file, or NULL: stdout.  @disk: file, or NULL. */
int machine_plug_devices(struct machine *m, const char *console, const char *disk);
/* @how: which pager. */
int machine_enable_userfault(struct machine *m, enum pager_mode how, bool own);
/* With m->source. */
int machine_start_pager(struct machine *m, enum pager_mode how);

/* Nothing in it moves: vCPUs are out of the guest, the disk has no request at work. */
int machine_pause(struct machine *m);
void machine_resume(struct machine *m);

/*
 * Until the VM is stopped: after an error of whoever started it (@err), or when the
 * guest ends or @timeout_s passed.  Returns an exit code, for machine_finish().
 */
int machine_wait(struct machine *m, int err, unsigned int timeout_s);
/* With nobody else at the VM any more.  What kuf is to exit with. */
int machine_finish(struct machine *m, int code);
void machine_release(struct machine *m);

/* dump.c: after machine_wait(), with the vCPUs joined. */
void machine_say_where(struct machine *m);

#endif /* KUF_MACHINE_H */
