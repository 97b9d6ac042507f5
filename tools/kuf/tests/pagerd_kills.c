// SPDX-License-Identifier: GPL-2.0
/*
 * kuf pager is killed, stopped and started again while VMs work, which have no KVM: each
 * page has its content, comes once, and stays what the guest made of it.
 *
 * Arguments: how many rounds (12).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "fakevm.h"
#include "file.h"
#include "guest.h"
#include "pagerd.h"
#include "recording.h"
#include "saved.h"

#define SOCKET		"/tmp/kuf-pagerd-kills"
#define FILE_NAME	"/tmp/kuf-pagerd-kills-saved"
#define RECORDING	"/tmp/kuf-pagerd-kills-recording"
#define NOBODY		65534
#define VMS		3
#define WORK		1500	/* pages that a vCPU touches */
#define PATIENCE_S	60

static u64 random_state = 1;

static u64 next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/*
 * The pager, which is this program again.
 */
static int run_pager(const char *user)
{
	struct pagerd_options o = { .path = SOCKET, .max_vms = 8 };
	struct pagerd d;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (user && setuid(atoi(user)))
		return 1;
	err = pagerd_open(&d, &o);
	if (!err)
		err = pagerd_catch_signals(&d);
	/* Others are to be refused by what they check themselves. */
	if (!err && user)
		err = chmod(SOCKET, 0666) ? -errno : 0;
	while (!err)
		err = pagerd_round(&d, -1);
	pagerd_close(&d);
	return err < 0;
}

static pid_t start_pager(const char *user)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/proc/self/exe", "kuf_pagerd_kills_test", "pager", user, NULL);
		_exit(1);
	}
	return pid;
}

/* It listens; not the one before, whose socket may be there still. */
static void await_pager(void)
{
	struct sockaddr_un address;
	int i, fd, err = -1;

	control_address(&address, SOCKET);
	for (i = 0; i < 20000 && err; i++) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		err = connect(fd, (struct sockaddr *)&address, sizeof(address));
		close(fd);
		if (err)
			usleep(1000);
	}
}

static int end_pager(pid_t pid, int how)
{
	int status = -1;

	kill(pid, how);
	waitpid(pid, &status, 0);
	return status;
}

/*
 * Guests: a page belongs to one of the vCPUs, which checks what it finds, and writes.
 */
struct vcpu_thread {
	pthread_t thread;
	struct fakevm *f;
	unsigned int nr;
	u64 seed, wrong, touched;
	bool done;
};

static struct fakevm fakes[VMS];
static struct vcpu_thread vcpus[VMS][2];

static u64 *page_of(struct fakevm *f, u64 page)
{
	return (u64 *)(f->vm.mem.area + page * PAGE_SIZE);
}

#define MARK(page)	(~(page) * 31)

/* Zeroes are written to as well. */
static bool is_marked(struct fakevm *f, u64 page)
{
	u64 copy[PAGE_SIZE / sizeof(u64)], *p = page_of(f, page), saved = p[7];
	bool ok;

	if (p[9] != MARK(page))
		return false;
	memcpy(copy, p, PAGE_SIZE);
	/* What was there is kept in another word. */
	copy[9] = saved ^ MARK(page);
	copy[7] = copy[8] ? copy[8] - 1 : 0;
	ok = saved_page_is(f->number, page, copy);
	return ok;
}

static void mark(struct fakevm *f, u64 page)
{
	u64 *p = page_of(f, page);

	p[7] = p[9] ^ MARK(page);
	__atomic_store_n(&p[9], MARK(page), __ATOMIC_RELEASE);
}

static void *run_vcpu(void *arg)
{
	struct vcpu_thread *v = arg;
	u64 x = v->seed, page;
	unsigned int i;

	for (i = 0; i < WORK; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		page = (x >> 33) % (SAVED_PAGES / 2) * 2 + v->nr;
		/* Some as a device would: those wait on the page's word. */
		if (x >> 62) {
			if (!fakevm_touch(v->f, v->nr, page))
				break;
		} else if (pager_access(&v->f->pager, page * PAGE_SIZE, PAGE_SIZE, true)) {
			break;
		}
		if (page_of(v->f, page)[9] == MARK(page)) {
			v->wrong += !is_marked(v->f, page);
		} else {
			v->wrong += !saved_page_is(v->f->number, page, page_of(v->f, page));
			mark(v->f, page);
		}
		v->touched++;
	}
	__atomic_store_n(&v->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void start_vcpus(unsigned int vm)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		vcpus[vm][i] = (struct vcpu_thread){ .f = &fakes[vm], .nr = i,
						     .seed = next_random() };
		pthread_create(&vcpus[vm][i].thread, NULL, run_vcpu, &vcpus[vm][i]);
	}
}

