// SPDX-License-Identifier: GPL-2.0
/*
 * The record of who owns a VM: what is read back, what is refused, and what it allows.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crc32c.h"
#include "guest.h"
#include "journal.h"

#define FILE_NAME	"/tmp/kuf-journal-test"

static const u8 mine[16] = "this VM's", other[16] = "another VM's";
static const struct journal none;
static char said[600];

int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said, sizeof(said), fmt, ap);
	va_end(ap);
	return err ?: -EINVAL;
}

static bool put(const void *data, size_t size)
{
	int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool ok = fd >= 0 && write(fd, data, size) == (ssize_t)size;

	close(fd);
	return ok;
}

static bool refused(const void *data, size_t size, const char *text)
{
	struct journal j;

	said[0] = '\0';
	return put(data, size) && journal_open(&j, FILE_NAME) == -EINVAL && strstr(said, text) &&
	       strstr(said, FILE_NAME);
}

static void test_file(struct journal_record *r)
{
	struct journal j, again;

	unlink(FILE_NAME);
	ktap_result(!journal_open(&j, FILE_NAME) && j.record.owner == JOURNAL_NOBODY &&
		    !journal_write(&j, mine, 7, JOURNAL_HERE) &&
		    !journal_write(&j, mine, 8, JOURNAL_GIVEN_UP) &&
		    !journal_open(&again, FILE_NAME) && again.record.epoch == 8 &&
		    again.record.owner == JOURNAL_GIVEN_UP &&
		    !memcmp(again.record.session, mine, sizeof(mine)), "written");
	*r = again.record;
	/* Nobody can write there: what was recorded stays. */
	j.path = "/tmp/kuf-no-such-directory/journal";
	ktap_result(journal_write(&j, mine, 9, JOURNAL_HERE) == -ENOENT && j.record.epoch == 8,
		    "not written");
	j.path = NULL;
	ktap_result(!journal_write(&j, mine, 9, JOURNAL_HERE) && j.record.epoch == 9,
		    "in memory");
}

static void test_damage(const struct journal_record *good)
{
	struct journal_record r;
	unsigned int i, bad = 0;
	u8 bytes[sizeof(r) + 1] = {};
	struct journal j;

	for (i = 0; i < sizeof(r) * 8; i++) {
		memcpy(bytes, good, sizeof(r));
		bytes[i / 8] ^= 1 << i % 8;
		bad += !refused(bytes, sizeof(r), "--journal=");
	}
	memcpy(bytes, good, sizeof(r));
	for (i = 0; i < sizeof(r); i++)
		bad += !refused(bytes, i, "no journal");
	bad += !refused(bytes, sizeof(bytes), "no journal");
	ktap_result(!bad, "damaged");
	r = *good;
	r.owner = JOURNAL_VACANT + 1;
	r.crc = 0;
	r.crc = crc32c(0, &r, sizeof(r));
	bad = !refused(&r, sizeof(r), "damaged");
	r = *good;
	r.version++;
	bad += !refused(&r, sizeof(r), "of version 3");
	bad += !(put(good, sizeof(*good)) && !journal_open(&j, FILE_NAME));
	ktap_result(!bad, "not known");
}

static struct journal of(enum journal_owner owner, u64 epoch)
{
	struct journal j = { .path = "FILE", .record = { .owner = owner, .epoch = epoch } };

	memcpy(j.record.session, mine, sizeof(mine));
	return j;
}

static void test_rules(void)
{
	struct journal here = of(JOURNAL_HERE, 5), comes = of(JOURNAL_COMES, 5);
	struct journal given = of(JOURNAL_GIVEN_UP, 5);
	u64 epoch = 0;

	ktap_result(!journal_may_begin(&none) && journal_may_begin(&here) &&
		    journal_may_begin(&comes) && journal_may_begin(&given), "begin");
	ktap_result(!journal_may_go_on(&none, mine, &epoch) && !epoch &&
		    !journal_may_go_on(&here, mine, &epoch) && epoch == 5 &&
		    journal_may_go_on(&here, other, &epoch) &&
		    journal_may_go_on(&comes, mine, &epoch) &&
		    journal_may_go_on(&given, mine, &epoch) && strstr(said, "was given to another"),
		    "go on");
	ktap_result(!journal_may_come(&none, mine, 1) && journal_may_come(&here, mine, 5) &&
		    journal_may_come(&comes, mine, 5) && journal_may_come(&given, mine, 4) &&
		    !journal_may_come(&here, mine, 6) && !journal_may_come(&comes, mine, 6) &&
		    !journal_may_come(&given, mine, 6) && journal_may_come(&given, other, 6),
		    "come");
}

