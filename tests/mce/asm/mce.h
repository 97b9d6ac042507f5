/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What userfault_mce.c needs of the kernel, for a process: its types, and the bits that
 * the manuals of the CPUs give for machine checks.
 */
#ifndef __TESTS_MCE_ASM_MCE_H
#define __TESTS_MCE_ASM_MCE_H

#define MCG_CTL_P		(1ull << 8)
#define MCG_SER_P		(1ull << 24)
#define MCG_LMCE_P		(1ull << 27)
#define MCG_EXT_CTL_LMCE_EN	(1ull << 0)

#define MCG_STATUS_RIPV		(1ull << 0)
#define MCG_STATUS_EIPV		(1ull << 1)
#define MCG_STATUS_MCIP		(1ull << 2)
#define MCG_STATUS_LMCES	(1ull << 3)

#define MCI_STATUS_VAL		(1ull << 63)
#define MCI_STATUS_UC		(1ull << 61)
#define MCI_STATUS_EN		(1ull << 60)
#define MCI_STATUS_MISCV	(1ull << 59)
#define MCI_STATUS_ADDRV	(1ull << 58)
#define MCI_STATUS_S		(1ull << 56)
#define MCI_STATUS_AR		(1ull << 55)
#define MCI_STATUS_POISON	(1ull << 43)

#endif /* __TESTS_MCE_ASM_MCE_H */