static bool vcpus_done(unsigned int nr_vms)
{
	unsigned int i;

	for (i = 0; i < 2 * nr_vms; i++) {
		if (!__atomic_load_n(&vcpus[i / 2][i % 2].done, __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

/* All that is there: as it was saved, or as the guest left it. */
static u64 wrong_pages(struct fakevm *f)
{
	u64 page, wrong = 0;

	for (page = 0; page < SAVED_PAGES; page++) {
		if (!fakevm_present(f, page))
			continue;
		wrong += !saved_page_is(f->number, page, page_of(f, page)) && !is_marked(f, page);
	}
	return wrong;
}

static bool all_present(struct fakevm *f)
{
	u64 page;

	for (page = 0; page < SAVED_PAGES; page++) {
		if (!fakevm_present(f, page))
			return false;
	}
	return true;
}

static u64 deaths, ends, lost, recovered;

/* Until the guests have done their work, and for @least deaths. */
static pid_t kill_pagers(pid_t pager, unsigned int nr_vms, int how, unsigned int least)
{
	time_t end = time(NULL) + PATIENCE_S;
	unsigned int n = 0;

	while ((n < least || !vcpus_done(nr_vms)) && time(NULL) < end) {
		usleep(next_random() % 20000);
		end_pager(pager, how);
		n++;
		/* Now and then it stays away for a while. */
		if (next_random() % 3 == 0)
			usleep(next_random() % 50000);
		pager = start_pager(NULL);
		await_pager();
		/* Long enough to be found, or nothing would ever be done. */
		usleep(60000 + next_random() % 60000);
	}
	*(how == SIGKILL ? &deaths : &ends) += n;
	return pager;
}

static const struct {
	const char *name;
	enum mem_backing backing;
	enum kuf_policy_kind kind;
	unsigned int nr_vms;
	int how;
} kinds[] = {
	{ "lazy", MEM_SHMEM, KUF_LAZY, 1, SIGKILL },
	{ "lazy-anon", MEM_ANON, KUF_LAZY, 2, SIGKILL },
	{ "background", MEM_SHMEM, KUF_EAGER, 1, SIGKILL },
	{ "background-anon", MEM_ANON, KUF_EAGER, 3, SIGKILL },
	{ "terminated", MEM_SHMEM, KUF_EAGER, 2, SIGTERM },
	{ "terminated-lazy", MEM_ANON, KUF_LAZY, 1, SIGTERM },
};

static bool end_vm(unsigned int i, unsigned int kind, u64 *uncounted)
{
	struct kuf_stats stats = { .size = sizeof(stats) }, own = stats;
	struct vcpu_thread *v = vcpus[i];
	struct fakevm *f = &fakes[i];
	struct kuf_report r;
	bool ok = true;
	int err;

	if (kinds[kind].kind == KUF_EAGER) {
		time_t end = time(NULL) + PATIENCE_S;

		while (!all_present(f) && time(NULL) < end)
			usleep(1000);
		ok = all_present(f);
	}
	err = fakevm_stop(f);
	pthread_join(v[0].thread, NULL);
	pthread_join(v[1].thread, NULL);
	pager_report(&f->pager, &r);
	remote_add_stats(&f->pager, &stats, uncounted);
	lost += *uncounted;
	kuf_get_stats(f->pager.k, &own);
	recovered += own.recovered;
	ok = ok && !err && !r.wrong && v[0].done && v[1].done && v[0].touched == WORK &&
	     v[1].touched == WORK && !v[0].wrong && !v[1].wrong && !wrong_pages(f) && !r.failed;
	if (!ok)
		printf("# VM %u: %d, %llu wrong, %llu + %llu touched, %llu + %llu wrong; %s\n", i, err,
		       (unsigned long long)r.wrong, (unsigned long long)v[0].touched,
		       (unsigned long long)v[1].touched, (unsigned long long)v[0].wrong,
		       (unsigned long long)v[1].wrong, fake_said());
	fakevm_destroy(f);
	return ok;
}

static void test_kills(unsigned int round)
{
	unsigned int kind = round % ARRAY_SIZE(kinds), i;
	struct fakevm_options o = {
		.number = 1, .file = FILE_NAME, .socket = SOCKET, .timeout_s = PATIENCE_S,
		.backing = kinds[kind].backing, .policy.kind = kinds[kind].kind,
	};
	u64 before = deaths, uncounted;
	bool ok = true;
	pid_t pager;

	fake_said_reset();
	pager = start_pager(NULL);
	await_pager();
	for (i = 0; i < kinds[kind].nr_vms; i++) {
		ok = fakevm_create(&fakes[i], &o) && !fakevm_start(&fakes[i], &o) && ok;
		start_vcpus(i);
	}
	pager = kill_pagers(pager, kinds[kind].nr_vms, kinds[kind].how, 2);
	for (i = 0; i < kinds[kind].nr_vms; i++) {
		ok = end_vm(i, kind, &uncounted) && ok;
		/* Who ends in order tells all; who is killed, all but his last round. */
		ok = ok && uncounted <= (deaths - before) * (PAGERD_CHUNK + 2 * PAGERD_URGENT);
	}
	end_pager(pager, SIGKILL);
	unlink(SOCKET);
	ktap_result(ok, "kills-%s-%u", kinds[kind].name, round);
}

/*
 * One VM, and one page now and then.
 */
static struct fakevm_options simple = {
	.number = 1, .file = FILE_NAME, .socket = SOCKET, .timeout_s = PATIENCE_S,
	.backing = MEM_SHMEM,
};

struct toucher {
	pthread_t thread;
	u64 page;
	bool done;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	fakevm_touch(&fakes[0], 0, t->page);
	__atomic_store_n(&t->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool begin_touch(struct toucher *t, u64 page)
{
	*t = (struct toucher){ .page = page };
	return !pthread_create(&t->thread, NULL, touch, t);
}

static bool becomes(enum remote_state state)
{
	time_t end = time(NULL) + PATIENCE_S;
	struct remote_status s;

	do {
		remote_get_status(&fakes[0].pager, &s);
		if (s.state == state)
			return true;
		usleep(5000);
	} while (time(NULL) < end);
	return false;
}

/* It does not answer, which can be seen, and nothing else happens. */
static void test_stopped(void)
{
	pid_t pager = start_pager(NULL);
	struct remote_status s = {};
	struct toucher t;
	bool ok;

	await_pager();
	ok = fakevm_create(&fakes[0], &simple) && !fakevm_start(&fakes[0], &simple) &&
	     fakevm_touch(&fakes[0], 0, 50) && becomes(REMOTE_SERVES) && !kill(pager, SIGSTOP);
	ok = ok && begin_touch(&t, 51) && becomes(REMOTE_SILENT) && !READ_ONCE(t.done);
	remote_get_status(&fakes[0].pager, &s);
	ok = ok && s.pid == pager && s.pagers == 1 && !strcmp(s.path, SOCKET) &&
	     !kill(pager, SIGCONT) && becomes(REMOTE_SERVES) && !pthread_join(t.thread, NULL) &&
	     saved_page_is(1, 51, page_of(&fakes[0], 51));
	ktap_result(ok, "stopped");

	/* One that is stopped before it has taken the VM in. */
	end_pager(pager, SIGKILL);
	ok = ok && becomes(REMOTE_GONE);
	pager = start_pager(NULL);
	await_pager();
	kill(pager, SIGSTOP);
	ok = ok && begin_touch(&t, 61);
	if (becomes(REMOTE_SILENT)) {
		remote_get_status(&fakes[0].pager, &s);
		ok = ok && s.pid == pager && !READ_ONCE(t.done);
	}
	kill(pager, SIGCONT);
	ok = ok && !pthread_join(t.thread, NULL) && becomes(REMOTE_SERVES) &&
	     saved_page_is(1, 61, page_of(&fakes[0], 61));
	ktap_result(ok, "stopped-early");

	/* Stopped and killed: its successor goes on. */
	kill(pager, SIGSTOP);
	ok = begin_touch(&t, 52);
	usleep(20000);
	end_pager(pager, SIGKILL);
	ok = ok && becomes(REMOTE_GONE);
	pager = start_pager(NULL);
	ok = ok && !pthread_join(t.thread, NULL) && becomes(REMOTE_SERVES);
	remote_get_status(&fakes[0].pager, &s);
	ok = ok && s.pid == pager && s.pagers == 3 && saved_page_is(1, 52, page_of(&fakes[0], 52));
	ok = !fakevm_stop(&fakes[0]) && ok && !wrong_pages(&fakes[0]);
	fakevm_destroy(&fakes[0]);
	end_pager(pager, SIGKILL);
	unlink(SOCKET);
	ktap_result(ok, "stopped-and-killed");
}

/* One that does not answer at all when a VM ends, too. */
static void test_end_without(void)
{
	pid_t pager = start_pager(NULL);
	bool ok;

	await_pager();
	ok = fakevm_create(&fakes[0], &simple) && !fakevm_start(&fakes[0], &simple) &&
	     fakevm_touch(&fakes[0], 0, 50) && !kill(pager, SIGSTOP);
	ok = !fakevm_stop(&fakes[0]) && ok;
	fakevm_destroy(&fakes[0]);
	end_pager(pager, SIGKILL);
	unlink(SOCKET);
	ktap_result(ok, "end-while-stopped");

	pager = start_pager(NULL);
	await_pager();
	ok = fakevm_create(&fakes[0], &simple) && !fakevm_start(&fakes[0], &simple) &&
	     fakevm_touch(&fakes[0], 0, 50);
	end_pager(pager, SIGKILL);
	ok = ok && becomes(REMOTE_GONE);
	ok = !fakevm_stop(&fakes[0]) && ok;
	fakevm_destroy(&fakes[0]);
	unlink(SOCKET);
	ktap_result(ok, "end-while-gone");
}

static void test_timeout(void)
{
	struct fakevm_options o = simple;
	pid_t pager = start_pager(NULL);
	bool ok;

	o.timeout_s = 1;
	await_pager();
	fake_said_reset();
	ok = fakevm_create(&fakes[0], &o) && !fakevm_start(&fakes[0], &o) &&
	     fakevm_touch(&fakes[0], 0, 50);
	end_pager(pager, SIGKILL);
	ok = ok && !vm_wait(&fakes[0].vm, PATIENCE_S) &&
	     fakes[0].vm.exit_code == KUF_EXIT_PAGER &&
	     strstr(fake_said(), "no pager listens at " SOCKET ": kuf pager --listen=SOCKET") &&
	     strstr(fake_said(), "no pager came to " SOCKET " in 1 s (--pager-timeout)");
	ok = fakevm_stop(&fakes[0]) == -EIO && ok;
	fakevm_destroy(&fakes[0]);
	if (!ok)
		printf("# %d, %s\n", fakes[0].vm.exit_code, fake_said());
	ktap_result(ok, "timeout");
}

/* There has to be one at the beginning, and one's own. */
static void test_refused(void)
{
	struct fakevm_options o = simple;
	bool ok;
	pid_t pager;

	unlink(SOCKET);
	fake_said_reset();
	ok = fakevm_create(&fakes[0], &o) && fakevm_start(&fakes[0], &o) == -ENOENT &&
	     strstr(fake_said(), "no pager listens at " SOCKET);
	fakevm_stop(&fakes[0]);
	fakevm_destroy(&fakes[0]);
	ktap_result(ok, "no-pager");

	pager = start_pager(NULL);
	await_pager();
	o.number = 2;
	fake_said_reset();
	ok = fakevm_create(&fakes[0], &o) && fakevm_start(&fakes[0], &o) == -EBADMSG &&
	     strstr(fake_said(), "another VM's");
	fakevm_stop(&fakes[0]);
	fakevm_destroy(&fakes[0]);
	end_pager(pager, SIGKILL);
	unlink(SOCKET);
	ktap_result(ok, "other-file");

	if (geteuid()) {
		ktap_skip("not root", "pager-of-other-user");
		return;
	}
	pager = start_pager("65534");
	await_pager();
	fake_said_reset();
	ok = fakevm_create(&fakes[0], &simple) && fakevm_start(&fakes[0], &simple) == -EPERM &&
	     strstr(fake_said(), "is user 65534's: start it as this one, or root");
	fakevm_stop(&fakes[0]);
	fakevm_destroy(&fakes[0]);
	end_pager(pager, SIGKILL);
	unlink(SOCKET);
	ktap_result(ok, "pager-of-other-user");
}

/* Though nobody waits for it. */
static bool comes(u64 page)
{
	time_t end = time(NULL) + PATIENCE_S;

	while (!fakevm_present(&fakes[0], page) && time(NULL) < end)
		usleep(1000);
	return fakevm_present(&fakes[0], page);
}

/* What one run needed the next one gets first, with a pager that changes meanwhile. */
static void test_recorded(void)
{
	struct fakevm_options o = simple;
	struct kuf_trace_entry *entries = NULL;
	struct kuf_report r = {};
	pid_t pager = start_pager(NULL);
	u64 nr = 0, i;
	bool ok;

	await_pager();
	o.policy.record = RECORDING;
	ok = fakevm_create(&fakes[0], &o) && !fakevm_start(&fakes[0], &o);
	for (i = 0; ok && i < 300; i++) {
		ok = fakevm_touch(&fakes[0], 0, i * 37 % SAVED_PAGES);
		if (i != 150)
			continue;
		end_pager(pager, SIGTERM);
		pager = start_pager(NULL);
	}
	ok = !fakevm_stop(&fakes[0]) && ok && !pager_write_recording(&fakes[0].pager);
	fakevm_destroy(&fakes[0]);
	ok = ok && !recording_read(RECORDING, &entries, &nr) && nr == 300;
	for (i = 0; ok && i < nr; i++)
		ok = entries[i].gpa == i * 37 % SAVED_PAGES * PAGE_SIZE;
	ktap_result(ok, "recorded");

	o.policy = (struct pager_policy){ .kind = KUF_RECORDED, .replay = entries, .nr_replay = nr };
	ok = ok && fakevm_create(&fakes[0], &o) && !fakevm_start(&fakes[0], &o);
	for (i = 0; ok && i < nr; i++) {
		ok = comes(entries[i].gpa / PAGE_SIZE);
		if (i != 100)
			continue;
		end_pager(pager, SIGKILL);
		pager = start_pager(NULL);
	}
	ok = !fakevm_stop(&fakes[0]) && ok;
	pager_report(&fakes[0].pager, &r);
	ok = ok && r.present == 300 && !r.demand && r.working_set_ns && !wrong_pages(&fakes[0]);
	fakevm_destroy(&fakes[0]);
	free(entries);
	unlink(RECORDING);
	end_pager(pager, SIGKILL);
	unlink(SOCKET);
	ktap_result(ok, "replayed");
}

/* A save that was killed leaves nothing of that name, and what it leaves is no saved VM. */
static void test_half_saved(void)
{
	static const char name[] = "/tmp/kuf-pagerd-half";
	struct frame_file head;
	struct snapshot s;
	struct file_new f;
	int pipes[2], fd;
	char tmp[PATH_MAX] = "";
	bool ok;
	pid_t pid;

	unlink(name);
	ok = !pipe(pipes);
	pid = fork();
	if (!pid) {
		if (file_new_begin(&f, name) || ftruncate(f.fd, 1 << 20) ||
		    pwrite(f.fd, name, sizeof(name), sizeof(head)) < 0 ||
		    write(pipes[1], f.tmp, sizeof(f.tmp)) < 0)
			_exit(1);
		pause();
	}
	ok = ok && read(pipes[0], tmp, sizeof(tmp)) > 0;
	end_pager(pid, SIGKILL);
	fake_said_reset();
	ok = ok && access(name, F_OK) && snapshot_open(&s, tmp) &&
	     strstr(fake_said(), "or one that was not written to its end");
	snapshot_close(&s);
	unlink(tmp);
	close(pipes[0]);
	close(pipes[1]);
	ktap_result(ok, "half-saved");

	/* And one that was cut off later, while VMs get their pages from it. */
	saved_make(name, 1);
	fd = open(name, O_RDWR);
	ok = !snapshot_open(&s, name);
	if (ok) {
		struct image image;
		u8 page[PAGE_SIZE] __attribute__((aligned(8)));

		snapshot_image(&s, &image);
		ok = !image_read_page(&image, 70 * PAGE_SIZE, page) && saved_page_is(1, 70, page) &&
		     !ftruncate(fd, saved_page_at(name, 70) + 100);
		fake_said_reset();
		ok = ok && image_read_page(&image, 70 * PAGE_SIZE, page) == -ENODATA &&
		     strstr(fake_said(), "offset 0x46000") &&
		     !image_read_page(&image, 69 * PAGE_SIZE, page);
	}
	snapshot_close(&s);
	fake_said_reset();
	ok = ok && snapshot_open(&s, name) && strstr(fake_said(), "bytes long instead of");
	snapshot_close(&s);
	close(fd);
	unlink(name);
	ktap_result(ok, "cut-off");
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? atoi(argv[1]) : 12, i;

	if (argc > 1 && !strcmp(argv[1], "pager"))
		return run_pager(argc > 2 ? argv[2] : NULL);
	unlink(SOCKET);
	if (!saved_make(FILE_NAME, 1)) {
		printf("Bail out! no " FILE_NAME "\n");
		return 1;
	}
	ktap_plan(13 + rounds);
	test_half_saved();
	test_refused();
	test_stopped();
	test_end_without();
	test_timeout();
	test_recorded();
	for (i = 0; i < rounds; i++)
		test_kills(i);
	printf("# %llu pagers killed, %llu told to end; %llu claims of the dead, %llu pages not counted\n",
	       (unsigned long long)deaths, (unsigned long long)ends,
	       (unsigned long long)recovered, (unsigned long long)lost);
	unlink(FILE_NAME);
	return ktap_end();
}
