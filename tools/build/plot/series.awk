# SPDX-License-Identifier: GPL-2.0
#
# Data files for paging.gp: rate-BACKING.dat (a row per number of vCPUs) and
# latency-BACKING.dat (a row per bucket, for one vCPU), with a column per mode
# and a headline that names it.
#
# usage: awk -f cells.awk -f series.awk -v dir=DIRECTORY result.ktap

function headline(b,	i, line)
{
	line = "x"
	for (i = 1; i <= nr_modes; i++)
		line = line " \"" modes[i] \
			(((modes[i], b, 1, "ns") in cell) ? "" : " (n/a)") "\""
	return line
}

function write_rates(b, file,	i, k, line)
{
	print headline(b) >file
	for (k = 1; k <= nr_sizes; k++) {
		line = "\"" sizes[k] " vCPU" (sizes[k] > 1 ? "s" : "") "\""
		for (i = 1; i <= nr_modes; i++)
			line = line " " (cell[modes[i], b, sizes[k], "pages_per_s"] + 0)
		print line >file
	}
	close(file)
}

function write_latencies(b, file,	i, n, first, last, line)
{
	first = 99
	last = 0
	for (i = 1; i <= nr_modes; i++) {
		read_hist(cell[modes[i], b, 1, "hist"])
		first = low < first ? low : first
		last = high > last ? high : last
		for (n = low; n <= high; n++)
			hist[modes[i], b, n] = count[n]
	}

	print headline(b) >file
	for (n = first; n <= last; n++) {
		line = "\"" bound(n) "\""
		for (i = 1; i <= nr_modes; i++)
			line = line " " (hist[modes[i], b, n] + 0)
		print line >file
	}
	close(file)
}

END {
	for (j = 1; j <= nr_backings; j++) {
		write_rates(backings[j], dir "/rate-" backings[j] ".dat")
		write_latencies(backings[j], dir "/latency-" backings[j] ".dat")
	}
}
