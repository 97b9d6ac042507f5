/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_RESET_H
#define KUF_RESET_H

struct vm;

/* The two ways in which the guest ends the VM; -errno. */
int reset_plug(struct vm *vm);

#endif /* KUF_RESET_H */
