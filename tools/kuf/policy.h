/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_POLICY_H
#define KUF_POLICY_H

#include "pager_config.h"

/* How memory is to come: what commands that go on with a VM are told. */
struct policy_options {
	bool eager;		/* all of it before the guest runs */
	enum pager_engine engine;
	enum pager_mode mode;	/* PAGER_NONE: not said, until policy_check() */
	struct pager_policy policy;
	const char *replay;	/* file, or NULL */
	struct kuf_trace_entry *entries;	/* of that file */
	const char *trace;	/* file, or NULL */
	const char *socket;	/* PAGER_UNIX: of the pager */
	unsigned int timeout_s;	/* PAGER_UNIX: 0: for ever */
	bool has_timeout;
};

/* For a command's table of options: numbers beyond those of its own. */
enum { OPT_POLICY = 512, OPT_PAGER, OPT_PAGER_TIMEOUT, OPT_ENGINE, OPT_RECORD, OPT_REPLAY, OPT_THEN,
	OPT_TRACE };

#define POLICY_HELP								\
"  --policy=HOW      when memory comes; all but eager let the guest run at once and\n"	\
"                    have KVM's own accesses wait for absent pages too (needs OWN)\n"	\
"                    eager:      all of it before the guest runs\n"		\
"                    lazy:       page by page, as it is needed\n"		\
"                    background: the same, and meanwhile all the rest\n"	\
"                    recorded:   the same, and meanwhile what a recording names\n"	\
"  --record=FILE     write down what was needed, in that order\n"		\
"  --replay=FILE     with recorded: the recording\n"				\
"  --then=background with recorded: and after it all the rest\n"		\
"  --trace=FILE      a line for each page: time_us gpa kind latency_us (see kuf plot)\n"	\
"  --pager=process|thread|unix:PATH  who fills absent pages: as kuf run --lazy\n"	\
"                    (process), or the kuf pager that listens at PATH\n"		\
"  --pager-timeout=SEC  with unix: if that pager is gone, wait so long for another one\n" \
"                    at PATH, and end with 4 then; 0: for ever (60)\n"		\
"  --engine=kuf|uffd what stops the guest at absent pages: KVM userfault, or, to\n"	\
"                    compare with, userfaultfd: in a thread, lazy or background,\n"	\
"                    memory of anon or shmem (kuf)\n"

/* 1: it is none of these options; -EINVAL after a message. */
int policy_option(struct policy_options *o, int option, const char *arg);
/* Whether they go together: -EINVAL after a message.  Sets what was not said. */
int policy_check(struct policy_options *o);
/* Reads the recording, if there is one to be replayed.  -errno after a message. */
int policy_read(struct policy_options *o);
void policy_free(struct policy_options *o);

#endif /* KUF_POLICY_H */
