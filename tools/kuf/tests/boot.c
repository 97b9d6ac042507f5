// SPDX-License-Identifier: GPL-2.0
/*
 * A Linux guest comes up, all of whose memory is absent at start and served
 * lazily, on each kind of memory; and is content with what it finds there.
 *
 * Arguments: names of variants; all of them without.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "guest.h"

struct variant {
	const char *backing;
	unsigned int cpus;
	const char *lazy;	/* NULL: nothing is absent */
	const char *entry;
	bool own;
};

/* Page tables of the VMM's, absent, are for KVM to walk without nested paging. */
static const struct variant variants[] = {
	{ "anon", 1, NULL, "64" },
	{ "gmem", 2, NULL, "32" },
	{ "anon", 1, "process", "32" },
	{ "anon", 2, "process", "32" },
	{ "shmem", 1, "process", "32" },
	{ "shmem", 2, "process", "32" },
	{ "gmem", 1, "process", "32" },
	{ "gmem", 2, "process", "32" },
	{ "anon", 2, "thread", "32" },
	{ "gmem", 2, "exit", "32" },
	{ "anon", 2, "process", "64", true },
	{ "gmem", 2, "process", "64", true },
};

#define NR_VARIANTS	(sizeof(variants) / sizeof(variants[0]))

/* Less than that is not a guest that came up. */
#define MIN_PAGES	4000

static struct test_run run;

static void start(const struct variant *v)
{
	char kernel[] = "--kernel=" TEST_KERNEL, initrd[] = "--initrd=" TEST_INITRD;
	char append[300], cpus[20], backing[20], entry[20], lazy[20];
	char *argv[16] = { TEST_KUF, "run", kernel, initrd, append, cpus, backing, entry,
			   "--timeout=200", "--disk=" TEST_DISK };
	int n = 10;

	snprintf(append, sizeof(append), "--append=%s", test_cmdline(v->cpus));
	snprintf(cpus, sizeof(cpus), "--cpus=%u", v->cpus);
	snprintf(backing, sizeof(backing), "--backing=%s", v->backing);
	snprintf(entry, sizeof(entry), "--entry=%s", v->entry);
	if (v->lazy) {
		snprintf(lazy, sizeof(lazy), "--lazy=%s", v->lazy);
		argv[n++] = lazy;
	}
	if (v->own)
		argv[n++] = "--features=own";
	test_start(&run, argv);
}

static bool clean(const char *console)
{
	return !strstr(console, "BUG:") && !strstr(console, "WARNING:") &&
	       !strstr(console, "Oops") && !strstr(console, "Call Trace") &&
	       !strstr(console, "guest: FAILED");
}

static bool shadow_paging(void)
{
	FILE *f = fopen("/sys/module/kvm_amd/parameters/npt", "r");
	bool shadow = f && fgetc(f) == 'N';

	if (f)
		fclose(f);
	return shadow;
}

/* What kuf itself counted, which its exit status already stands for. */
static bool counted(const struct variant *v)
{
	long long served = test_number(&run, "lazy: "), own = test_number(&run, "of these ");

	if (!v->lazy)
		return !strstr(run.said, "lazy:");
	printf("# %s %u %s%s: %.1f s, %lld pages, %lld own accesses\n", v->backing, v->cpus,
	       v->lazy, v->own ? " own" : "", run.seconds, served, own);
	/* Then KVM walks page tables, of which the first ones are absent. */
	if (v->own && shadow_paging() && own < 1)
		return false;
	if (strcmp(v->lazy, "exit"))
		return served >= MIN_PAGES && strstr(run.said, " 0 exits,");
	return served >= MIN_PAGES && strstr(run.said, "lazy: 0 events");
}

static void name_of(const struct variant *v, char *name, size_t size)
{
	snprintf(name, size, "%s-%u-%s%s", v->backing, v->cpus, v->lazy ?: "present",
		 v->own ? "-own" : "");
}

static void test(const struct variant *v)
{
	char name[40];
	bool ok;

	name_of(v, name, sizeof(name));
	test_make_disk();
	start(v);
	test_finish(&run);
	if (v->own && strstr(run.said, "KVM_USERFAULT_FEATURE_OWN; fix")) {
		ktap_skip("the kernel does not offer OWN", "%s", name);
		return;
	}
	ok = WIFEXITED(run.status) && !WEXITSTATUS(run.status) &&
	     strstr(run.console, "guest: ok") && clean(run.console) && counted(v) &&
	     test_disk_written();
	if (!ok)
		test_show(&run);
	ktap_result(ok, "%s", name);
}

static const struct variant *find(const char *wanted)
{
	char name[40];
	size_t i;

	for (i = 0; i < NR_VARIANTS; i++) {
		name_of(&variants[i], name, sizeof(name));
		if (!strcmp(name, wanted))
			return &variants[i];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t i;

	for (i = 1; i < (size_t)argc; i++) {
		if (!find(argv[i])) {
			printf("Bail out! there is no variant %s\n", argv[i]);
			return 1;
		}
	}
	test_make_initrd();
	ktap_plan(argc > 1 ? argc - 1 : (int)NR_VARIANTS);
	for (i = 1; i < (size_t)argc; i++)
		test(find(argv[i]));
	for (i = 0; argc == 1 && i < NR_VARIANTS; i++)
		test(&variants[i]);
	return ktap_end();
}
