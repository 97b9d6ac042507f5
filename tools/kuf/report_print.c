// SPDX-License-Identifier: GPL-2.0
/*
 * How guest memory came to be there: in words, and in numbers for programs.
 */
#include <time.h>

#include "report_print.h"

u64 report_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void report_bound(unsigned int n, char *text, size_t size)
{
	static const char * const units[] = { "us", "ms", "s" };
	unsigned int unit = n / 10;

	snprintf(text, size, "%llu %s", 1ull << n % 10, units[unit]);
}

u64 report_percentile_us(const struct kuf_report *r, unsigned int percent)
{
	u64 seen = 0;
	unsigned int n;

	for (n = 0; n < KUF_LATENCY_BUCKETS; n++) {
		seen += r->latency[n];
		if (seen && seen * 100 >= r->latency_count * percent)
			return 2ull << n;
	}
	return 0;
}

/* Milliseconds from @begin; -1: that did not happen. */
static double since(u64 begin, u64 end)
{
	return end && begin && end >= begin ? (end - begin) / 1e6 : -1;
}

static void print_time(FILE *to, const char *what, u64 begin, u64 end)
{
	double ms = since(begin, end);

	if (ms < 0)
		fprintf(to, "kuf: %-18s not reached\n", what);
	else
		fprintf(to, "kuf: %-18s %10.1f ms\n", what, ms);
}

static void print_latencies(const struct kuf_report *r, FILE *to)
{
	unsigned int n, first = KUF_LATENCY_BUCKETS, last = 0;
	char low[16], high[16];

	for (n = 0; n < KUF_LATENCY_BUCKETS; n++) {
		if (!r->latency[n])
			continue;
		first = n < first ? n : first;
		last = n;
	}
	if (first == KUF_LATENCY_BUCKETS)
		return;
	fprintf(to, "kuf: %llu waits, %.1f us on average, half below %llu us, 99%% below %llu us\n",
		(unsigned long long)r->latency_count,
		r->latency_count ? r->latency_sum_ns / 1e3 / r->latency_count : 0,
		(unsigned long long)report_percentile_us(r, 50),
		(unsigned long long)report_percentile_us(r, 99));
	for (n = first; n <= last; n++) {
		report_bound(n, low, sizeof(low));
		report_bound(n + 1, high, sizeof(high));
		fprintf(to, "kuf:   [ %6s - %6s ]: %llu\n", low, high,
			(unsigned long long)r->latency[n]);
	}
}

void report_print(const struct kuf_report *r, const struct report_about *about, FILE *to)
{
	fprintf(to, "kuf: memory by %s, %s: %llu of %llu pages\n", about->engine, about->policy,
		(unsigned long long)r->present, (unsigned long long)r->pages);
	print_time(to, "guest resumed", r->armed_ns, r->resumed_ns);
	print_time(to, "working set ready", r->armed_ns, r->working_set_ns);
	print_time(to, "fully populated", r->armed_ns, r->populated_ns);
	fprintf(to,
		"kuf: %llu pages on demand, %llu in the background, %llu of them zero, %llu failed, %llu wrong\n",
		(unsigned long long)r->demand, (unsigned long long)r->background,
		(unsigned long long)r->zero, (unsigned long long)r->failed,
		(unsigned long long)r->wrong);
	print_latencies(r, to);
}

/* NULL for what did not happen. */
static json_t *json_ms(u64 begin, u64 end)
{
	double ms = since(begin, end);

	return ms < 0 ? json_null() : json_real(ms);
}

static json_t *latency_json(const struct kuf_report *r)
{
	json_t *list = json_array();
	unsigned int n;

	for (n = 0; list && n < KUF_LATENCY_BUCKETS; n++)
		json_array_append_new(list, json_integer(r->latency[n]));
	return list;
}

static json_t *ram_json(const struct kuf_report *r, u64 end_ns)
{
	u64 filled = r->demand + r->background;
	u64 content = filled > r->zero ? filled - r->zero : 0;
	double seconds = since(r->armed_ns, end_ns) / 1e3;
	/* What is poisoned does not come. */
	u64 settled = r->present + r->poisoned;
	u64 remaining = r->pages > settled ? r->pages - settled : 0;

	return json_pack("{sIsIsIsIsIsIsIsf}",
			 "transferred", (json_int_t)(content * PAGE_SIZE),
			 "remaining", (json_int_t)(remaining * PAGE_SIZE),
			 "total", (json_int_t)(r->pages * PAGE_SIZE),
			 "normal", (json_int_t)content,
			 "duplicate", (json_int_t)r->zero,
			 "page-size", (json_int_t)PAGE_SIZE,
			 "postcopy-requests", (json_int_t)r->demand,
			 "pages-per-second", seconds > 0 ? filled / seconds : 0.0);
}

json_t *report_json(const struct kuf_report *r, const struct report_about *about)
{
	u64 end_ns = r->populated_ns ?: about->now_ns;

	return json_pack("{sssssssososososososIsIsIsIsIso}",
			 "status", about->status,
			 "engine", about->engine,
			 "policy", about->policy,
			 "ram", ram_json(r, end_ns),
			 "total-time", json_ms(r->armed_ns, end_ns),
			 "downtime", json_ms(about->paused_ns, r->resumed_ns),
			 "resumed", json_ms(r->armed_ns, r->resumed_ns),
			 "working-set-ready", json_ms(r->armed_ns, r->working_set_ns),
			 "fully-populated", json_ms(r->armed_ns, r->populated_ns),
			 "demand-pages", (json_int_t)r->demand,
			 "background-pages", (json_int_t)r->background,
			 "failed-pages", (json_int_t)r->failed,
			 "wrong-pages", (json_int_t)r->wrong,
			 "postcopy-latency",
			 (json_int_t)(r->latency_count ? r->latency_sum_ns / r->latency_count : 0),
			 "postcopy-latency-dist", latency_json(r));
}
