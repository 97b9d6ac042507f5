/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What userfault_mce.c needs of the kernel, for a process: its types, and the bits that
 * the manuals of the CPUs give for machine checks.
 */
#ifndef __TESTS_MCE_ASM_MCE_H
#define __TESTS_MCE_ASM_MCE_H

#define MCG_CTL_P		BIT_ULL(8)
#define MCG_SER_P		BIT_ULL(24)
#define MCG_LMCE_P		BIT_ULL(27)
#define MCG_EXT_CTL_LMCE_EN	BIT_ULL(0)

#define MCG_STATUS_RIPV		BIT_ULL(0)
#define MCG_STATUS_EIPV		BIT_ULL(1)
#define MCG_STATUS_MCIP		BIT_ULL(2)
#define MCG_STATUS_LMCES	BIT_ULL(3)

#define MCI_STATUS_VAL		BIT_ULL(63)
#define MCI_STATUS_UC		BIT_ULL(61)
#define MCI_STATUS_EN		BIT_ULL(60)
#define MCI_STATUS_MISCV	BIT_ULL(59)
#define MCI_STATUS_ADDRV	BIT_ULL(58)
#define MCI_STATUS_S		BIT_ULL(56)
#define MCI_STATUS_AR		BIT_ULL(55)
#define MCI_STATUS_POISON	BIT_ULL(43)

#endif /* __TESTS_MCE_ASM_MCE_H */
