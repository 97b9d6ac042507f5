// SPDX-License-Identifier: GPL-2.0
/*
 * HELLOs that are refused, each for what is wrong with it, and without leaving a file open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "guest.h"

static void give(struct client *c, unsigned int i, int fd)
{
	c->fds[i] = fd;
}

/* To be closed by the test; in a message it is open as long as that is there. */
static int extra;

static int set_extra(int fd)
{
	extra = fd;
	return fd;
}

static void bad_magic(struct client *c)
{
	c->packet.hello.head.magic[0] ^= 1;
}

static void bad_version(struct client *c)
{
	c->packet.hello.head.version++;
}

static void bad_type(struct client *c)
{
	c->packet.hello.head.type = PACKET_GO;
}

static void bad_size(struct client *c)
{
	c->packet.hello.head.size++;
}

static void bad_reserved(struct client *c)
{
	c->packet.hello.head.reserved = 1;
}

static void too_short(struct client *c)
{
	c->size = sizeof(c->packet.hello) - 4;
	c->packet.hello.head.size = c->size;
}

static void only_head(struct client *c)
{
	c->size = sizeof(c->packet.hello.head);
	c->packet.hello.head.size = c->size;
}

static void one_byte(struct client *c)
{
	c->size = 1;
}

static void cut_export(struct client *c)
{
	c->size -= 8;
	c->packet.hello.head.size = c->size;
}

static void long_export(struct client *c)
{
	c->size = sizeof(c->packet);
	c->packet.hello.head.size = c->size;
	c->packet.hello.export_size = KUF_EXPORT_MAX_BYTES + 8;
}

static void huge_export(struct client *c)
{
	c->packet.hello.export_size = ~0u;
}

static void no_fds(struct client *c)
{
	c->nr_fds = 0;
}

static void no_fds_said(struct client *c)
{
	c->nr_fds = 0;
	c->packet.hello.nr_fds = 0;
}

static void fewer_fds(struct client *c)
{
	c->packet.hello.nr_fds = --c->nr_fds;
}

static void more_fds(struct client *c)
{
	while (c->nr_fds < 200)
		c->fds[c->nr_fds++] = c->file;
	c->packet.hello.nr_fds = c->nr_fds;
}

static void bad_policy(struct client *c)
{
	c->packet.hello.policy = KUF_RECORDED + 1;
}

static void bad_flags(struct client *c)
{
	c->packet.hello.flags = BIT(9);
}

static void bad_session(struct client *c)
{
	c->packet.hello.session[3] ^= 1;
}

static void bad_mem_size(struct client *c)
{
	c->packet.hello.mem_size += PAGE_SIZE;
}

static void file_directory(struct client *c)
{
	give(c, 0, set_extra(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
}

static void file_write_only(struct client *c)
{
	give(c, 0, set_extra(open(FILE_NAME, O_WRONLY | O_CLOEXEC)));
}

static void file_other(struct client *c)
{
	give(c, 0, set_extra(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)));
}

static void file_socket(struct client *c)
{
	give(c, 0, c->socket);
}

static void shared_not_sealed(struct client *c)
{
	give(c, 1, set_extra(client_sealed_file(pager_shared_size(false), F_SEAL_GROW)));
}

static void shared_small(struct client *c)
{
	give(c, 1, set_extra(client_sealed_file(8, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)));
}

static void shared_file(struct client *c)
{
	give(c, 1, c->file);
}

static void shared_no_record(struct client *c)
{
	c->packet.hello.flags = HELLO_RECORD;
}

static void replay_missing(struct client *c)
{
	/* The bell is taken for it. */
	c->packet.hello.policy = KUF_RECORDED;
	c->packet.hello.flags = HELLO_REPLAY;
	c->packet.hello.nr_replay = 5;
}

static void uffd_regular(struct client *c)
{
	give(c, 3, c->file);
}

static void uffd_blocks(struct client *c)
{
	int ends[2];

	if (!pipe2(ends, O_CLOEXEC))
		close(ends[1]);
	give(c, 3, set_extra(ends[0]));
}

static void bell_file(struct client *c)
{
	give(c, 2, c->file);
}

static void state_file(struct client *c)
{
	give(c, 4, c->file);
}

static void memory_short(struct client *c)
{
	give(c, 5, set_extra(client_sealed_file(PAGE_SIZE, 0)));
}

static void export_flipped(struct client *c)
{
	c->packet.bytes[40] ^= 1;
}

static const struct {
	const char *name;
	void (*spoil)(struct client *c);
	const char *says;
} hellos[] = {
	{ "magic", bad_magic, "no HELLO of kuf restore's" },
	{ "version", bad_version, "version 2, this pager version 1: use the same kuf" },
	{ "type", bad_type, "no HELLO" },
	{ "size", bad_size, "no HELLO" },
	{ "reserved", bad_reserved, "no HELLO" },
	{ "too-short", too_short, "no HELLO" },
	{ "only-head", only_head, "no HELLO" },
	{ "one-byte", one_byte, "no HELLO" },
	{ "export-cut", cut_export, "bytes of HELLO instead of" },
	{ "export-long", long_export, "too long" },
	{ "export-huge", huge_export, "bytes of HELLO instead of" },
	{ "no-fds", no_fds, "0 files came of 6" },
	{ "no-fds-said", no_fds_said, "0 files came of 0" },
	{ "fewer-fds", fewer_fds, "memory and page states cannot be had" },
	{ "more-fds", more_fds, "too many files" },
	{ "policy", bad_policy, "policy 3" },
	{ "flags", bad_flags, "flags 0x200" },
	{ "session", bad_session, "another VM's" },
	{ "mem-size", bad_mem_size, "another VM's" },
	{ "file-directory", file_directory, "no saved VM" },
	{ "file-write-only", file_write_only, "cannot be read" },
	{ "file-other", file_other, "no saved VM" },
	{ "file-socket", file_socket, "no saved VM" },
	{ "shared-not-sealed", shared_not_sealed, "no sealed file" },
	{ "shared-small", shared_small, "no sealed file" },
	{ "shared-file", shared_file, "no sealed file" },
	{ "shared-no-record", shared_no_record, "no sealed file" },
	{ "replay-missing", replay_missing, "the recording is no sealed file of 5 pages" },
	{ "uffd-regular", uffd_regular, "no userfault fd" },
	{ "uffd-blocks", uffd_blocks, "no userfault fd, or one that blocks" },
	{ "bell-file", bell_file, "memory and page states cannot be had" },
	{ "state-file", state_file, "memory and page states cannot be had" },
	{ "memory-short", memory_short, "memory and page states cannot be had" },
	{ "export-flipped", export_flipped, "memory and page states cannot be had" },
};

unsigned int hello_tests(void)
{
	return ARRAY_SIZE(hellos);
}

void hello_test(unsigned int i)
{
	struct packet packet = {};
	int before, said, end;
	bool ok;

	ok = client_new(&one, 1);
	before = fake_open_fds();
	extra = -1;
	hellos[i].spoil(&one);
	client_hello(&one);
	pager_rounds(3);
	said = client_heard(&one, &packet);
	end = client_heard(&one, &(struct packet){});
	if (extra >= 0)
		close(extra);
	ok = ok && said == PACKET_REFUSED && end == -1 && packet.err < 0 &&
	     strstr(packet.text, hellos[i].says) && fake_open_fds() == before;
	if (!ok)
		printf("# %d '%s' (%d), then %d; %d files instead of %d\n", said, packet.text,
		       packet.err, end, fake_open_fds(), before);
	client_free(&one);
	ktap_result(ok, "hello-%s", hellos[i].name);
}
