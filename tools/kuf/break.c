// SPDX-License-Identifier: GPL-2.0
/*
 * Names of faults that are made on purpose.
 */
#include <string.h>

#include "break.h"

static const char * const names[NR_BREAKS] = {
	[BREAK_NONE] = "none",
	[BREAK_EARLY_CLEAR] = "early-clear",
	[BREAK_FLIP] = "flip",
	[BREAK_DROP] = "drop",
};

const char *break_name(enum break_kind kind)
{
	return names[kind];
}

int break_by_name(const char *name)
{
	int i;

	for (i = BREAK_NONE + 1; i < NR_BREAKS; i++) {
		if (!strcmp(names[i], name))
			return i;
	}
	return kuf_error(0, "--break=%s: early-clear, flip or drop", name);
}
