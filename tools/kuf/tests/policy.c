// SPDX-License-Identifier: GPL-2.0
/*
 * A small guest that was saved goes on under each policy and engine: with the right
 * content, and with those pages there that the policy wants there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "guest.h"
#include "kuf.h"
#include "tiny.h"

#define SAVED		"/tmp/kuf-saved"
#define RECORDING	"/tmp/kuf-recording"

#define MEM_PAGES	((64 << 20) / 4096)
#define USED_PAGES	((8 << 20) / 4096)
/* Beside these the code, and what KVM has in the guest's memory. */
#define FEW		16

static struct test_run run, other;

static bool ended(const struct test_run *r, int status)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == status;
}

static void result(bool ok, const char *name)
{
	if (!ok) {
		test_show(&run);
		test_show(&other);
	}
	ktap_result(ok, "%s", name);
}

static void test_save(void)
{
	result(tiny_save(&run, &other, SAVED), "save");
}

/* Up to five more arguments. */
static void restore(const char *const *args)
{
	char *argv[12] = { TEST_KUF, "restore", SAVED, "--timeout=200" };
	int n;

	for (n = 0; n < 5 && args[n]; n++)
		argv[4 + n] = (char *)args[n];
	test_start(&run, argv);
	test_finish(&run);
}

static const struct {
	const char *name;
	const char *args[5];
	/* Pages: those needed, and those ahead of need, at least and at most. */
	int needed_min, needed_max, ahead_min, ahead_max;
} policies[] = {
	{ "lazy-record", { "--policy=lazy", "--record=" RECORDING },
	  USED_PAGES, USED_PAGES + FEW, 0, 0 },
	{ "lazy-thread", { "--policy=lazy", "--pager=thread", "--backing=gmem" },
	  USED_PAGES, USED_PAGES + FEW, 0, 0 },
	{ "recorded", { "--policy=recorded", "--replay=" RECORDING },
	  0, USED_PAGES / 2, USED_PAGES / 2, USED_PAGES + FEW },
	{ "recorded-then", { "--policy=recorded", "--replay=" RECORDING, "--then=background",
			     "--pager=thread", "--backing=shmem" },
	  0, USED_PAGES / 2, USED_PAGES / 2, MEM_PAGES },
	{ "background", { "--policy=background" }, 0, USED_PAGES + FEW, 1, MEM_PAGES },
	{ "background-gmem", { "--policy=background", "--pager=thread", "--backing=gmem" },
	  0, USED_PAGES + FEW, 1, MEM_PAGES },
	{ "uffd-lazy", { "--policy=lazy", "--engine=uffd" },
	  USED_PAGES, USED_PAGES + FEW, 0, 0 },
	{ "uffd-lazy-shmem", { "--policy=lazy", "--engine=uffd", "--backing=shmem" },
	  USED_PAGES, USED_PAGES + FEW, 0, 0 },
	{ "uffd-background", { "--policy=background", "--engine=uffd" },
	  0, USED_PAGES + FEW, 1, MEM_PAGES },
};

static void test_policy(size_t i)
{
	long long needed, ahead;
	bool ok;

	restore(policies[i].args);
	needed = test_number(&run, "lazy: needed ");
	ahead = test_number(&run, "ahead of need ");
	printf("# %s: %.1f s, %lld needed, %lld ahead\n", policies[i].name, run.seconds, needed,
	       ahead);
	ok = ended(&run, KUF_EXIT_OK) && strstr(run.said, " 0 wrong") &&
	     needed >= policies[i].needed_min && needed <= policies[i].needed_max &&
	     ahead >= policies[i].ahead_min && ahead <= policies[i].ahead_max;
	result(ok, policies[i].name);
}

/* A page that the guest is sure to check, in the file: the same again undoes it. */
static void damage(void)
{
	int fd = open(SAVED, O_RDWR);
	struct frame_file file;
	u64 at = 0;
	u8 byte;

	if (pread(fd, &file, sizeof(file), 0) == sizeof(file))
		at = file.data_offset + (20 << 20) + 5;
	if (pread(fd, &byte, 1, at) == 1) {
		byte ^= 0x40;
		if (pwrite(fd, &byte, 1, at) != 1)
			perror(SAVED);
	}
	close(fd);
}

static const struct {
	const char *name;
	bool damaged;
	int status;
	const char *says;
	const char *args[5];
} failures[] = {
	{ "damaged-process", true, KUF_EXIT_PAGER, "offset 0x1400000 is damaged (CRC32C)",
	  { "--policy=lazy" } },
	{ "damaged-thread", true, KUF_EXIT_PAGER, "offset 0x1400000 is damaged (CRC32C)",
	  { "--policy=lazy", "--pager=thread", "--backing=gmem" } },
	{ "damaged-uffd", true, KUF_EXIT_PAGER, "offset 0x1400000 is damaged (CRC32C)",
	  { "--policy=lazy", "--engine=uffd" } },
	{ "uffd-gmem", false, KUF_EXIT_FAILED, "not on guest_memfd",
	  { "--policy=lazy", "--engine=uffd", "--backing=gmem" } },
	{ "replay-missing", false, KUF_EXIT_FAILED, "/none: No such file",
	  { "--policy=recorded", "--replay=/none" } },
	{ "replay-other", false, KUF_EXIT_FAILED, "is no recording, or damaged",
	  { "--policy=recorded", "--replay=" SAVED } },
	{ "record-nowhere", false, KUF_EXIT_FAILED, "/none/file",
	  { "--policy=lazy", "--record=/none/file" } },
};

static void test_failure(size_t i)
{
	if (failures[i].damaged)
		damage();
	restore(failures[i].args);
	if (failures[i].damaged)
		damage();
	result(ended(&run, failures[i].status) && strstr(run.said, failures[i].says),
	       failures[i].name);
}

int main(void)
{
	size_t i;

	ktap_plan(1 + ARRAY_SIZE(policies) + ARRAY_SIZE(failures));
	test_save();
	for (i = 0; i < ARRAY_SIZE(policies); i++)
		test_policy(i);
	for (i = 0; i < ARRAY_SIZE(failures); i++)
		test_failure(i);
	return ktap_end();
}
