// SPDX-License-Identifier: GPL-2.0
/*
 * The VM: its file descriptors, what KVM emulates for it, and its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "vcpu.h"
#include "vm.h"

/* Three pages that VMX needs for real mode, away from all memory. */
#define TSS_GPA		0xfffbd000
#define IDENTITY_GPA	0xfffbc000

static int create_chips(struct vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	u64 identity = IDENTITY_GPA;

	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return kuf_error(-errno, "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA))
		return kuf_error(-errno, "KVM_SET_TSS_ADDR");
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
		return kuf_error(-errno, "KVM_CREATE_IRQCHIP");
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit))
		return kuf_error(-errno, "KVM_CREATE_PIT2");
	return 0;
}

int vm_create(struct vm *vm)
{
	pthread_condattr_t attr;
	int err;

	*vm = (struct vm){ .kvm_fd = -1, .fd = -1, .mem = { .fd = -1 } };
	pthread_mutex_init(&vm->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->stopped_cond, &attr);
	pthread_condattr_destroy(&attr);

	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0) {
		err = kuf_error(-errno, "/dev/kvm");
		goto err;
	}
	if (ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		err = kuf_error(0, "/dev/kvm does not speak version %d", KVM_API_VERSION);
		goto err;
	}
	vm->vcpu_mmap_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		err = kuf_error(-errno, "KVM_CREATE_VM");
		goto err;
	}
	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KUF_CAP_USER_MEMORY2) <= 0) {
		err = kuf_error(0, "this kernel has no KVM_SET_USER_MEMORY_REGION2 (Linux 6.8)");
		goto err;
	}
	err = create_chips(vm);
	if (err)
		goto err;
	return 0;

err:
	vm_destroy(vm);
	return err;
}

void vm_destroy(struct vm *vm)
{
	vcpus_destroy(vm);
	mem_destroy(&vm->mem);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->fd = -1;
	vm->kvm_fd = -1;
}

void vm_irq(struct vm *vm, u32 gsi, bool level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	if (ioctl(vm->fd, KVM_IRQ_LINE, &irq)) {
		kuf_error(-errno, "KVM_IRQ_LINE %u", gsi);
		vm_stop(vm, KUF_EXIT_KVM);
	}
}

static void stop_locked(struct vm *vm, int exit_code)
{
	if (vm->stopped)
		return;
	vm->exit_code = exit_code;
	__atomic_store_n(&vm->stopped, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&vm->stopped_cond);
}

void vm_stop(struct vm *vm, int exit_code)
{
	pthread_mutex_lock(&vm->lock);
	stop_locked(vm, exit_code);
	pthread_mutex_unlock(&vm->lock);
}

int vm_wait(struct vm *vm, unsigned int timeout_s)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_s;

	pthread_mutex_lock(&vm->lock);
	while (!vm->stopped) {
		if (!timeout_s || vm->given_up)
			r = pthread_cond_wait(&vm->stopped_cond, &vm->lock);
		else
			r = pthread_cond_timedwait(&vm->stopped_cond, &vm->lock, &until);
		if (r && !vm->stopped && !vm->given_up)
			stop_locked(vm, KUF_EXIT_TIMEOUT);
		else
			r = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return -r;
}

int vm_give_up(struct vm *vm)
{
	int err;

	pthread_mutex_lock(&vm->lock);
	err = vm->stopped ? -ECANCELED : 0;
	vm->given_up |= !err;
	pthread_mutex_unlock(&vm->lock);
	return err;
}

/* Whoever waits did not count. */
void vm_take_back(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->given_up = false;
	pthread_cond_broadcast(&vm->stopped_cond);
	pthread_mutex_unlock(&vm->lock);
}
