/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_UART_H
#define KUF_UART_H

#include <pthread.h>

#include "kuf.h"

#define UART_PORT	0x3f8
#define UART_PORTS	8
#define UART_IRQ	4

struct vm;

/* A 16550A that only ever sends. */
struct uart {
	struct vm *vm;
	int fd;			/* where to */
	pthread_mutex_t lock;
	u8 ier, fcr, lcr, mcr, scr, dll, dlm;
	bool thr_pending;	/* the transmitter is empty, and that was not told */
	bool irq_level;
};

void uart_init(struct uart *uart, struct vm *vm, int fd);
/* For struct bus_range. */
void uart_access(void *dev, u64 offset, void *data, u32 len, bool write);

#endif /* KUF_UART_H */
