// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs: a thread each, and what they leave the guest for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "guard.h"
#include "pager.h"
#include "poison.h"
#include "vcpu.h"

#define KICK_SIGNAL	SIGUSR1
/* It may be filling many pages, on a slow machine. */
#define JOIN_PATIENCE_S	10

static void on_kick(int signal)
{
}

static int create(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	void *run;
	int err;

	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vcpu->id);
	if (vcpu->fd < 0)
		return kuf_error(-errno, "KVM_CREATE_VCPU %u", vcpu->id);
	run = mmap(NULL, vm->vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return kuf_error(-errno, "mmap of vCPU %u", vcpu->id);
	vcpu->run = run;
	err = vcpu_set_cpuid(vcpu);
	return err ?: vcpu_setup_mce(vcpu);
}

int vcpus_create(struct vm *vm, unsigned int nr)
{
	struct sigaction action = { .sa_handler = on_kick };
	unsigned int i;
	int err;

	sigaction(KICK_SIGNAL, &action, NULL);
	vm->vcpus = calloc(nr, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return kuf_error(-ENOMEM, "%u vCPUs", nr);
	for (i = 0; i < nr; i++) {
		vm->vcpus[i] = (struct vcpu){ .vm = vm, .id = i, .fd = -1 };
		vm->nr_vcpus++;
		err = create(&vm->vcpus[i]);
		if (err)
			return err;
	}
	return 0;
}

static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u8 *data = (u8 *)run + run->io.data_offset;
	u32 i;

	for (i = 0; i < run->io.count; i++, data += run->io.size)
		bus_access(&vcpu->vm->ports, run->io.port, data, run->io.size,
			   run->io.direction == KVM_EXIT_IO_OUT);
}

/* KVM_RUN succeeded, and wants something. */
static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		bus_access(&vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.data,
			   run->mmio.len, run->mmio.is_write);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		kuf_say("vCPU %u: triple fault", vcpu->id);
		vm_stop(vcpu->vm, KUF_EXIT_CRASH);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		kuf_error(0, "vCPU %u: KVM has an internal error, suberror %u", vcpu->id,
			  run->internal.suberror);
		vm_stop(vcpu->vm, KUF_EXIT_KVM);
		break;
	default:
		kuf_error(0, "vCPU %u: KVM exits for reason %u, which kuf does not know",
			  vcpu->id, run->exit_reason);
		vm_stop(vcpu->vm, KUF_EXIT_KVM);
		break;
	}
}

/* It was the guest's, and the guest, which is run again, is told. */
static void lost(struct vcpu *vcpu, const void *hva)
{
	if (vm_lost(vcpu->vm, hva))
		vm_stop(vcpu->vm, KUF_EXIT_KVM);
}

/* A page that nobody else takes care of. */
static void handle_fault(struct vcpu *vcpu, int error)
{
	const struct kuf_memory_fault *fault = kuf_memory_fault(vcpu->run);
	struct vm *vm = vcpu->vm;
	int err = -ENOENT;

	/* While the VM ends the pager may be gone already. */
	if (vm_is_stopped(vm))
		return;
	if (vm->pager)
		err = pager_vcpu_exit(vm->pager, vcpu->run, error);
	if (err == -EHWPOISON) {
		vcpu_hit_poison(vcpu);
	} else if (err == -ENOENT && error == EHWPOISON) {
		/* What is broken of other kinds of memory comes as a signal. */
		lost(vcpu, vm->mem.area + mem_offset(&vm->mem, fault->gpa, 1));
	} else if (err == -ENOENT) {
		kuf_error(0, "vCPU %u: memory fault at 0x%llx, flags 0x%llx", vcpu->id,
			  (unsigned long long)fault->gpa, (unsigned long long)fault->flags);
		vm_stop(vm, KUF_EXIT_KVM);
	} else if (err) {
		vm_stop(vm, KUF_EXIT_PAGER);
	}
}

/* -EINTR: it was told to come back. */
static int run_once(struct vcpu *vcpu)
{
	void *broken;
	int err;

	guard_run_begin();
	err = ioctl(vcpu->fd, KVM_RUN, 0) ? errno : 0;
	broken = guard_run_end();
	if (broken)
		lost(vcpu, broken);
	if (!err) {
		vcpu->hits = 0;
		handle_exit(vcpu);
	} else if (err == EINTR) {
		return -EINTR;
	} else if ((err == EFAULT || err == EHWPOISON) &&
		   vcpu->run->exit_reason == KUF_EXIT_MEMORY_FAULT) {
		handle_fault(vcpu, err);
	} else if (err != EAGAIN) {
		kuf_error(-err, "KVM_RUN of vCPU %u, exit reason %u", vcpu->id,
			  vcpu->run->exit_reason);
		vm_stop(vcpu->vm, KUF_EXIT_KVM);
	}
	return 0;
}

