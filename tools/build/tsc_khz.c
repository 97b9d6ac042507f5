// SPDX-License-Identifier: GPL-2.0
/*
 * Prints this machine's TSC frequency in kHz, as measured. boot.sh hands it to
 * the test VM's kernel, which cannot find it out itself: the VM has no ACPI and
 * so no HPET or PM timer to compare with, and counting against the PIT fails
 * under emulation.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
	uint64_t tsc;
	uint64_t ns;
};

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* Of some readings the one that was disturbed least. */
static struct sample sample(void)
{
	struct sample best = { 0, 0 };
	uint64_t shortest = UINT64_MAX;
	int i;

	for (i = 0; i < 100; i++) {
		uint64_t before = __rdtsc();
		uint64_t ns = clock_ns();
		uint64_t after = __rdtsc();

		if (after - before < shortest) {
			shortest = after - before;
			best = (struct sample){ before + shortest / 2, ns };
		}
	}
	return best;
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	struct sample from, to;

	from = sample();
	nanosleep(&pause, NULL);
	to = sample();
	printf("%.0f\n", (double)(to.tsc - from.tsc) * 1e6 / (to.ns - from.ns));
	return 0;
}
