/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_BELL_H
#define KUF_BELL_H

#include <errno.h>
#include <unistd.h>

#include "kuf.h"

/* Has whoever polls an eventfd look at it. */
static inline void bell_ring(int fd)
{
	u64 one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		kuf_error(-errno, "eventfd");
}

#endif /* KUF_BELL_H */
