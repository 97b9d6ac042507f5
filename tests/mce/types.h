/* SPDX-License-Identifier: GPL-2.0 */
/* Types of the kernel's, before anything else. */
#include <stdbool.h>

typedef unsigned long long u64;

#define BIT_ULL(nr)		(1ull << (nr))
