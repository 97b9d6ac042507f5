/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_SAVED_H
#define KUF_TESTS_SAVED_H

#include "mem.h"

/*
 * Saved VMs that can be read, though no host could run them: all that is needed to
 * get pages from.  Their memory is of MIN_MEM, a third of it zero.
 */
#define SAVED_PAGES	(MIN_MEM / PAGE_SIZE)

/* A directory for a pager's @socket, which is not there; for any user. */
bool saved_directory(const char *path, const char *socket);
/* @number: which VM it is; its memory and session depend on it. */
bool saved_make(const char *path, unsigned int number);
void saved_session(u8 session[16], unsigned int number);
/* Is that what it had in the page? */
bool saved_page_is(unsigned int number, u64 page, const void *content);
/* Where in the file a page is. */
off_t saved_page_at(const char *path, u64 page);

#endif /* KUF_TESTS_SAVED_H */
