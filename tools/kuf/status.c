// SPDX-License-Identifier: GPL-2.0
/*
 * kuf status: what a VM does, asked through its control socket.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "status.h"

#define TEXT_MAX	8192

static const char help[] =
"usage: kuf status SOCKET [--json]\n"
"\n"
"Says what the VM that has --control=SOCKET does, and how much of its memory is there.\n"
"With --json for programs: names and units are those of QEMU's query-migrate where it\n"
"has one (times in milliseconds, postcopy-latency in nanoseconds,\n"
"postcopy-latency-dist[N]: how many waits took 2^N to 2^(N+1) microseconds).\n"
"\n"
"Exit status: 0 it answered; 1 it did not; 2 wrong usage.\n";

static json_t *session_json(const u8 *session)
{
	char text[33];
	int i;

	for (i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", session[i]);
	return json_string(text);
}

static const char *state_name(const struct control_status *s)
{
	switch (s->state) {
	case CONTROL_RUNNING:
		return "running";
	case CONTROL_POSTCOPY:
		return "postcopy-active";
	case CONTROL_SAVING:
		return "saving";
	case CONTROL_SENDING:
		return "sending";
	case CONTROL_PAUSED:
		return s->outgoing_phase == OUTGOING_READY ? "offering" : "paused";
	case CONTROL_LISTENING:
		return "listening";
	case CONTROL_RECEIVING:
		return "receiving";
	case CONTROL_WAITS_FOR_GO:
		return "waiting-for-go";
	case CONTROL_RECOVERABLE:
		return "recoverable";
	case CONTROL_VACANT:
		return "vacant";
	case CONTROL_GIVEN_UP:
		return s->outgoing_phase == OUTGOING_DONE ? "completed" : "given-up";
	default:
		return "ended";
	}
}

/* Of the memory that goes to another host. */
static json_t *sent_json(const struct control_status *s)
{
	return json_pack("{sIsIsIsIsIsIsI}",
			 "demand-pages", (json_int_t)s->sent.pages[1],
			 "background-pages", (json_int_t)s->sent.pages[0],
			 "duplicate", (json_int_t)(s->sent.zero_pages[0] + s->sent.zero_pages[1]),
			 "requests", (json_int_t)(s->sent.requests[0] + s->sent.requests[1]),
			 "failed", (json_int_t)s->sent.failed,
			 "remaining-pages", (json_int_t)s->left_pages,
			 "poisoned-pages", (json_int_t)s->lost_pages);
}

static const char *remote_state_name(u32 state)
{
	switch (state) {
	case REMOTE_SERVES:
		return "serving";
	case REMOTE_SILENT:
		return "silent";
	default:
		return "gone";
	}
}

/* The pager that is a process of its own. */
static json_t *remote_json(const struct remote_status *r, u64 now_ns)
{
	json_t *path = json_stringn(r->path, strnlen(r->path, sizeof(r->path)));

	return json_pack("{sssosisIsI}",
			 "state", remote_state_name(r->state),
			 "path", path ?: json_null(),
			 "pid", (int)r->pid,
			 "pagers", (json_int_t)r->pagers,
			 "since", (json_int_t)(now_ns > r->since_ns ?
					       (now_ns - r->since_ns) / 1000000 : 0));
}

int status_text(const struct control_status *s, char *text, size_t size)
{
	const struct report_about about = {
		.status = state_name(s),
		.engine = s->engine == PAGER_UFFD ? "uffd" : "kuf",
		.policy = machine_policy_name(s->policy),
		.now_ns = s->now_ns,
	};
	json_t *json = s->report.armed_ns ? report_json(&s->report, &about) :
		       json_pack("{ss}", "status", about.status);
	size_t n;

	if (!json)
		return -ENOMEM;
	json_object_set_new(json, "session", session_json(s->session));
	json_object_set_new(json, "epoch", json_integer(s->epoch));
	json_object_set_new(json, "vcpus", json_integer(s->nr_cpus));
	json_object_set_new(json, "disk-requests", json_integer(s->disk_requests));
	json_object_set_new(json, "poisoned", json_integer(s->report.poisoned));
	if (s->paused_ns)
		json_object_set_new(json, "sent", sent_json(s));
	json_object_set_new(json, "pages", json_integer(s->mem_size / PAGE_SIZE));
	if (s->remote.state)
		json_object_set_new(json, "pager", remote_json(&s->remote, s->now_ns));
	n = json_dumpb(json, text, size, JSON_INDENT(2));
	json_decref(json);
	/* It says how much it would be, and writes no 0. */
	if (!n || n >= size)
		return n ? -E2BIG : -ENOMEM;
	text[n] = 0;
	return 0;
}

