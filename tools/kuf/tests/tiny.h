/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_TINY_H
#define KUF_TESTS_TINY_H

#include "guest.h"

/*
 * A guest of some bytes, saved in the middle of its work: it has written to pages from 16
 * to 24 MiB, and goes on by checking all of them.  Its exit code says whether they were right.
 *
 * @run, @saver: its runs of kuf run, and kuf save, of which those that count are the last ones.
 */
bool tiny_save(struct test_run *run, struct test_run *saver, const char *file);

#endif /* KUF_TESTS_TINY_H */
