// SPDX-License-Identifier: GPL-2.0
/*
 * Where others connect, when there is no room for them: that is told, once, nobody is closed
 * twice, nobody waits with all of a CPU, and who came is taken in later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "guest.h"
#include "lobby.h"
#include "net.h"

#define SOCKET		"/tmp/kuf-lobby-test"
#define CONTROL		"/tmp/kuf-lobby-control"

static unsigned int told;	/* what to do about it */

int kuf_error(int err, const char *fmt, ...)
{
	if (strstr(fmt, "ulimit -n"))
		__atomic_fetch_add(&told, 1, __ATOMIC_SEQ_CST);
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

static unsigned int no_room, tries, no_memory, closed_twice;

typeof(accept4) __real_accept4;

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	__atomic_fetch_add(&tries, 1, __ATOMIC_SEQ_CST);
	if (!READ_ONCE(no_room))
		return __real_accept4(fd, address, len, flags);
	errno = EMFILE;
	return -1;
}

typeof(malloc) __real_malloc;

/* For what is as large as the buffers of a connection. */
void *__wrap_malloc(size_t size)
{
	if (no_memory && size > 100000)
		return NULL;
	return __real_malloc(size);
}

typeof(close) __real_close;

int __wrap_close(int fd)
{
	int err = __real_close(fd);

	closed_twice += err && errno == EBADF;
	return err;
}

static struct lobby lobby;
static struct net_address at;
static struct lobby_guest guest = { .role = PROTO_MAIN, .name = "main", .watch_fd = -1 };

static int wait_for_one(int timeout_ms)
{
	struct stream s = { .fd = -1 };
	struct proto_hello hello;
	int err = lobby_wait(&lobby, &guest, &s, &hello, timeout_ms);

	stream_close(&s);
	return err;
}

static void test_lobby(void)
{
	struct proto_hello hello = { .role = PROTO_MAIN, .required = PROTO_REQUIRED };
	struct stream s = { .fd = -1 };
	int fd;

	unlink(SOCKET);
	net_parse(&at, "unix:" SOCKET);
	lobby_open(&lobby, net_listen(&at), -1);

	fd = net_connect(&at, 1000, -1);
	no_memory = 1;
	ktap_result(fd >= 0 && wait_for_one(100) == -ETIMEDOUT && !closed_twice, "no-memory");
	no_memory = 0;
	close(fd);

	fd = net_connect(&at, 1000, -1);
	tries = 0;
	no_room = 1;
	ktap_result(fd >= 0 && wait_for_one(500) == -ETIMEDOUT && tries && tries <= 20, "no-room");
	printf("# %u tries, told %u times\n", tries, told);
	ktap_result(told == 1, "no-room-is-told");
	no_room = 0;
	stream_open(&s, fd, "test", 0, -1);
	ktap_result(!stream_send(&s, PROTO_HELLO, &hello, sizeof(hello), 1000) &&
		    !wait_for_one(10000), "room-again");
	stream_close(&s);
	lobby_close(&lobby);
	net_unlisten(&at, lobby.listen_fd);
}

static int ask(void)
{
	struct control_request request = { .op = CONTROL_STATUS };
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	control_address(&address, CONTROL);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    send(fd, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		return -1;
	return fd;
}

static void test_control(void)
{
	static struct machine machine;
	static struct control control;
	struct control_reply reply;
	int fd;

	unlink(CONTROL);
	machine_init(&machine);
	machine.coming = MACHINE_LISTENS;
	tries = 0;
	no_room = 1;
	fd = control_start(&control, &machine, CONTROL) ? -1 : ask();
	usleep(500000);
	printf("# %u tries\n", READ_ONCE(tries));
	ktap_result(fd >= 0 && READ_ONCE(tries) <= 20 && READ_ONCE(told) == 1, "control-no-room");
	__atomic_store_n(&no_room, 0, __ATOMIC_SEQ_CST);
	ktap_result(recv(fd, &reply, sizeof(reply), 0) == sizeof(reply) && !reply.err,
		    "control-room-again");
	close(fd);
	control_stop(&control);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	ktap_plan(6);
	test_lobby();
	test_control();
	return ktap_end();
}
