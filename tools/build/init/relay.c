// SPDX-License-Identifier: GPL-2.0
/*
 * A test's output, as KTAP diagnostics ("# " before each line), bounded: the
 * first part is passed on at once, of the rest only the end is kept and shown
 * after the test. Lines that begin with "DATA " are measurements: they are
 * always passed on, at once and whole.
 */
#include <stdio.h>
#include <string.h>

#include "init.h"

#define HEAD_BYTES	(48 * 1024)
#define TAIL_BYTES	(16 * 1024)

static char line[1000];
static size_t line_len;
static bool in_line;		/* part of the current line was passed on already */
static bool in_data;

static size_t head_len;
static char tail[TAIL_BYTES];
static size_t tail_total;	/* bytes ever put there; the last TAIL_BYTES remain */

void relay_start(void)
{
	line_len = 0;
	in_line = false;
	in_data = false;
	head_len = 0;
	tail_total = 0;
}

static void keep(const char *buf, size_t len)
{
	size_t i;

	if (head_len + len <= HEAD_BYTES && !tail_total) {
		port_write(buf, len);
		head_len += len;
		return;
	}
	for (i = 0; i < len; i++)
		tail[tail_total++ % TAIL_BYTES] = buf[i];
}

static void put_diagnostic(void)
{
	char text[sizeof(line) + 3];
	size_t len = 0, i;

	text[len++] = '#';
	text[len++] = ' ';
	for (i = 0; i < line_len; i++) {
		char c = line[i];

		if (c == '\r')
			continue;
		text[len++] = c == '\t' || (c >= ' ' && c <= '~') ? c : '?';
	}
	text[len++] = '\n';
	keep(text, len);
}

/* The line buffer is full or, with @end, the line is complete. */
static void put_line(bool end)
{
	if (!in_line)
		in_data = line_len >= 5 && !memcmp(line, "DATA ", 5);

	if (in_data) {
		if (!in_line)
			port_write("# ", 2);
		port_write(line, line_len);
		if (end)
			port_write("\n", 1);
	} else if (line_len || !in_line) {
		put_diagnostic();
	}
	line_len = 0;
	in_line = !end;
}

void relay_feed(const char *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (buf[i] == '\n') {
			put_line(true);
			continue;
		}
		line[line_len++] = buf[i];
		if (line_len == sizeof(line))
			put_line(false);
	}
	port_flush();
}

void relay_finish(void)
{
	size_t pos = 0;

	if (line_len || in_line)
		put_line(true);

	if (tail_total > TAIL_BYTES) {
		/* The oldest line that is left is cut: start at the next one. */
		pos = tail_total - TAIL_BYTES;
		while (pos < tail_total && tail[pos++ % TAIL_BYTES] != '\n')
			;
		port_printf("# ... %zu bytes left out ...\n", pos);
	}
	for (; pos < tail_total; pos++)
		port_write(&tail[pos % TAIL_BYTES], 1);
	port_flush();
}
