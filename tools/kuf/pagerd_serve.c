// SPDX-License-Identifier: GPL-2.0
/*
 * One VM's turn: libkuf serves it from its image, which passes on as much as it may.
 */
#include <errno.h>
#include <string.h>

#include "guard.h"
#include "pagerd.h"

struct guarded {
	int (*f)(struct pagerd_vm *vm, void *arg);
	struct pagerd_vm *vm;
	void *arg;
};

static int call(void *arg)
{
	struct guarded *g = arg;

	return g->f(g->vm, g->arg);
}

/*
 * Memory of a VM that can be cut off under us is not worth the other VMs' pager.  There
 * is one thread, and nothing in libkuf or the image is held by it that others need.
 */
int pagerd_guard(int (*f)(struct pagerd_vm *vm, void *arg), struct pagerd_vm *vm, void *arg)
{
	struct guarded g = { f, vm, arg };
	int err = guard_call(call, &g, NULL);

	return err == -EHWPOISON ? -EFAULT : err;
}

static int request(void *source, const struct kuf_request *r)
{
	struct pagerd_vm *vm = source;

	return image_ops(&vm->image)->request(&vm->image, r);
}

/* What nobody waits for has to have its turn. */
static int receive(void *source, struct kuf_reply *reply)
{
	struct pagerd_vm *vm = source;
	bool background = !vm->image.urgent.nr;
	int err;

	if (background && (!vm->turn || vm->turn_bytes >= PAGERD_TURN * PAGE_SIZE))
		return -EAGAIN;
	err = image_ops(&vm->image)->receive(&vm->image, reply);
	if (!err && background)
		vm->turn_bytes += reply->len;
	return err;
}

static int pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
		   int *timeout_ms)
{
	struct pagerd_vm *vm = source;

	if (vm->image.urgent.nr)
		*timeout_ms = 0;
	return 0;
}

static int verify(void *source, const struct kuf_request *page, const void *content)
{
	struct pagerd_vm *vm = source;

	return image_ops(&vm->image)->verify(&vm->image, page, content);
}

const struct kuf_source_ops pagerd_ops = {
	.size = sizeof(pagerd_ops),
	.request = request,
	.receive = receive,
	.pollfds = pollfds,
	.verify = verify,
};

static int service(struct pagerd_vm *vm, void *arg)
{
	struct kuf_service *s = arg;
	int err;

	err = kuf_service(vm->k, s);
	pager_note_progress(&vm->pager, vm->k);
	return err;
}

int pagerd_serve(struct pagerd_vm *vm, bool background)
{
	/* With a turn nothing but that: others wait meanwhile. */
	struct kuf_service s = { .size = sizeof(s), .budget = background ? PAGERD_TURN :
				  PAGERD_URGENT };
	int err;

	vm->turn = background;
	vm->turn_bytes = 0;
	err = pagerd_guard(service, vm, &s);
	vm->turn = false;
	vm->work = s.more && !background;
	if (err == -EFAULT)
		return kuf_error(err, "the VM of process %d has taken its memory away", vm->pid);
	if (err)
		return kuf_error(err, "pages of the VM of process %d cannot be filled any more",
				 vm->pid);
	if (s.poison_hit)
		return kuf_error(-EHWPOISON, "the VM of process %d needs the page at 0x%llx",
				 vm->pid, (unsigned long long)s.poison_gpa);
	/* The VM is gone, or has another pager. */
	vm->ended = s.end;
	return 0;
}
