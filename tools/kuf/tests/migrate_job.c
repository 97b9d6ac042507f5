// SPDX-License-Identifier: GPL-2.0
/*
 * The main job: a Linux guest that works on 64 MiB of memory and on a disk is saved and
 * goes on from the file, page by page.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "guest.h"
#include "kuf.h"
#include "party.h"

#define SOCKET		"/tmp/kuf-control"
#define SAVED		"/tmp/kuf-saved"
#define PATIENCE	120.0

static struct party source, helper, restored;

int main(int argc, char **argv)
{
	char append[400];
	char *run[] = { TEST_KUF, "run", "--kernel=" TEST_KERNEL, "--initrd=" TEST_INITRD, append,
			"--mem=160M", "--timeout=200", "--disk=" TEST_DISK, "--control=" SOCKET,
			NULL };
	char *save[] = { TEST_KUF, "save", SOCKET, SAVED, NULL };
	char *restore[] = { TEST_KUF, "restore", SAVED, "--policy=lazy", "--disk=" TEST_DISK,
			    "--timeout=120", NULL };
	struct chain chain = {};
	bool ok;

	test_make_initrd();
	test_make_disk();
	ktap_plan(1);
	snprintf(append, sizeof(append), "--append=%s guest.keep=6 guest.dirty=64",
		 test_cmdline(1));
	party_start(&source, "source", run);
	ok = party_wait_for(&source, true, "generation 3.", PATIENCE);
	party_start(&helper, "save", save);
	ok = party_finish(&helper, PATIENCE) && ok;
	ok = party_finish(&source, PATIENCE) && chain_read(&chain, source.run.console) && ok;
	party_start(&restored, "restored", restore);
	ok = party_finish(&restored, PATIENCE) && chain_read(&chain, restored.run.console) && ok;
	ok = ok && party_exited(&restored, KUF_EXIT_OK) && chain.generation == 6 &&
	     strstr(restored.run.console, "guest: ok") && test_disk_written();
	ktap_result(ok, "job");
	return ktap_end();
}
