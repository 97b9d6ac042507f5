// SPDX-License-Identifier: GPL-2.0
/*
 * How fast a guest's memory is paged in on demand: filled beforehand, by
 * userfaultfd, by userfaultfd and KVM userfault, by KVM userfault alone.  What is
 * filled beforehand runs on a kernel without KVM userfault, too.
 *
 * All of them take the pages from an image in memory.  Measured are the pages
 * a second and, by the guest itself, how long each first access to a page took
 * (the only measure of a fault that means the same for all four).
 *
 * Every word of every page is checked by the guest and by the host; one wrong
 * bit fails the test.  Userfault exits have to be exactly one a page.
 *
 * Output for scripts: a line "DATA key=value ..." per cell of the matrix.
 */
#include <getopt.h>
#include <linux/sizes.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "userfault_perf.h"

static const char * const modes[PERF_MODES] = {
	[PERF_PREFILLED] = "prefilled",
	[PERF_PREFILLED_ALIAS] = "prefilled-alias",
	[PERF_UFFD] = "uffd",
	[PERF_UFFD_KUF] = "uffd+kuf",
	[PERF_KUF] = "kuf",
	[PERF_KUF_FD] = "kuf-fd",
};

static const char * const breaks[PERF_BREAKS] = {
	[PERF_BREAK_NOTHING] = "nothing",
	[PERF_BREAK_FLIP] = "flip",
	[PERF_BREAK_ZERO] = "zero",
	[PERF_BREAK_SWAP] = "swap",
	[PERF_BREAK_STALE] = "stale",
};

static const char * const backings[NR_USERFAULT_BACKINGS] = {
	[USERFAULT_ANON] = "anon",
	[USERFAULT_SHMEM] = "shmem",
	[USERFAULT_GMEM] = "gmem",
};

#define ANY	-1

static struct {
	int mode;
	int backing;
	int vcpus;
	u64 mb;
	u64 generation;
	u64 seed;
	bool sequential;
	u64 repeat;
	int broken;
	bool matrix;
} opt = {
	.mode = ANY,
	.backing = ANY,
	.vcpus = ANY,
	.mb = 64,
	.generation = 1,
	.seed = 1,
	.repeat = 1,
};

static struct {
	u32 cell, cells;
	u64 pages;
	u64 wrong;
} total;

static bool wanted(int value, int chosen, bool in_matrix)
{
	return chosen == ANY ? in_matrix : value == chosen;
}

static void report(const struct perf_cell *c)
{
	const struct userfault_hist *h = &c->hist;
	u64 rate = c->npages * NSEC_PER_SEC / c->ns;

	pr_info("  %lu pages in %lu.%03lu s, %lu pages/s; an access took %lu us (median), %lu us (99 %%); %s\n",
		c->npages, c->ns / NSEC_PER_SEC, c->ns / 1000000 % 1000, rate,
		h->p50_ns / 1000, h->p99_ns / 1000,
		c->wrong ? "NOT RIGHT" : "every page is right");
	pr_info("DATA mode=%s backing=%s vcpus=%u mb=%lu pages=%lu ns=%lu pages_per_s=%lu wrong=%lu exits=%lu uffd_events=%lu mean_ns=%lu p50_ns=%lu p99_ns=%lu max_ns=%lu hist=",
		modes[c->mode], backings[c->backing], c->nr_vcpus, opt.mb,
		c->npages, c->ns, rate, c->wrong, c->exits, c->uffd_events,
		h->mean_ns, h->p50_ns, h->p99_ns, h->max_ns);
	userfault_hist_print(h);
	pr_info("\n");
}

static void run_cell(enum perf_mode mode, enum userfault_backing backing,
		     u32 nr_vcpus)
{
	struct perf_cell *c = calloc(1, sizeof(*c));

	TEST_ASSERT(c, "Out of memory");
	c->mode = mode;
	c->backing = backing;
	c->nr_vcpus = nr_vcpus;
	c->npages = opt.mb * SZ_1M / PAGE_SIZE;
	c->seed = opt.seed;
	c->sequential = opt.sequential;
	c->broken = opt.broken;
	/* Another one each time: what memory held before is never right. */
	c->generation = opt.generation + total.cell++;

	pr_info("[%u/%u] %s, %s, %u vCPU%s, %lu MiB\n", total.cell, total.cells,
		modes[mode], backings[backing], nr_vcpus, nr_vcpus > 1 ? "s" : "",
		opt.mb);
	fflush(stdout);

	perf_run_cell(c);

	if (c->unsupported) {
		if (mode == PERF_PREFILLED_ALIAS)
			pr_info("  n/a: %s has no second mapping\n", backings[backing]);
		else
			pr_info("  n/a: this kernel has no userfaultfd on %s (UFFDIO_REGISTER: EINVAL)\n",
				backings[backing]);
		pr_info("DATA mode=%s backing=%s vcpus=%u na=1\n", modes[mode],
			backings[backing], nr_vcpus);
	} else {
		report(c);
		total.pages += c->npages;
		total.wrong += c->wrong;
	}
	fflush(stdout);
	free(c);
}

typedef void (*cell_fn_t)(enum perf_mode, enum userfault_backing, u32);

