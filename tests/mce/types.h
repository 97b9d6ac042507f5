/* SPDX-License-Identifier: GPL-2.0 */
/* Types of the kernel's, before anything else. */
#include <stdbool.h>
#include <stdint.h>

typedef uint64_t u64;