void vcpu_set_immediate_exit(struct vcpu *vcpu, u8 value)
{
	__atomic_exchange_n(&vcpu->run->immediate_exit, value, __ATOMIC_ACQ_REL);
}

/*
 * KVM only takes the answer to the last exit when it is entered again, so that until
 * then registers are those from before the instruction: enter it, but not the guest.
 */
static void park(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	vcpu_set_immediate_exit(vcpu, 1);
	while (!vm_is_stopped(vm) && run_once(vcpu) != -EINTR)
		;
	pthread_mutex_lock(&vm->lock);
	vm->nr_parked++;
	pthread_cond_broadcast(&vm->stopped_cond);
	while (vm->pausing && !vm->stopped)
		pthread_cond_wait(&vm->stopped_cond, &vm->lock);
	vm->nr_parked--;
	pthread_mutex_unlock(&vm->lock);
	vcpu_set_immediate_exit(vcpu, 0);
}

static void wait_to_go(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	while (vm->held && !vm->stopped)
		pthread_cond_wait(&vm->stopped_cond, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;

	wait_to_go(vcpu->vm);
	while (!vm_is_stopped(vcpu->vm)) {
		/* It may have been kicked for something else besides. */
		if (vcpu_told(vcpu))
			continue;
		if (__atomic_load_n(&vcpu->vm->pausing, __ATOMIC_ACQUIRE))
			park(vcpu);
		else
			run_once(vcpu);
	}
	pthread_mutex_lock(&vcpu->vm->lock);
	vcpu->ended = true;
	pthread_cond_broadcast(&vcpu->vm->stopped_cond);
	pthread_mutex_unlock(&vcpu->vm->lock);
	return NULL;
}

int vcpus_prepare(struct vm *vm)
{
	unsigned int i;
	int err;

	vm->held = true;
	for (i = 0; i < vm->nr_vcpus; i++) {
		err = pthread_create(&vm->vcpus[i].thread, NULL, run_vcpu, &vm->vcpus[i]);
		if (err)
			return kuf_error(-err, "a thread for vCPU %u", i);
		vm->vcpus[i].has_thread = true;
	}
	return 0;
}

void vcpus_go(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->resumed_ns = pager_now();
	vm->held = false;
	pthread_cond_broadcast(&vm->stopped_cond);
	pthread_mutex_unlock(&vm->lock);
}

void vcpu_kick(struct vcpu *vcpu)
{
	vcpu_set_immediate_exit(vcpu, 1);
	pthread_kill(vcpu->thread, KICK_SIGNAL);
}

static void set_pausing(struct vm *vm, bool pausing)
{
	pthread_mutex_lock(&vm->lock);
	__atomic_store_n(&vm->pausing, pausing, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&vm->stopped_cond);
	pthread_mutex_unlock(&vm->lock);
}

int vcpus_pause(struct vm *vm)
{
	int err;

	set_pausing(vm, true);
	vcpus_kick(vm);
	pthread_mutex_lock(&vm->lock);
	while (vm->nr_parked < vm->nr_vcpus && !vm->stopped)
		pthread_cond_wait(&vm->stopped_cond, &vm->lock);
	err = vm->stopped ? -ECANCELED : 0;
	pthread_mutex_unlock(&vm->lock);
	return err;
}

void vcpus_resume(struct vm *vm)
{
	set_pausing(vm, false);
}

void vcpus_kick(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->nr_vcpus; i++) {
		if (vm->vcpus[i].has_thread)
			vcpu_kick(&vm->vcpus[i]);
	}
}

int vcpus_wait(struct vm *vm)
{
	struct timespec until;
	unsigned int i;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += JOIN_PATIENCE_S;
	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < vm->nr_vcpus; i++) {
		while (vm->vcpus[i].has_thread && !vm->vcpus[i].ended && !err)
			err = pthread_cond_clockwait(&vm->stopped_cond, &vm->lock,
						     CLOCK_MONOTONIC, &until);
		if (err)
			break;
	}
	pthread_mutex_unlock(&vm->lock);
	return err ? kuf_error(-err, "vCPU %u waits for a page that nobody brings", i) : 0;
}

void vcpus_join(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->nr_vcpus; i++) {
		if (vm->vcpus[i].has_thread)
			pthread_join(vm->vcpus[i].thread, NULL);
		vm->vcpus[i].has_thread = false;
	}
}

void vcpus_destroy(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->nr_vcpus; i++) {
		if (vm->vcpus[i].run)
			munmap(vm->vcpus[i].run, vm->vcpu_mmap_size);
		if (vm->vcpus[i].fd >= 0)
			close(vm->vcpus[i].fd);
		free(vm->vcpus[i].cpuid);
	}
	free(vm->vcpus);
	vm->vcpus = NULL;
	vm->nr_vcpus = 0;
}