static double number(json_t *json, const char *name)
{
	return json_number_value(json_object_get(json, name));
}

static void print_time(json_t *json, const char *name, const char *what, FILE *to)
{
	json_t *value = json_object_get(json, name);

	if (json_is_number(value))
		fprintf(to, "%-18s %10.1f ms\n", what, json_number_value(value));
}

static void print_memory(json_t *json, json_t *ram, FILE *to)
{
	double total = number(ram, "total"), remaining = number(ram, "remaining");
	double page = number(ram, "page-size");

	if (!(page > 0) || !(total > 0))
		return;
	fprintf(to, "memory             %.0f of %.0f pages (%.0f %%), by %s, %s\n",
		(total - remaining) / page, total / page, (total - remaining) * 100 / total,
		json_string_value(json_object_get(json, "engine")) ?: "?",
		json_string_value(json_object_get(json, "policy")) ?: "?");
	fprintf(to, "on demand          %.0f pages, %.1f us on average\n",
		number(json, "demand-pages"), number(json, "postcopy-latency") / 1e3);
	fprintf(to, "in the background  %.0f pages\n", number(json, "background-pages"));
	print_time(json, "resumed", "guest resumed", to);
	print_time(json, "working-set-ready", "working set ready", to);
	print_time(json, "fully-populated", "fully populated", to);
}

static void print_sent(json_t *json, json_t *sent, FILE *to)
{
	if (json_is_object(sent))
		fprintf(to, "sent               %.0f of %.0f pages absent there, %.0f poisoned\n",
			number(sent, "remaining-pages"), number(json, "pages"),
			number(sent, "poisoned-pages"));
}

static void print_buckets(json_t *dist, FILE *to)
{
	char low[16], high[16];
	size_t n;

	for (n = 0; n < json_array_size(dist) && n < KUF_LATENCY_BUCKETS; n++) {
		json_int_t count = json_integer_value(json_array_get(dist, n));

		if (!count)
			continue;
		report_bound(n, low, sizeof(low));
		report_bound(n + 1, high, sizeof(high));
		fprintf(to, "  [ %6s - %6s ]: %lld\n", low, high, (long long)count);
	}
}

static void print_remote(json_t *pager, FILE *to)
{
	const char *state = json_string_value(json_object_get(pager, "state"));
	bool serves = state && !strcmp(state, "serving");

	if (!state)
		return;
	fprintf(to, "pager              %s: process %.0f at %s, %s %.1f s ago; number %.0f\n",
		!strcmp(state, "silent") ? "does not answer" : state, number(pager, "pid"),
		json_string_value(json_object_get(pager, "path")) ?: "?",
		!strcmp(state, "gone") ? "lost" : serves ? "answered" : "last heard of",
		number(pager, "since") / 1e3, number(pager, "pagers"));
}

int status_print(const char *text, FILE *to)
{
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *state;

	state = json_object_get(json, "status");
	if (!json_is_string(state)) {
		json_decref(json);
		return kuf_error(-EBADMSG, "the VM's answer is no status");
	}
	fprintf(to, "state              %s\n", json_string_value(state));
	fprintf(to, "session            %s, epoch %.0f\n",
		json_string_value(json_object_get(json, "session")) ?: "?", number(json, "epoch"));
	fprintf(to, "vCPUs              %.0f\n", number(json, "vcpus"));
	fprintf(to, "disk               %.0f requests\n", number(json, "disk-requests"));
	print_remote(json_object_get(json, "pager"), to);
	fprintf(to, "poisoned           %.0f pages\n", number(json, "poisoned"));
	print_memory(json, json_object_get(json, "ram"), to);
	print_sent(json, json_object_get(json, "sent"), to);
	print_buckets(json_object_get(json, "postcopy-latency-dist"), to);
	json_decref(json);
	return 0;
}

int cmd_status(int argc, char **argv)
{
	struct control_request request = { .op = CONTROL_STATUS };
	bool json = argc == 3 && !strcmp(argv[2], "--json");
	struct control_reply reply;
	char text[TEXT_MAX];
	int err;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return KUF_EXIT_OK;
	}
	if ((argc != 2 && !json) || argv[1][0] == '-') {
		fputs(help, stderr);
		return KUF_EXIT_USAGE;
	}
	err = control_ask(argv[1], &request, &reply);
	if (!err && reply.err)
		err = kuf_error(reply.err, "the VM of %s refused", argv[1]);
	if (err)
		return KUF_EXIT_FAILED;
	err = status_text(&reply.status, text, sizeof(text));
	if (err)
		kuf_error(err, "the VM's status");
	else if (json)
		puts(text);
	else
		err = status_print(text, stdout);
	return err ? KUF_EXIT_FAILED : KUF_EXIT_OK;
}
