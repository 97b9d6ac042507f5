# SPDX-License-Identifier: GPL-2.0
#
# Histograms of how long the guest's first access to a page took, as bars, in
# the buckets that QEMU's "query-migrate" has.
#
# usage: awk -f cells.awk -f histogram.awk [-v only=VCPUS] result.ktap

function bar(n, max,	s, len)
{
	len = int(40 * n / max + 0.5)
	if (n && !len)
		len = 1
	s = n ? " " : ""
	while (len--)
		s = s "#"
	return s
}

function show(m, b, v,	n, max)
{
	read_hist(cell[m, b, v, "hist"])
	max = 1
	for (n = low; n <= high; n++)
		if (count[n] > max)
			max = count[n]
	printf "%s, %s, %s vCPU%s: median %d us, 99 %% below %d us\n", m, b, v,
	       (v > 1 ? "s" : ""), cell[m, b, v, "p50_ns"] / 1000,
	       cell[m, b, v, "p99_ns"] / 1000 + 1
	for (n = low; n <= high; n++)
		printf "  [ %6s - %6s ]: %6d%s\n", bound(n), bound(n + 1), count[n],
		       bar(count[n], max)
	printf "\n"
}

END {
	printf "How long the guest's first access to a page took (number of pages)\n\n"
	for (j = 1; j <= nr_backings; j++)
		for (k = 1; k <= nr_sizes; k++)
			for (i = 1; i <= nr_modes; i++)
				if ((!only || sizes[k] == only) &&
				    (modes[i], backings[j], sizes[k], "hist") in cell)
					show(modes[i], backings[j], sizes[k])
}
