// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Contexts begin and end; what is there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

unsigned int kuf_version(void)
{
	return KUF_VERSION;
}

const char *kuf_state_name(unsigned int state)
{
	static const char * const names[KUF_NR_STATES] = {
		[KUF_ABSENT] = "absent",
		[KUF_REQUESTED] = "requested",
		[KUF_FILLING] = "filling",
		[KUF_PRESENT] = "present",
		[KUF_TAKING] = "taking",
		[KUF_DISCARDED] = "discarded",
		[KUF_POISONED] = "poisoned",
	};

	return state < KUF_NR_STATES ? names[state] : "?";
}

/* What is missing, and what to do about it, as far as it fits. */
static void say(struct kuf_probe *p, const char *what, const char *fix)
{
	const char * const parts[] = { what, "; fix: ", fix };
	size_t used = 0, n;
	unsigned int i;

	if (!p->message || !p->message_size)
		return;
	for (i = 0; i < 3; i++) {
		n = strlen(parts[i]);
		if (n > p->message_size - 1 - used)
			n = p->message_size - 1 - used;
		memcpy(p->message + used, parts[i], n);
		used += n;
	}
	p->message[used] = 0;
}

static const char * const feature_names[] = {
	"KVM_USERFAULT_FEATURE_EXIT", "KVM_USERFAULT_FEATURE_ACCESS",
	"KVM_USERFAULT_FEATURE_RESCAN", "KVM_USERFAULT_FEATURE_WP",
	"KVM_USERFAULT_FEATURE_FD", "KVM_USERFAULT_FEATURE_OWN",
	"KVM_USERFAULT_FEATURE_POISON", "KVM_USERFAULT_FEATURE_POISON_INJECT",
	"KVM_USERFAULT_FEATURE_ASYNC",
};

static void say_feature(struct kuf_probe *p, uint64_t missing)
{
	unsigned int n = __builtin_ctzll(missing);

	say(p, n < sizeof(feature_names) / sizeof(feature_names[0]) ? feature_names[n] :
	    "a feature that this library does not know",
	    "use a newer kernel with the KVM userfault extension, or do without it");
}

static int probe(struct kuf_probe *p)
{
	int ret;

	if (fcntl(p->vm_fd, F_GETFD) < 0) {
		say(p, "vm_fd is no open file descriptor", "give the one of KVM_CREATE_VM");
		return -EBADF;
	}
	/* /dev/kvm would answer as well, for VMs of the default type. */
	if (kufi_ioctl(p->vm_fd, KVM_GET_API_VERSION, NULL) >= 0) {
		say(p, "vm_fd is /dev/kvm", "give the one of KVM_CREATE_VM");
		return -ENOTTY;
	}
	ret = kufi_ioctl(p->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_USERFAULT);
	if (ret < 0) {
		say(p, "vm_fd is not a VM's", "give the one of KVM_CREATE_VM");
		return -ENOTTY;
	}
	if (!ret) {
		say(p, "KVM_CAP_USERFAULT: KVM has no userfault for this VM",
		    "boot a kernel with CONFIG_KVM_USERFAULT=y, on x86-64");
		return -EOPNOTSUPP;
	}
	ret = kufi_ioctl(p->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_USERFAULT_FEATURES);
	if (ret > 0)
		p->have = ret;
	if (p->need & ~p->have) {
		say_feature(p, p->need & ~p->have);
		return -EOPNOTSUPP;
	}
	return 0;
}

int kuf_probe(struct kuf_probe *user)
{
	struct kuf_probe p;
	int ret;

	ret = kufi_copy_in(&p, sizeof(p), user);
	if (ret)
		return ret;
	p.have = 0;
	if (p.message && p.message_size)
		p.message[0] = 0;
	ret = probe(&p);
	kufi_copy_out(user, &p);
	return ret;
}

int kufi_alloc(struct kuf **out)
{
	struct kuf *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->vm_fd = -1;
	k->uffd = -1;
	k->bell = -1;
	k->page_size = sysconf(_SC_PAGESIZE);
	k->page_shift = __builtin_ctzll(k->page_size);
	k->claim_timeout_ns = 1000000000;
	k->ahead.policy.depth = 32;
	atomic_flag_clear(&k->serving);
	*out = k;
	return 0;
}

static int enable(struct kuf *k, uint64_t features)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_USERFAULT_FEATURES,
		.args[0] = features,
	};
	int have, ret;

	if (!features)
		return 0;
	if (k->vm_fd < 0)
		return -EOPNOTSUPP;
	have = kufi_ioctl(k->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_USERFAULT_FEATURES);
	if (have < 0)
		return have;
	if (features & ~(uint64_t)have)
		return -EOPNOTSUPP;
	ret = kufi_ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap);
	if (!ret)
		k->features = features;
	return ret;
}

int kuf_create(const struct kuf_params *user, struct kuf **out)
{
	struct kuf_params params;
	struct kuf *k;
	int ret;

	ret = kufi_copy_in(&params, sizeof(params), user);
	if (ret)
		return ret;
	if (!out || params.flags || params.vm_fd < -1 || params.claim_timeout_ns < 0)
		return -EINVAL;
	ret = kufi_alloc(&k);
	if (ret)
		return ret;
	k->vm_fd = params.vm_fd;
	if (params.claim_timeout_ns)
		k->claim_timeout_ns = params.claim_timeout_ns;
	k->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = k->bell < 0 ? -errno : enable(k, params.features);
	if (ret) {
		kuf_destroy(k);
		return ret;
	}
	*out = k;
	return 0;
}

void kuf_destroy(struct kuf *k)
{
	unsigned int i;

	if (!k)
		return;
	for (i = 0; i < KUF_MAX_REGIONS; i++)
		kufi_region_unmap(&k->regions[i]);
	if (k->bell >= 0)
		close(k->bell);
	free(k);
}

int kuf_fd_create(struct kuf *k, uint32_t flags, int *fd)
{
	struct kvm_userfault_fd args = {
		.flags = flags,
		.event_size = sizeof(struct kvm_userfault_event),
	};
	int ret;

	if (!fd)
		return -EINVAL;
	if (k->vm_fd < 0)
		return -EOPNOTSUPP;
	ret = kufi_ioctl(k->vm_fd, KVM_USERFAULT_CREATE_FD, &args);
	if (ret < 0)
		return ret;
	*fd = ret;
	return 0;
}
