// SPDX-License-Identifier: GPL-2.0
/*
 * SIGBUS, where it may be expected.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "guard.h"

static __thread struct {
	sigjmp_buf *guard;	/* the innermost one, or NULL: jump there */
	bool runs;		/* in KVM_RUN: note it, and go on */
	void *broken;
} here;

/* Of a file that became shorter, too: what was there is lost as well. */
static bool is_lost(const siginfo_t *info)
{
	return info->si_code == BUS_MCEERR_AR || info->si_code == BUS_ADRERR;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	/* Nobody needs it yet. Who does is told then. */
	if (info->si_code == BUS_MCEERR_AO)
		return;
	if (here.guard && is_lost(info)) {
		here.broken = info->si_addr;
		siglongjmp(*here.guard, 1);
	}
	if (here.runs && info->si_code == BUS_MCEERR_AR) {
		here.broken = info->si_addr;
		return;
	}
	/* It was not foreseen: the end. */
	signal(SIGBUS, SIG_DFL);
	raise(SIGBUS);
}

void guard_init(void)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		/* Left by a jump, it must not stay blocked. */
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGBUS, &action, NULL);
}

int guard_call(int (*fn)(void *arg), void *arg, void **broken)
{
	sigjmp_buf *const outer = here.guard;
	sigjmp_buf env;
	int ret;

	if (sigsetjmp(env, 0)) {
		here.guard = outer;
		if (broken)
			*broken = here.broken;
		return -EHWPOISON;
	}
	/* The handler looks, which the compiler cannot know. */
	here.guard = &env;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	ret = fn(arg);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	here.guard = outer;
	return ret;
}

struct copy {
	void *to;
	const void *from;
	size_t len;
};

static int copy(void *arg)
{
	struct copy *c = arg;

	memcpy(c->to, c->from, c->len);
	return 0;
}

int guard_copy(void *to, const void *from, size_t len)
{
	struct copy c = { to, from, len };

	return guard_call(copy, &c, NULL);
}

void guard_run_begin(void)
{
	here.broken = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	here.runs = true;
}

void *guard_run_end(void)
{
	here.runs = false;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return here.broken;
}
