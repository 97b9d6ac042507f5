// SPDX-License-Identifier: GPL-2.0
/*
 * How far memory is there, while it comes.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "report_print.h"

#define STEP_MS		200
#define BAR_MAX		40

void progress_line(char *text, size_t size, unsigned int columns,
		   const struct progress_counts *c, double seconds)
{
	u64 present = c->present < c->total ? c->present : c->total;
	unsigned int percent = c->total ? present * 100 / c->total : 100;
	char numbers[160], bar[BAR_MAX + 1];
	unsigned int room, full;
	int n;

	n = snprintf(numbers, sizeof(numbers), "%3u %%  %llu of %llu pages, %llu on demand, %.1f s",
		     percent, (unsigned long long)present, (unsigned long long)c->total,
		     (unsigned long long)c->demand, seconds);
	/* A line that the terminal breaks could not be drawn anew. */
	if (columns < n + 10u) {
		snprintf(text, size, "%.*s", (int)columns, numbers);
		return;
	}
	room = columns - n - 3;
	room = room < BAR_MAX ? room : BAR_MAX;
	full = room * percent / 100;
	memset(bar, ' ', room);
	memset(bar, '=', full);
	if (full && full < room)
		bar[full - 1] = '>';
	snprintf(text, size, "[%.*s] %s", (int)room, bar, numbers);
}

static unsigned int columns_of(FILE *to)
{
	struct winsize size;

	if (ioctl(fileno(to), TIOCGWINSZ, &size) || size.ws_col < 20)
		return 79;
	return size.ws_col - 1;
}

static void tell(struct progress *p, bool last)
{
	double seconds = (report_now_ns() - p->started_ns) / 1e9;
	struct progress_counts c = {};
	char line[256];
	unsigned int tenths;

	p->get(p->opaque, &c);
	p->stop |= c.end;
	if (p->tty) {
		progress_line(line, sizeof(line), columns_of(p->to), &c, seconds);
		fprintf(p->to, "\r%s\033[K%s", line, last || c.end ? "\n" : "");
		fflush(p->to);
		return;
	}
	tenths = c.total ? c.present * 10 / c.total : 10;
	if (tenths == p->told && !last && !c.end)
		return;
	p->told = tenths;
	progress_line(line, sizeof(line), 79, &c, seconds);
	fprintf(p->to, "kuf: %s\n", line);
}

static void *watch(void *arg)
{
	struct progress *p = arg;
	struct timespec until;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += STEP_MS * 1000000l;
		until.tv_sec += until.tv_nsec / 1000000000l;
		until.tv_nsec %= 1000000000l;
		pthread_cond_timedwait(&p->cond, &p->lock, &until);
		if (!p->stop)
			tell(p, false);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int progress_start(struct progress *p, FILE *to,
		   void (*get)(void *opaque, struct progress_counts *counts), void *opaque)
{
	int err;

	*p = (struct progress){
		.get = get,
		.opaque = opaque,
		.to = to,
		.tty = isatty(fileno(to)),
		.started_ns = report_now_ns(),
	};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	err = -pthread_create(&p->thread, NULL, watch, p);
	if (err)
		return kuf_error(err, "a thread for the progress");
	p->has_thread = true;
	return 0;
}

void progress_stop(struct progress *p)
{
	bool ended;

	if (!p->has_thread)
		return;
	pthread_mutex_lock(&p->lock);
	ended = p->stop;
	p->stop = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	p->has_thread = false;
	if (!ended)
		tell(p, true);
}
