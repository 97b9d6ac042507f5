# SPDX-License-Identifier: GPL-2.0
#
# The design's targets beside what an instruction-counting boot found.
#
# usage: awk [-v arm=1] -f targets.awk FILE
#
# With arm=1 the table of what switching on and off costs. Exit status 0 only if
# the numbers are there and the targets are met.

$2 == "DATA" {
	split("", kv)
	for (i = 3; i <= NF; i++) {
		eq = index($i, "=")
		kv[substr($i, 1, eq - 1)] = substr($i, eq + 1)
	}
	if ("mode" in kv && kv["pages"] + 0)
		cost[kv["mode"], kv["backing"]] = kv["ns"] / kv["pages"]
	if ("rescan" in kv)
		rescans[++nr_rescans] = sprintf("%8d %12d %14d", kv["pages"], kv["rescan_ns"],
						kv["rescan_ns"] / kv["pages"])
	if ("arm" in kv) {
		row[++rows] = sprintf("%8d %8d %12d %14d %18d", kv["mb"], kv["touched"],
				      kv["arm_ns"], kv["arm_present_ns"], kv["disarm_ns"])
		on[kv["mb"], kv["touched"]] = kv["arm_ns"]
	}
}

function target(text, mode, backing, limit, base,	c)
{
	if (!((mode, backing) in cost)) {
		printf "%-60s MISSING\n", text
		bad = 1
		return
	}
	c = cost[mode, backing]
	if (base)
		limit = cost[base, backing]
	printf "%-60s %6d of %6d  %s\n", text, c, limit, c <= limit ? "met" : "MISSED"
	if (c > limit)
		bad = 1
}

function matrix(	b, i, list)
{
	printf "targets, instructions a page with the VMM's copy\n"
	split("anon shmem gmem", list, " ")
	for (i = 1; i <= 3; i++)
		target("KVM userfault alone, " list[i] ": at most 15000", "kuf", list[i], 15000)
	for (i = 1; i <= 2; i++)
		target("KVM userfault alone, " list[i] ": less than userfaultfd", "kuf", list[i], 0, "uffd")
	for (i = 1; i <= 2; i++)
		target("the userfault fd, " list[i] ": less than userfaultfd", "kuf-fd", list[i], 0, "uffd")
	if (("kuf-fd", "gmem") in cost)
		printf "%-60s %6d\n", "for comparison: the userfault fd, gmem", cost["kuf-fd", "gmem"]
	if (("prefilled-alias", "shmem") in cost)
		printf "%-60s %6d\n", "for comparison: shmem, filled, not in the host's page table",
		       cost["prefilled-alias", "shmem"]
}

function arming(	i)
{
	printf "switching a live memslot, clock ticks of one instruction; idle waiting counts, too\n"
	printf "%8s %8s %12s %14s %18s\n", "MiB", "touched", "on, absent", "on, present", "off (with drain)"
	for (i = 1; i <= rows; i++)
		print row[i]
	if (rows != 12) {
		printf "MISSING: %d of 12 rows\n", 12 - rows
		bad = 1
		return
	}
	# From pairs of rows that differ in nothing else.
	printf "switching on costs %d for each 2 MiB, touched or not, %d for the first touched\n",
	       (on[1024, 1] - on[16, 1]) / 504, (on[128, 64] - on[128, 1]) / 63
	printf "page in 2 MiB (its page table has to be gone through), %d for each more\n",
	       (on[16, 2048] - on[16, 512]) / 1536
	printf "\nRESCAN of pages that are all mapped, 4K each\n%8s %12s %14s\n", "pages", "in all", "a page"
	for (i = 1; i <= nr_rescans; i++)
		print rescans[i]
	if (nr_rescans != 5) {
		printf "MISSING: %d of 5 rows\n", 5 - nr_rescans
		bad = 1
	}
}

END {
	if (arm)
		arming()
	else
		matrix()
	exit bad
}
