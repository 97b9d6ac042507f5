// SPDX-License-Identifier: GPL-2.0
/*
 * kuf send: asks a VM that runs to move to another kuf.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "options.h"

enum { OPT_LATENCY = 256, OPT_RETRY, OPT_BANDWIDTH, OPT_HELP };

static const struct option long_options[] = {
	{ "latency", required_argument, NULL, OPT_LATENCY },
	{ "bandwidth", required_argument, NULL, OPT_BANDWIDTH },
	{ "retry", required_argument, NULL, OPT_RETRY },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char help[] =
"usage: kuf send SOCKET ADDRESS [OPTION...]\n"
"\n"
"Moves a VM that runs with --control=SOCKET to the kuf recv that listens at ADDRESS,\n"
"tcp:HOST:PORT or unix:PATH (HOST: a numeric address, IPv6 in brackets, or localhost).\n"
"The VM is paused, its state is sent, and it runs there at once; its memory follows\n"
"page by page, those that it needs first. kuf send ends when all of it is there, or\n"
"the guest has ended. Until the other kuf is ready and the VM is given up, whatever\n"
"fails leaves it running here. After that it never runs here again. If the network\n"
"fails then, the memory is kept here, and kuf recover goes on with the move.\n"
"\n"
"A disk has to be the same file on both sides.\n"
"\n"
"  --latency=US      reply to each request that the guest waits for so much later\n"
"                    (for tests; up to 10000000)\n"
"  --bandwidth=BYTES bytes a second for what nobody waits for, with K, M or G\n"
"  --retry=SEC       after the VM was given up: connect again by itself, for so long\n"
"                    after each cut, or in all while it cannot be started there (0)\n"
"\n"
"Nothing is encrypted, nor is it checked who the other side is: whoever can read the\n"
"connection has the guest's memory. Use it on a network that you trust, or through a\n"
"tunnel: ssh -L 4444:localhost:4444 HOST, and tcp:localhost:4444; or unix: addresses\n"
"through ssh -L PATH:PATH, or stunnel.\n"
"\n"
"Exit status: 0 it moved; 1 it did not, and runs on; 2 wrong usage; 7 it was given up,\n"
"and lost; 8 it was given up, and the connections were cut: kuf recover. The VM's kuf\n"
"says why.\n";

int control_set_address(struct control_request *request, const char *address)
{
	struct net_address to;

	if (strlen(address) >= sizeof(request->text))
		return kuf_error(0, "the address is too long");
	strcpy(request->text, address);
	return net_parse(&to, request->text);
}

static int parse(struct control_request *r, const char **socket, int argc, char **argv)
{
	unsigned int latency = 0, retry = 0;
	int option, err = 0;

	while (!err && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPT_LATENCY:
			err = options_parse_number("latency", optarg, 0, CONTROL_LATENCY_MAX,
						   &latency);
			break;
		case OPT_BANDWIDTH:
			err = options_parse_bandwidth(optarg, &r->bandwidth);
			break;
		case OPT_RETRY:
			err = options_parse_number("retry", optarg, 0, CONTROL_RETRY_MAX / 1000,
						   &retry);
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		default:
			fputs("kuf send --help shows all options\n", stderr);
			return -EINVAL;
		}
	}
	if (err)
		return err;
	if (optind + 2 != argc)
		return kuf_error(0, "SOCKET and ADDRESS are needed; kuf send --help says more");
	*socket = argv[optind];
	r->latency_us = latency;
	r->retry_ms = retry * 1000ull;
	return control_set_address(r, argv[optind + 1]);
}

int control_move(const char *socket, const struct control_request *request)
{
	struct control_reply reply;

	if (control_ask(socket, request, &reply))
		return KUF_EXIT_FAILED;
	if (!reply.err)
		return KUF_EXIT_OK;
	if (reply.recoverable) {
		kuf_error(reply.err, "given up, and connections cut: kuf recover %s goes on",
			  socket);
		return KUF_EXIT_CUT;
	}
	kuf_error(reply.err, reply.given_up ? "given up, and lost" :
		  request->op == CONTROL_SEND ? "not sent: it runs on" : "not recovered");
	return reply.given_up ? KUF_EXIT_LOST : KUF_EXIT_FAILED;
}

int cmd_send(int argc, char **argv)
{
	struct control_request request = { .op = CONTROL_SEND };
	const char *socket = NULL;
	int err;

	err = parse(&request, &socket, argc, argv);
	if (err)
		return err > 0 ? KUF_EXIT_OK : KUF_EXIT_USAGE;
	return control_move(socket, &request);
}
