// SPDX-License-Identifier: GPL-2.0
/*
 * kuf pager is killed, stopped and started again while VMs work, which have no KVM: each
 * page has its content, comes once, and stays what the guest made of it.
 *
 * Arguments: how many rounds (12).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "pagerd.h"
#include "pagerd_kills.h"
#include "random.h"
#include "saved.h"

#define WORK		1500	/* pages that a vCPU touches */

/* A page belongs to one of the vCPUs, which checks what it finds, and writes. */
struct vcpu_thread {
	pthread_t thread;
	struct fakevm *f;
	unsigned int nr;
	u64 seed, wrong, touched;
	bool done;
};

static struct vcpu_thread vcpus[VMS][2];

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
			mark_page(v->f, page);
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

/* All VMs have that pager. */
static void await_service(pid_t pager, unsigned int nr_vms)
{
	time_t end = time(NULL) + PATIENCE_S;
	struct remote_status s;
	unsigned int i;

	for (i = 0; i < nr_vms && time(NULL) < end;) {
		usleep(1000);
		remote_get_status(&fakes[i].pager, &s);
		i += s.pid == pager && s.state == REMOTE_SERVES;
	}
}

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
		/* Found for the most part, or nothing would ever be done. */
		if (next_random() % 4)
			await_service(pager, nr_vms);
		usleep(next_random() % 60000);
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
		printf("# VM %u: %d, %llu wrong, %llu + %llu touched, %llu + %llu wrong; %s\n",
		       i, err,
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

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? atoi(argv[1]) : 12, i;

	if (argc > 1 && !strcmp(argv[1], "pager"))
		return run_pager(argc > 2 ? argv[2] : NULL);
	if (!saved_directory(DIRECTORY, SOCKET) || !saved_make(FILE_NAME, 1)) {
		printf("Bail out! no " FILE_NAME "\n");
		return 1;
	}
	ktap_plan(ENDS_RESULTS + rounds);
	ends_test();
	for (i = 0; i < rounds; i++)
		test_kills(i);
	printf("# %llu pagers killed, %llu ended; %llu claims of the dead, %llu not counted\n",
	       (unsigned long long)deaths, (unsigned long long)ends,
	       (unsigned long long)recovered, (unsigned long long)lost);
	unlink(FILE_NAME);
	rmdir(DIRECTORY);
	return ktap_end();
}