/* The ways side by side for each guest, so that drift hits all of them. */
static void visit_cells(cell_fn_t fn)
{
	int backing, vcpus, mode;
	u64 i;

	for (backing = 0; backing < NR_USERFAULT_BACKINGS; backing++) {
		if (!wanted(backing, opt.backing, backing == USERFAULT_ANON ||
			    (opt.matrix && backing == USERFAULT_GMEM)))
			continue;
		for (vcpus = 1; vcpus <= PERF_MAX_VCPUS; vcpus++) {
			if (!wanted(vcpus, opt.vcpus,
				    vcpus == 1 || (opt.matrix && vcpus <= 4 &&
						   vcpus != 3)))
				continue;
			for (mode = 0; mode < PERF_MODES; mode++) {
				if (!wanted(mode, opt.mode,
					    opt.matrix ? mode != PERF_PREFILLED_ALIAS &&
							 mode != PERF_KUF_FD :
							 mode == PERF_KUF))
					continue;
				for (i = 0; i < opt.repeat; i++)
					fn(mode, backing, vcpus);
			}
		}
	}
}

static void count_cell(enum perf_mode mode, enum userfault_backing backing,
		       u32 nr_vcpus)
{
	total.cells++;
	if (mode >= PERF_UFFD_KUF)
		TEST_REQUIRE_USERFAULT();
}

static int choose(const char *option, const char *arg, const char * const *names,
		  int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		if (names[i] && !strcmp(arg, names[i]))
			return i;
	}

	fprintf(stderr, "--%s=%s: use one of", option, arg);
	for (i = 0; i < nr; i++) {
		if (names[i])
			fprintf(stderr, " %s", names[i]);
	}
	fprintf(stderr, "\n");
	exit(KSFT_FAIL);
}

static void help(const char *name)
{
	printf("usage: %s [OPTION]...\n"
	       "  --matrix           every mode, for anon and gmem, with 1, 2 and 4 vCPUs;\n"
	       "                     the next three options then choose from that\n"
	       "  --mode=MODE        prefilled, prefilled-alias, uffd, uffd+kuf, kuf\n"
	       "                     (default) or kuf-fd; the first two need no KVM\n"
	       "                     userfault\n"
	       "  --backing=MEMORY   anon (default), shmem or gmem\n"
	       "  --vcpus=N          1 (default) to %d\n"
	       "  --mb=N             memory of each guest in MiB, even (default 64)\n"
	       "  --order=ORDER      scattered (default) or sequential\n"
	       "  --seed=N           of the scattered order\n"
	       "  --repeat=N         each cell N times (default 1)\n"
	       "  --generation=N     of the pattern in the first guest's pages\n"
	       "  --break=WHAT       make a page wrong, which must fail the test: flip\n"
	       "                     (one bit), zero, swap or stale\n", name,
	       PERF_MAX_VCPUS);
}

static void parse_options(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "matrix", no_argument, NULL, 'x' },
		{ "mode", required_argument, NULL, 'm' },
		{ "backing", required_argument, NULL, 's' },
		{ "vcpus", required_argument, NULL, 'v' },
		{ "mb", required_argument, NULL, 'b' },
		{ "order", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 'r' },
		{ "repeat", required_argument, NULL, 'n' },
		{ "generation", required_argument, NULL, 'g' },
		{ "break", required_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static const char * const orders[] = { "scattered", "sequential" };
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'x':
			opt.matrix = true;
			break;
		case 'm':
			opt.mode = choose("mode", optarg, modes, PERF_MODES);
			break;
		case 's':
			opt.backing = choose("backing", optarg, backings,
					     NR_USERFAULT_BACKINGS);
			break;
		case 'v':
			opt.vcpus = atoi_positive("--vcpus", optarg);
			TEST_ASSERT(opt.vcpus <= PERF_MAX_VCPUS, "--vcpus is at most %d",
				    PERF_MAX_VCPUS);
			break;
		case 'b':
			opt.mb = atoi_positive("--mb", optarg);
			TEST_ASSERT(opt.mb % 2 == 0, "--mb has to be even");
			break;
		case 'o':
			opt.sequential = choose("order", optarg, orders, 2);
			break;
		case 'r':
			opt.seed = atoi_non_negative("--seed", optarg);
			break;
		case 'n':
			opt.repeat = atoi_positive("--repeat", optarg);
			break;
		case 'g':
			opt.generation = atoi_positive("--generation", optarg);
			break;
		case 'k':
			opt.broken = choose("break", optarg, breaks, PERF_BREAKS);
			break;
		case 'h':
			help(argv[0]);
			exit(0);
		default:
			help(argv[0]);
			exit(KSFT_FAIL);
		}
	}
}

int main(int argc, char *argv[])
{
	parse_options(argc, argv);

	visit_cells(count_cell);
	visit_cells(run_cell);

	if (total.wrong) {
		pr_info("FAILED: %lu of %lu pages are wrong\n", total.wrong, total.pages);
		return KSFT_FAIL;
	}
	pr_info("every page verified: %lu pages, 0 wrong\n", total.pages);
	return KSFT_PASS;
}
