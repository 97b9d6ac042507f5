// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Structures of other versions, time, and the one way to KVM.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "internal.h"

int kufi_copy_in(void *to, size_t size, const void *from)
{
	const unsigned char *bytes = from;
	size_t theirs, i;

	if (!from)
		return -EINVAL;
	memcpy(&theirs, from, sizeof(theirs));
	if (theirs < sizeof(theirs))
		return -EINVAL;
	for (i = size; i < theirs; i++)
		if (bytes[i])
			return -E2BIG;
	memset(to, 0, size);
	memcpy(to, from, theirs < size ? theirs : size);
	memcpy(to, &size, sizeof(size));
	return 0;
}

void kufi_copy_out(void *to, const void *from)
{
	size_t ours, theirs;

	memcpy(&ours, from, sizeof(ours));
	memcpy(&theirs, to, sizeof(theirs));
	if (theirs > ours)
		theirs = ours;
	memcpy((char *)to + sizeof(size_t), (const char *)from + sizeof(size_t),
	       theirs - sizeof(size_t));
}

uint64_t kufi_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

uint64_t kufi_deadline(int64_t timeout_ns)
{
	return timeout_ns < 0 ? ~0ull : kufi_now() + timeout_ns;
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

int (*kufi_ioctl)(int fd, unsigned long request, void *arg) = real_ioctl;