static bool revokes(enum journal_owner owner, u64 epoch, const u8 *session, const char *says)
{
	struct journal j;
	int err;

	unlink(FILE_NAME);
	journal_read(&j, FILE_NAME);
	if (owner != JOURNAL_NOBODY)
		journal_write(&j, session, epoch, owner);
	said[0] = '\0';
	err = journal_revoke(FILE_NAME, &none, mine, 5);
	journal_read(&j, FILE_NAME);
	if (says)
		return err && strstr(said, says) && j.record.owner == owner;
	return !err && j.record.owner == JOURNAL_REVOKED && j.record.epoch == 5;
}

static void test_revoke(void)
{
	struct journal j;
	u64 epoch = 0;

	ktap_result(revokes(JOURNAL_COMES, 5, mine, NULL) &&
		    revokes(JOURNAL_REVOKED, 5, mine, NULL), "revoked");
	journal_read(&j, FILE_NAME);
	ktap_result(journal_may_go_on(&j, mine, &epoch) && strstr(said, "was revoked here") &&
		    journal_may_come(&j, mine, 5) && !journal_may_come(&j, mine, 6),
		    "revoked is not to go on");
	ktap_result(revokes(JOURNAL_NOBODY, 0, mine, "without it nobody knows") &&
		    revokes(JOURNAL_COMES, 5, other, "of another VM") &&
		    revokes(JOURNAL_COMES, 4, mine, "given up in 5: not there") &&
		    revokes(JOURNAL_COMES, 6, mine, "was started there") &&
		    revokes(JOURNAL_HERE, 5, mine, "was started there") &&
		    revokes(JOURNAL_HERE, 4, mine, "given up in 5: not there") &&
		    revokes(JOURNAL_GIVEN_UP, 6, mine, "was started there") &&
		    revokes(JOURNAL_VACANT, 5, mine, "was started there"), "not revoked");
	j = of(JOURNAL_VACANT, 5);
	ktap_result(journal_may_go_on(&j, mine, &epoch) && journal_may_begin(&j) &&
		    !journal_may_come(&j, mine, 6), "vacant");
}

/* A process that has it, for as long as it lives. */
static void test_lock(void)
{
	int ready[2], go[2], refused, locked = 0;
	struct journal j;
	char c;
	pid_t pid;

	unlink(FILE_NAME);
	if (pipe(ready) || pipe(go))
		return;
	pid = fork();
	if (!pid) {
		c = !journal_open(&j, FILE_NAME) && !journal_write(&j, mine, 5, JOURNAL_COMES);
		/* One of its own does not have the lock. */
		if (!fork()) {
			close(go[1]);
			_exit(read(go[0], &c, 1) == 1);
		}
		if (write(ready[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	locked = read(ready[0], &c, 1) == 1 && c;
	said[0] = '\0';
	refused = journal_revoke(FILE_NAME, &none, mine, 5) == -EBUSY && strstr(said, "lives") &&
		  journal_open(&j, FILE_NAME) == -EBUSY;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ktap_result(locked && refused && !journal_revoke(FILE_NAME, &none, mine, 5), "locked");
	close(go[1]);
}

/* --revoke with one's own journal, also by another name: its lock stays. */
static void test_own(void)
{
	struct journal j, other;
	bool ok, locked;
	int status;

	unlink(FILE_NAME);
	ok = !journal_open(&j, FILE_NAME) && !journal_write(&j, mine, 5, JOURNAL_GIVEN_UP);
	said[0] = '\0';
	ok = ok && journal_revoke("/tmp/../" FILE_NAME, &j, mine, 5) == -EBUSY &&
	     strstr(said, "is the source's own journal");
	if (!fork())
		_exit(journal_open(&other, FILE_NAME) == -EBUSY);
	locked = wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 1;
	ktap_result(ok && locked, "own");
}

static void test_given(void)
{
	struct journal_given given = { .mem_size = 7 << 20, .mem_file = 4711 };
	struct journal j, here = of(JOURNAL_HERE, 5);
	struct journal nothing = of(JOURNAL_GIVEN_UP, 5);

	memset(given.token, 0x3c, sizeof(given.token));
	unlink(FILE_NAME);
	journal_read(&j, FILE_NAME);
	ktap_result(!journal_give_up(&j, mine, 9, &given) && !journal_read(&j, FILE_NAME) &&
		    j.record.owner == JOURNAL_GIVEN_UP && j.record.epoch == 9 &&
		    !memcmp(&j.record.given, &given, sizeof(given)) && !journal_may_serve(&j) &&
		    journal_may_serve(&none) == -ENOENT && journal_may_serve(&here) &&
		    strstr(said, "was not given up here: kuf restore") &&
		    journal_may_serve(&nothing) && strstr(said, "no file has all"), "given up");
}

int main(void)
{
	struct journal_record r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(15);
	test_file(&r);
	test_damage(&r);
	test_rules();
	test_revoke();
	test_given();
	test_lock();
	test_own();
	unlink(FILE_NAME);
	unlink(FILE_NAME ".lock");
	return ktap_end();
}
