// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is missing is named, and so is what to do.
 */
#include "test.h"

static char message[256];

static int api_version;

static int probe_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_GET_API_VERSION && api_version)
		return api_version;
	return mock_ioctl(fd, request, arg);
}

static int ask(int fd, uint64_t need, uint64_t *have)
{
	struct kuf_probe p = {
		.size = sizeof(p), .vm_fd = fd, .need = need, .message = message,
		.message_size = sizeof(message), .have = 99,
	};
	int ret;

	kufi_ioctl = probe_ioctl;
	ret = kuf_probe(&p);
	*have = p.have;
	return ret;
}

static bool said(const char *what)
{
	return strstr(message, what) && strstr(message, "; fix: ");
}

static void all_there(void)
{
	uint64_t have;

	mock.features = ALL_FEATURES;
	EQUAL(ask(0, ALL_FEATURES, &have), 0);
	EQUAL(have, ALL_FEATURES);
	EQUAL(message[0], 0);
	EQUAL(ask(0, 0, &have), 0);
	/* It changes nothing. */
	EQUAL(mock_count(KVM_ENABLE_CAP, NULL), 0);
}

static void missing(void)
{
	uint64_t have;

	mock.features = ALL_FEATURES;
	EQUAL(ask(0, ALL_FEATURES | KVM_USERFAULT_FEATURE_OWN, &have), -EOPNOTSUPP);
	CHECK(said("KVM_USERFAULT_FEATURE_OWN"));
	EQUAL(have, ALL_FEATURES);
	EQUAL(ask(0, KVM_USERFAULT_FEATURE_POISON | 1ull << 60, &have), -EOPNOTSUPP);
	CHECK(said("KVM_USERFAULT_FEATURE_POISON"));
	EQUAL(ask(0, 1ull << 60, &have), -EOPNOTSUPP);
	CHECK(said("does not know"));
	mock.features = 0;
	EQUAL(ask(0, 0, &have), -EOPNOTSUPP);
	CHECK(said("CONFIG_KVM_USERFAULT"));
	EQUAL(have, 0);
}

static void no_vm(void)
{
	uint64_t have;

	EQUAL(ask(MOCK_VM, 0, &have), -EBADF);
	CHECK(said("no open file descriptor"));
	EQUAL(ask(-1, 0, &have), -EBADF);
	api_version = 12;
	EQUAL(ask(0, 0, &have), -ENOTTY);
	CHECK(said("/dev/kvm"));
	api_version = 0;
	mock_fail(KVM_CHECK_EXTENSION, ENOTTY, 1);
	EQUAL(ask(0, 0, &have), -ENOTTY);
	CHECK(said("not a VM's"));
}

static void short_messages(void)
{
	struct kuf_probe p = { .size = sizeof(p), .message = message, .message_size = 10 };

	mock.features = 0;
	memset(message, 'x', sizeof(message));
	EQUAL(kuf_probe(&p), -EOPNOTSUPP);
	EQUAL(strlen(message), 9);
	EQUAL(message[10], 'x');
	p.message_size = 1;
	EQUAL(kuf_probe(&p), -EOPNOTSUPP);
	EQUAL(message[0], 0);
	p.message_size = 0;
	EQUAL(kuf_probe(&p), -EOPNOTSUPP);
	p.message = NULL;
	p.message_size = 100;
	EQUAL(kuf_probe(&p), -EOPNOTSUPP);
	EQUAL(kuf_probe(NULL), -EINVAL);
}

static const struct test tests[] = {
	TEST(all_there), TEST(missing), TEST(no_vm), TEST(short_messages),
};

MAIN(tests)
