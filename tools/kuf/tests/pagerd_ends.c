// SPDX-License-Identifier: GPL-2.0
/*
 * One VM, whose pager is stopped, ends, does not come, or may not; and files that are not
 * whole.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "guest.h"
#include "pagerd_kills.h"
#include "recording.h"
#include "saved.h"
#include "snapshot.h"

#define RECORDING	"/tmp/kuf-pagerd-kills-recording"

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

	o.timeout_s = 5;
	await_pager();
	fake_said_reset();
	ok = fakevm_create(&fakes[0], &o) && !fakevm_start(&fakes[0], &o) &&
	     fakevm_touch(&fakes[0], 0, 50);
	end_pager(pager, SIGKILL);
	ok = ok && !vm_wait(&fakes[0].vm, PATIENCE_S) &&
	     fakes[0].vm.exit_code == KUF_EXIT_PAGER &&
	     strstr(fake_said(), "no pager listens at " SOCKET ": kuf pager --listen=SOCKET") &&
	     strstr(fake_said(), "no pager came to " SOCKET " in 5 s (--pager-timeout)");
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

	o.policy = (struct pager_policy){
		.kind = KUF_RECORDED, .replay = entries, .nr_replay = nr,
	};
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

/*
 * One file, several at a time, each with a reader of its own: as VMs without a pager in
 * common, or other processes.
 */
struct reader {
	pthread_t thread;
	unsigned int nr;
	u64 wrong, replies;
};

static void *read_file(void *arg)
{
	struct image *image = malloc(sizeof(*image));
	struct reader *r = arg;
	struct snapshot s;
	u64 page, i;

	r->wrong = !image || snapshot_open(&s, FILE_NAME);
	if (r->wrong)
		return NULL;
	snapshot_image(&s, image);
	for (i = 0; i < SAVED_PAGES / 4; i++) {
		struct kuf_request request = { .size = sizeof(request), .len = PAGE_SIZE };
		struct kuf_reply reply = { .size = sizeof(reply) };

		page = i * (2 * r->nr + 1) * 4099 % SAVED_PAGES;
		request.gpa = page * PAGE_SIZE;
		request.flags = i & 1 ? KUF_REQUEST_URGENT : 0;
		r->wrong += image_ops(image)->request(image, &request) ||
			    image_ops(image)->receive(image, &reply) ||
			    reply.gpa != request.gpa || reply.len != PAGE_SIZE;
		if (reply.type == KUF_REPLY_DATA)
			r->wrong += !saved_page_is(1, page, reply.data) ||
				    image_ops(image)->verify(image, &request, reply.data);
		else
			r->wrong += reply.type != KUF_REPLY_ZERO;
		r->replies++;
	}
	snapshot_close(&s);
	free(image);
	return NULL;
}

static void test_readers(void)
{
	struct reader readers[4] = {};
	int status = -1;
	unsigned int i;
	bool ok = true;
	pid_t pid;

	/* A process, before there are threads, and threads. */
	pid = fork();
	if (!pid) {
		readers[0].nr = 7;
		read_file(&readers[0]);
		_exit(readers[0].wrong || readers[0].replies != SAVED_PAGES / 4);
	}
	for (i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i].nr = i;
		ok = !pthread_create(&readers[i].thread, NULL, read_file, &readers[i]) && ok;
	}
	for (i = 0; ok && i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		ok = !readers[i].wrong && readers[i].replies == SAVED_PAGES / 4;
	}
	ok = waitpid(pid, &status, 0) == pid && !status && ok;
	ktap_result(ok, "readers-of-one-file");
}

void ends_test(void)
{
	test_readers();
	test_half_saved();
	test_refused();
	test_stopped();
	test_end_without();
	test_timeout();
	test_recorded();
}
