/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_GUEST_GUEST_H
#define KUF_GUEST_GUEST_H

/* Then the guest does not say that it is ok. */
extern int failures;

__attribute__((format(printf, 1, 2)))
void failed(const char *fmt, ...);

/* keep.c */
void keep_going(unsigned int generations);

#endif /* KUF_GUEST_GUEST_H */
