/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_POISON_HOST_H
#define KUF_TESTS_POISON_HOST_H

#include "abi.h"
#include "machine.h"

#define POISON_FEATURES	(KVM_USERFAULT_FEATURE_ACCESS | KVM_USERFAULT_FEATURE_POISON | \
			 KVM_USERFAULT_FEATURE_POISON_INJECT)

/* A machine with memory, in @file if that is not NULL, whose KVM offers @features. */
extern struct machine machine;
void make_machine_in(const char *file, u64 features);
void free_machine(void);

void report(bool ok, const char *name);

/* poison_asked.c: as many results as that. */
#define POISON_ASKED	8
void poison_asked_test(void);

#endif /* KUF_TESTS_POISON_HOST_H */
