// SPDX-License-Identifier: GPL-2.0
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kuf.h"
#include "tiny.h"

#define TINY		"/tmp/kuf-tiny"
#define CONTROL		"/tmp/kuf-control-tiny"

/*
 * Writes to pages from 16 to 24 MiB what depends on their address, prints '!', reads a
 * port for a while, and checks the pages:
 *	mov $0x1000000, %edi
 * 1:	mov %edi, %eax; xor $0x5aa55aa5, %eax; mov %eax, (%edi); mov %eax, 0xffc(%edi)
 *	add $0x1000, %edi; cmp $0x1800000, %edi; jb 1b
 *	mov $0x3f8, %dx; mov $'!', %al; out %al, (%dx); mov $READS, %ecx; mov $0x333, %dx
 * 2:	in (%dx), %al; dec %ecx; jnz 2b; mov $0x1000000, %edi
 * 3:	mov %edi, %eax; xor $0x5aa55aa5, %eax; cmp %eax, (%edi); jne 4f
 *	cmp %eax, 0xffc(%edi); jne 4f; add $0x1000, %edi; cmp $0x1800000, %edi; jb 3b
 *	mov $0x501, %dx; mov $0, %al; out %al, (%dx); hlt
 * 4:	mov $0x501, %dx; mov $1, %al; out %al, (%dx); hlt
 */
static const char before[] =
"\xbf\x00\x00\x00\x01\x89\xf8\x35\xa5\x5a\xa5\x5a\x89\x07\x89\x87\xfc\x0f\x00\x00\x81\xc7"
"\x00\x10\x00\x00\x81\xff\x00\x00\x80\x01\x72\xe3\x66\xba\xf8\x03\xb0\x21\xee\xb9";
static const char after[] =
"\x66\xba\x33\x03\xec\x49\x75\xfc\xbf\x00\x00\x00\x01\x89\xf8\x35\xa5\x5a\xa5\x5a"
"\x39\x07\x75\x1e\x39\x87\xfc\x0f\x00\x00\x75\x16\x81\xc7\x00\x10\x00\x00\x81\xff\x00\x00"
"\x80\x01\x72\xdf\x66\xba\x01\x05\xb0\x00\xee\xf4\x66\xba\x01\x05\xb0\x01\xee\xf4";

#define READS		30000
#define MAX_READS	(READS * 64)

static void make(uint32_t reads)
{
	char code[256];
	size_t n = sizeof(before) - 1;

	memcpy(code, before, n);
	memcpy(code + n, &reads, sizeof(reads));
	n += sizeof(reads);
	memcpy(code + n, after, sizeof(after) - 1);
	test_make_tiny(TINY, code, n + sizeof(after) - 1);
}

static bool ended_well(const struct test_run *r)
{
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == KUF_EXIT_OK;
}

bool tiny_save(struct test_run *run, struct test_run *saver, const char *file)
{
	char *vm[10] = { TEST_KUF, "run", "--kernel=" TINY, "--entry=32", "--mem=64M",
		       "--timeout=200", "--control=" CONTROL };
	const char *const save[] = { "save", CONTROL, file, NULL };
	uint32_t reads;
	bool at_work;

	for (reads = READS; reads <= MAX_READS; reads *= 8) {
		make(reads);
		unlink(CONTROL);
		test_start(run, vm);
		at_work = test_wait_for(run, "!");
		test_execute(saver, save);
		test_finish(run);
		if (!at_work || ended_well(saver) || !ended_well(run))
			break;
		/* It was at its end before it could be saved: of no use, but nobody's fault. */
		printf("# the guest was too fast, by %u reads: once more\n", reads);
	}
	return at_work && ended_well(saver) && ended_well(run);
}
