// SPDX-License-Identifier: GPL-2.0
/*
 * The serial port.  All that the guest has sent is with the host already.
 */
#include "state.h"

struct saved {
	u8 ier, fcr, lcr, mcr, scr, dll, dlm;
	u8 thr_pending;
	u8 irq_level;
	u8 reserved[7];
};

static int save(struct machine *m, u32 instance, void *data)
{
	struct uart *uart = &m->uart;
	struct saved *s = data;

	pthread_mutex_lock(&uart->lock);
	*s = (struct saved){
		.ier = uart->ier, .fcr = uart->fcr, .lcr = uart->lcr, .mcr = uart->mcr,
		.scr = uart->scr, .dll = uart->dll, .dlm = uart->dlm,
		.thr_pending = uart->thr_pending, .irq_level = uart->irq_level,
	};
	pthread_mutex_unlock(&uart->lock);
	return sizeof(*s);
}

/* The line's level is in the interrupt controllers, too. */
static int load(struct machine *m, u32 instance, const void *data, u32 length)
{
	const struct saved *s = data;
	struct uart *uart = &m->uart;

	if (s->thr_pending > 1 || s->irq_level > 1)
		return kuf_error(0, "the serial port does not make sense");
	pthread_mutex_lock(&uart->lock);
	uart->ier = s->ier;
	uart->fcr = s->fcr;
	uart->lcr = s->lcr;
	uart->mcr = s->mcr;
	uart->scr = s->scr;
	uart->dll = s->dll;
	uart->dlm = s->dlm;
	uart->thr_pending = s->thr_pending;
	uart->irq_level = s->irq_level;
	pthread_mutex_unlock(&uart->lock);
	return 0;
}

const struct state_group state_uart = {
	.type = STATE_UART, .version = 1, .name = "serial port",
	.min = sizeof(struct saved), .max = sizeof(struct saved), .save = save, .load = load,
};
