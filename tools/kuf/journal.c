// SPDX-License-Identifier: GPL-2.0
/*
 * The record of who owns a VM.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "file.h"
#include "journal.h"

#define MAGIC	"KUFOWNER"
#define VERSION	2

static_assert(sizeof(struct journal_record) == 80, "what is in files");

static u32 record_crc(const struct journal_record *record)
{
	struct journal_record r = *record;

	r.crc = 0;
	return crc32c(0, &r, sizeof(r));
}

static int check(const struct journal *j, off_t size)
{
	const struct journal_record *r = &j->record;

	if (size != sizeof(*r) || memcmp(r->magic, MAGIC, sizeof(r->magic)))
		return kuf_error(0, "--journal=%s: this is no journal; name another file", j->path);
	if (r->version != VERSION)
		return kuf_error(0, "--journal=%s: of version %u; this kuf knows version %u",
				 j->path, r->version, VERSION);
	if (r->crc != record_crc(r) || r->reserved || r->owner < JOURNAL_HERE ||
	    r->owner > JOURNAL_VACANT)
		return kuf_error(0, "--journal=%s: damaged; remove it only if nobody runs the VM",
				 j->path);
	return 0;
}

/*
 * Kept until the process ends, whatever ends it, and not inherited by others.  A file of
 * its own, as the journal itself is another file each time.
 */
static int lock(const char *path, int *lock_fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char name[PATH_MAX];
	int fd, err;

	if (snprintf(name, sizeof(name), "%s.lock", path) >= (int)sizeof(name))
		return kuf_error(-ENAMETOOLONG, "--journal=%s", path);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return kuf_error(-errno, "%s", name);
	if (!fcntl(fd, F_SETLK, &l)) {
		*lock_fd = fd;
		return 0;
	}
	err = -errno;
	if ((err == -EAGAIN || err == -EACCES) && !fcntl(fd, F_GETLK, &l))
		kuf_error(0, "--journal=%s: process %d has it, and lives: end that first", path,
			  (int)l.l_pid);
	else
		kuf_error(err, "locking %s", name);
	close(fd);
	return -EBUSY;
}

int journal_open(struct journal *j, const char *path)
{
	int fd, err = path ? lock(path, &fd) : 0;

	*j = (struct journal){ .path = path };
	return err ?: journal_read(j, path);
}

int journal_read(struct journal *j, const char *path)
{
	struct stat st;
	int fd, err;

	*j = (struct journal){ .path = path };
	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return kuf_error(-errno, "--journal=%s", path);
	err = fstat(fd, &st) ? -errno : 0;
	if (!err && st.st_size >= (off_t)sizeof(j->record))
		err = file_read(fd, &j->record, sizeof(j->record), 0);
	close(fd);
	return err ? kuf_error(err, "--journal=%s", path) : check(j, st.st_size);
}

static int write_record(struct journal *j, const u8 *session, u64 epoch,
			enum journal_owner owner, const struct journal_given *given)
{
	struct journal_record r = {
		.version = VERSION, .owner = owner, .epoch = epoch, .given = *given,
	};
	struct file_new f;
	int err;

	memcpy(r.magic, MAGIC, sizeof(r.magic));
	memcpy(r.session, session, sizeof(r.session));
	r.crc = record_crc(&r);
	if (j->path) {
		err = file_new_begin(&f, j->path);
		if (err)
			return err;
		err = file_write(f.fd, &r, sizeof(r), 0);
		if (err)
			kuf_error(err, "%s", f.tmp);
		err = file_new_end(&f, err);
		if (err)
			return err;
	}
	j->record = r;
	return 0;
}

int journal_write(struct journal *j, const u8 *session, u64 epoch, enum journal_owner owner)
{
	static const struct journal_given nothing;

	return write_record(j, session, epoch, owner, &nothing);
}

int journal_give_up(struct journal *j, const u8 *session, u64 epoch,
		    const struct journal_given *given)
{
	return write_record(j, session, epoch, JOURNAL_GIVEN_UP, given);
}

static bool is_of(const struct journal *j, const u8 *session)
{
	return !memcmp(j->record.session, session, sizeof(j->record.session));
}

