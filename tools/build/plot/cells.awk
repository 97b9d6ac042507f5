# SPDX-License-Identifier: GPL-2.0
#
# Shared by the other scripts here: reads the "DATA key=value ..." lines of
# userfault_perf_test, as they are in a result.ktap, into
#
#	has[mode, backing, vcpus]
#	cell[mode, backing, vcpus, key]
#
# and, from files behind an operand icount=1, where a nanosecond is really an
# instruction, into
#
#	has_insns[mode, backing]
#	insns[mode, backing]		a page; not there if n/a
#
# pages and wrong are summed up over all of it. -v memory="anon shmem gmem" for
# the table to have more than the default's rows.

BEGIN {
	nr_modes = split("prefilled uffd uffd+kuf kuf", modes, " ")
	nr_backings = split(memory ? memory : "anon gmem", backings, " ")
	nr_sizes = split("1 2 4", sizes, " ")
}

$1 == "DATA" || ($1 == "#" && $2 == "DATA") {
	split("", kv)
	for (i = 2; i <= NF; i++) {
		eq = index($i, "=")
		if (eq)
			kv[substr($i, 1, eq - 1)] = substr($i, eq + 1)
	}
	# Another test's.
	if (!("mode" in kv))
		next
	pages += kv["pages"]
	wrong += kv["wrong"]

	if (icount) {
		has_insns[kv["mode"], kv["backing"]] = 1
		if (kv["pages"])
			insns[kv["mode"], kv["backing"]] = kv["ns"] / kv["pages"]
		next
	}
	has[kv["mode"], kv["backing"], kv["vcpus"]] = 1
	for (key in kv)
		cell[kv["mode"], kv["backing"], kv["vcpus"], key] = kv[key]
}

# The lower bound of bucket n, in QEMU's units of 1024.
function bound(n)
{
	if (n < 10)
		return sprintf("%d us", 2 ^ n)
	if (n < 20)
		return sprintf("%d ms", 2 ^ (n - 10))
	return sprintf("%d s", 2 ^ (n - 20))
}

# Counts of one cell into count[n]; sets low and high to the ends in use.
function read_hist(text,	parts, nr, i, pair)
{
	split("", count)
	low = 99
	high = -1
	nr = split(text, parts, ",")
	for (i = 1; i <= nr; i++) {
		split(parts[i], pair, ":")
		count[pair[1] + 0] = pair[2]
		if (pair[1] + 0 < low)
			low = pair[1] + 0
		if (pair[1] + 0 > high)
			high = pair[1] + 0
	}
}
