/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_CLIENT_H
#define KUF_TESTS_CLIENT_H

#include "fakevm.h"
#include "packet.h"
#include "pagerd.h"

/*
 * A pager in the process of its VMs, which speak for themselves: what they say can be
 * wrong.  Nothing happens but what is called, so that nothing depends on time.
 */
/* Pagers lock the directory; /tmp is locked by who runs the tests. */
#define DIRECTORY	"/tmp/kuf-pagerd-test"
#define SOCKET		DIRECTORY "/socket"
#define FILE_NAME	"/tmp/kuf-pagerd-saved"

extern struct pagerd d;

bool pager_open(u64 bandwidth, unsigned int max_vms);
/* Without waiting; some more than it takes do no harm. */
void pager_rounds(unsigned int n);

struct client {
	struct fakevm f;
	struct kuf *k;
	int uffd, file, shared, socket;
	struct {
		struct packet_hello hello;
		u8 bytes[KUF_EXPORT_MAX_BYTES + 8];
	} packet;
	size_t size;
	int fds[256];
	unsigned int nr_fds;
	struct pager_shared *map;
};

extern struct client one, two;

/* What kuf restore would say, and nothing said. */
bool client_new(struct client *c, unsigned int number);
void client_free(struct client *c);
void client_connect(struct client *c);
void client_hello(struct client *c);
/* HELLO, READY, GO. */
bool client_serves(struct client *c);
bool client_start(struct client *c, unsigned int number);
/* It hears this, and then nothing more. */
bool client_dropped(struct client *c, enum packet_type type);
/* @c has all of its memory fetched, whether or not it is waited for. */
bool client_eager(struct client *c, unsigned int number);
/* The next packet's type; 0: there is none, -1: the end, or no packet. */
int client_heard(struct client *c, struct packet *packet);
/* Asks, as a device that does not wait. */
void client_need(struct client *c, u64 page, u64 nr);
u64 client_filled(const struct client *c);
u64 client_wrong_pages(struct client *c);
int client_sealed_file(u64 size, int seals);

/* pagerd_hello.c: HELLOs that are refused. */
unsigned int hello_tests(void);
void hello_test(unsigned int i);

#endif /* KUF_TESTS_CLIENT_H */
