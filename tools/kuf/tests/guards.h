/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_GUARDS_H
#define KUF_TESTS_GUARDS_H

#include "kuf.h"

/* Seven results. */
void guards_test(void);

/* Since then: two pages, of which the second is beyond the end of its file. */
extern u8 *guards_pages;

#endif /* KUF_TESTS_GUARDS_H */
