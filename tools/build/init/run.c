// SPDX-License-Identifier: GPL-2.0
/* Runs one test and says how it ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define EXIT_SKIP	4	/* KSFT_SKIP */
#define EXIT_NO_EXEC	127

/* A process that is just exiting is no leftover. */
#define LEFTOVER_GRACE_MS	500

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

__attribute__((noreturn)) static void exec_test(struct test *test, int out)
{
	int null = open("/dev/null", O_RDONLY);
	char path[512];

	setsid();
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	if (test->argv[0][0] == '/')
		snprintf(path, sizeof(path), "%s", test->argv[0]);
	else
		snprintf(path, sizeof(path), KUF_TESTS_DIR "/bin/%s", test->argv[0]);
	/* The selftests load their guest code from the file that argv[0] names. */
	test->argv[0] = path;
	execv(path, test->argv);
	dprintf(2, "init: cannot run %s: %s\n", path, strerror(errno));
	_exit(EXIT_NO_EXEC);
}

/* Everything that is in the pipe now; false when its last writer is gone. */
static bool drain(int fd)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		relay_feed(buf, n);
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* True when the test ended before @deadline. The pipe is never left full. */
static bool wait_for_test(int pidfd, int out, double deadline)
{
	struct pollfd fds[] = {
		{ .fd = pidfd, .events = POLLIN },
		{ .fd = out, .events = POLLIN },
	};

	for (;;) {
		double left = deadline - now();

		if (left <= 0)
			return false;
		if (poll(fds, 2, left * 1000 + 1) < 0)
			continue;
		if (fds[1].revents && !drain(out))
			fds[1].fd = -1;
		if (fds[0].revents)
			return true;
	}
}

static void judge_status(const struct test *test, int status, struct result *res)
{
	if (WIFSIGNALED(status)) {
		res->outcome = FAILED;
		snprintf(res->reason, sizeof(res->reason), "SIGNAL %d", WTERMSIG(status));
	} else if (WEXITSTATUS(status) == EXIT_SKIP) {
		/*
		 * A test that quietly stopped applying is how coverage is lost:
		 * only a line that says so may skip.
		 */
		res->outcome = test->may_skip ? SKIPPED : FAILED;
		strcpy(res->reason, test->may_skip ? "SKIP" : "UNEXPECTED-SKIP");
	} else if (WEXITSTATUS(status)) {
		res->outcome = FAILED;
		snprintf(res->reason, sizeof(res->reason), "EXIT %d", WEXITSTATUS(status));
	}
}

/* Waits for stragglers, reading on so that none of them blocks on the pipe. */
static void check_leftovers(int out, struct result *res)
{
	double deadline = now() + LEFTOVER_GRACE_MS / 1000.0;
	char who[80];

	while (procs_left(who, sizeof(who))) {
		drain(out);
		if (now() > deadline) {
			procs_describe();
			if (res->outcome != FAILED)
				snprintf(res->reason, sizeof(res->reason), "LEFTOVER %s", who);
			res->outcome = FAILED;
			return;
		}
		usleep(10000);
	}
}

static void setup_failed(struct result *res, const char *what, int err)
{
	res->outcome = FAILED;
	snprintf(res->reason, sizeof(res->reason), "SETUP %s: %s", what, strerror(err));
}

void run_test(struct test *test, int scale, struct result *res)
{
	int pipefd[2], pidfd, status = 0;
	double start = now();
	char who[80];
	bool ended;
	pid_t pid;

	*res = (struct result){ .outcome = PASSED };
	if (test->hugepages && set_hugepages(test->hugepages)) {
		setup_failed(res, "huge pages", ENOMEM);
		goto out_hugepages;
	}
	if (pipe2(pipefd, O_CLOEXEC)) {
		setup_failed(res, "pipe", errno);
		goto out_hugepages;
	}
	fcntl(pipefd[0], F_SETFL, O_NONBLOCK);

	pid = fork();
	if (!pid)
		exec_test(test, pipefd[1]);
	close(pipefd[1]);
	if (pid < 0) {
		setup_failed(res, "fork", errno);
		goto out_pipe;
	}
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		setup_failed(res, "pidfd_open", errno);
		procs_kill_all(who, sizeof(who));
		goto out_pipe;
	}

	relay_start();
	ended = wait_for_test(pidfd, pipefd[0], start + (double)test->timeout_s * scale);
	res->seconds = now() - start;
	if (ended) {
		waitpid(pid, &status, 0);
		judge_status(test, status, res);
		check_leftovers(pipefd[0], res);
	} else {
		res->outcome = FAILED;
		strcpy(res->reason, "TIMEOUT");
		procs_describe();
	}
	if (procs_kill_all(who, sizeof(who))) {
		res->outcome = FAILED;
		snprintf(res->reason, sizeof(res->reason), "STUCK %s", who);
		procs_describe();
	}
	drain(pipefd[0]);
	relay_finish();
	close(pidfd);
out_pipe:
	close(pipefd[0]);
out_hugepages:
	if (test->hugepages)
		set_hugepages(0);
}
