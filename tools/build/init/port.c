// SPDX-License-Identifier: GPL-2.0
/* The result port: the only way out for results. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

static int port_fd = -1;
static char out[8192];
static size_t out_len;

/* Ports are numbered in the order of their discovery; only the name is ours. */
static int find_port(char *dev, size_t size)
{
	const char *class = "/sys/class/virtio-ports";
	DIR *dir = opendir(class);
	struct dirent *de;
	int found = -ENOENT;

	if (!dir)
		return -errno;
	while (found && (de = readdir(dir))) {
		char path[512], name[64] = "";
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s/name", class, de->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) &&
		    !strcmp(strtok(name, "\n") ?: "", KUF_PORT_NAME)) {
			snprintf(dev, size, "/dev/%s", de->d_name);
			found = 0;
		}
		fclose(f);
	}
	closedir(dir);
	return found;
}

int port_open(void)
{
	char dev[300];
	int tries;

	/* The port's name arrives in a control message after the device is up. */
	for (tries = 0; tries < 500; tries++) {
		if (!find_port(dev, sizeof(dev))) {
			port_fd = open(dev, O_WRONLY | O_CLOEXEC);
			if (port_fd >= 0)
				return 0;
		}
		usleep(10000);
	}
	return -ENOENT;
}

void port_flush(void)
{
	size_t done = 0;

	while (done < out_len) {
		ssize_t n = write(port_fd, out + done, out_len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* Nobody can hear about results any more: the host sees a lost VM. */
			kmsg("kuf: result port: %s", strerror(errno));
			power_off();
		}
		done += n;
	}
	out_len = 0;
}

void port_write(const char *buf, size_t len)
{
	while (len) {
		size_t n = sizeof(out) - out_len;

		if (n > len)
			n = len;
		memcpy(out + out_len, buf, n);
		out_len += n;
		buf += n;
		len -= n;
		if (out_len == sizeof(out))
			port_flush();
	}
}

void port_printf(const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (len >= (int)sizeof(buf))
		len = sizeof(buf) - 1;
	port_write(buf, len);
	port_flush();
}
