// SPDX-License-Identifier: GPL-2.0
/*
 * The serial console: a 16550A with a transmitter that is always ready, and
 * nobody at the other end who types.
 */
#include <errno.h>
#include <linux/serial_reg.h>
#include <unistd.h>

#include "uart.h"
#include "vm.h"

void uart_init(struct uart *uart, struct vm *vm, int fd)
{
	*uart = (struct uart){ .vm = vm, .fd = fd };
	pthread_mutex_init(&uart->lock, NULL);
}

static void send(struct uart *uart, u8 byte)
{
	while (write(uart->fd, &byte, 1) < 0) {
		if (errno == EINTR)
			continue;
		/* The guest's output has nowhere to go: that is no error of the guest's. */
		return;
	}
}

/* The line only goes up while the driver asks for it. */
static void update_irq(struct uart *uart)
{
	bool level = uart->thr_pending && uart->ier & UART_IER_THRI;

	if (level == uart->irq_level)
		return;
	uart->irq_level = level;
	vm_irq(uart->vm, UART_IRQ, level);
}

static void write_reg(struct uart *uart, u64 reg, u8 value)
{
	bool dlab = uart->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab) {
			uart->dll = value;
			return;
		}
		if (!(uart->mcr & UART_MCR_LOOP))
			send(uart, value);
		/* Sent: the interrupt goes, and comes again at once. */
		uart->thr_pending = false;
		update_irq(uart);
		uart->thr_pending = true;
		break;
	case UART_IER:
		if (dlab) {
			uart->dlm = value;
			return;
		}
		/* To switch it on is answered by an interrupt, as nothing is being sent. */
		if (value & ~uart->ier & UART_IER_THRI)
			uart->thr_pending = true;
		uart->ier = value & 0xf;
		break;
	case UART_FCR:
		uart->fcr = value;
		break;
	case UART_LCR:
		uart->lcr = value;
		break;
	case UART_MCR:
		uart->mcr = value;
		break;
	case UART_SCR:
		uart->scr = value;
		break;
	}
	update_irq(uart);
}

static u8 modem_status(struct uart *uart)
{
	u8 mcr = uart->mcr;

	if (!(mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	return (mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) | (mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) | (mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

static u8 identify_irq(struct uart *uart)
{
	u8 iir = uart->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0;

	if (!uart->irq_level)
		return iir | UART_IIR_NO_INT;
	/* To have read it is to know it. */
	uart->thr_pending = false;
	update_irq(uart);
	return iir | UART_IIR_THRI;
}

static u8 read_reg(struct uart *uart, u64 reg)
{
	bool dlab = uart->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return dlab ? uart->dll : 0;
	case UART_IER:
		return dlab ? uart->dlm : uart->ier;
	case UART_IIR:
		return identify_irq(uart);
	case UART_LCR:
		return uart->lcr;
	case UART_MCR:
		return uart->mcr;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE;
	case UART_MSR:
		return modem_status(uart);
	case UART_SCR:
		return uart->scr;
	}
	return 0xff;
}

void uart_access(void *dev, u64 offset, void *data, u32 len, bool write)
{
	struct uart *uart = dev;
	u8 *byte = data;
	u32 i;

	pthread_mutex_lock(&uart->lock);
	for (i = 0; i < len; i++) {
		if (write)
			write_reg(uart, offset + i, byte[i]);
		else
			byte[i] = read_reg(uart, offset + i);
	}
	pthread_mutex_unlock(&uart->lock);
}
