// SPDX-License-Identifier: GPL-2.0
/*
 * How the guest ends the VM: by the reset line of the keyboard controller, or by
 * a port of kuf's own that takes an exit code.
 */
#include "reset.h"
#include "vm.h"

#define KBC_PORT	0x64
#define KBC_RESET	0xfe
/*
 * Never busy, so that a reset is not waited for; and always with another byte to
 * be read, so that a driver soon finds that there is no controller.
 */
#define KBC_STATUS	0xfd

#define EXIT_PORT	0x501
#define EXIT_CODE_MASK	0x3f

static void kbc_access(void *dev, u64 offset, void *data, u32 len, bool write)
{
	if (!write)
		*(u8 *)data = KBC_STATUS;
	else if (*(u8 *)data == KBC_RESET)
		vm_stop(dev, KUF_EXIT_OK);
}

static void exit_access(void *dev, u64 offset, void *data, u32 len, bool write)
{
	u8 code = *(u8 *)data;

	if (!write)
		*(u8 *)data = 0;
	else
		vm_stop(dev, code ? KUF_EXIT_GUEST + (code & EXIT_CODE_MASK) : KUF_EXIT_OK);
}

int reset_plug(struct vm *vm)
{
	struct bus_range kbc = { KBC_PORT, 1, kbc_access, vm };
	struct bus_range exit = { EXIT_PORT, 1, exit_access, vm };
	int err = bus_add(&vm->ports, &kbc);

	return err ?: bus_add(&vm->ports, &exit);
}