static int of_another(const struct journal *j)
{
	return kuf_error(0, "--journal=%s is of another VM: name another file",
			 j->path);
}

int journal_may_begin(const struct journal *j)
{
	return j->record.owner == JOURNAL_NOBODY ? 0 : of_another(j);
}

static const char *whose(u32 owner)
{
	switch (owner) {
	case JOURNAL_COMES:
		return "was another side's";
	case JOURNAL_REVOKED:
		return "was revoked here to be given to another side";
	default:
		return "was given to another side";
	}
}

int journal_may_go_on(const struct journal *j, const u8 *session, u64 *epoch)
{
	const struct journal_record *r = &j->record;

	if (r->owner == JOURNAL_NOBODY)
		return 0;
	if (!is_of(j, session))
		return of_another(j);
	if (r->owner != JOURNAL_HERE)
		return kuf_error(0, "--journal=%s: epoch %llu: the VM %s, and may run there",
				 j->path, (unsigned long long)r->epoch, whose(r->owner));
	*epoch = r->epoch;
	return 0;
}

int journal_may_serve(const struct journal *j)
{
	const struct journal_record *r = &j->record;

	if (r->owner == JOURNAL_NOBODY)
		return kuf_error(-ENOENT, "--journal=%s", j->path);
	if (r->owner != JOURNAL_GIVEN_UP)
		return kuf_error(0, "--journal=%s: epoch %llu: the VM was not given up here%s",
				 j->path, (unsigned long long)r->epoch,
				 r->owner == JOURNAL_HERE ? ": kuf restore goes on with it" : "");
	if (!r->given.mem_file)
		return kuf_error(0, "--journal=%s: no file has all of the VM's memory (%s)",
				 j->path, "no --mem-path, or pages were lost since");
	return 0;
}

int journal_may_come(const struct journal *j, const u8 *session, u64 epoch)
{
	const struct journal_record *r = &j->record;

	if (r->owner == JOURNAL_NOBODY)
		return 0;
	if (!is_of(j, session))
		return of_another(j);
	if (r->epoch >= epoch)
		return kuf_error(0, "--journal=%s: epoch %llu comes, and %llu was here already",
				 j->path, (unsigned long long)epoch,
				 (unsigned long long)r->epoch);
	return 0;
}

static int take_back(struct journal *j, const u8 *session, u64 epoch)
{
	const struct journal_record *r = &j->record;

	if (r->owner == JOURNAL_NOBODY)
		return kuf_error(-ENOENT, "%s: without it nobody knows that the VM did not start",
				 j->path);
	if (!is_of(j, session))
		return kuf_error(0, "%s is of another VM", j->path);
	if (r->owner == JOURNAL_REVOKED && r->epoch == epoch)
		return 0;
	if (r->epoch < epoch)
		return kuf_error(0, "%s: epoch %llu, and the VM was given up in %llu: not there",
				 j->path, (unsigned long long)r->epoch, (unsigned long long)epoch);
	if (r->owner != JOURNAL_COMES || r->epoch > epoch)
		return kuf_error(0, "%s: the VM was started there, in epoch %llu: it stays there",
				 j->path, (unsigned long long)r->epoch);
	return journal_write(j, session, epoch, JOURNAL_REVOKED);
}

/* By whatever name. */
static bool have_one_lock(const char *a, const char *b)
{
	char name[PATH_MAX];
	struct stat one, other;

	snprintf(name, sizeof(name), "%s.lock", a);
	if (stat(name, &one))
		return false;
	snprintf(name, sizeof(name), "%s.lock", b);
	return !stat(name, &other) && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

int journal_revoke(const char *path, const struct journal *own, const u8 *session, u64 epoch)
{
	struct journal j;
	int fd, err;

	/* It would be got once more, and lost when that is closed. */
	if (own->path && have_one_lock(path, own->path))
		return kuf_error(-EBUSY, "%s is the source's own journal, not of who got the VM",
				 path);
	err = lock(path, &fd);
	if (err)
		return err;
	err = journal_read(&j, path);
	if (!err)
		err = take_back(&j, session, epoch);
	close(fd);
	return err;
}
