# SPDX-License-Identifier: GPL-2.0
#
# Plain faults on two kernels, where a nanosecond is an instruction.
#
# usage: awk -f idle.awk side=ours FILE side=pristine FILE ...
#
# Exit status 0 only if each kind of memory costs at most 1 % more on ours, with
# 95 % confidence.

BEGIN {
	target = 1
	t = 2.23
}

$2 == "DATA" {
	split("", kv)
	for (i = 3; i <= NF; i++) {
		eq = index($i, "=")
		kv[substr($i, 1, eq - 1)] = substr($i, eq + 1)
	}
	if (kv["pages"] + 0 == 0 || kv["wrong"] + 0)
		bad = 1
	what = kv["backing"] (kv["mode"] ~ /alias/ ? ", not in the host's table" : "")
	if (!(what in kinds))
		order[++nr] = what
	kinds[what] = 1
	x = kv["ns"] / kv["pages"]
	n[what, side]++
	sum[what, side] += x
	square[what, side] += x * x
	fault[what, side] += kv["mean_ns"]
	median[what, side] += kv["p50_ns"]
}

function mean(what, side)
{
	return sum[what, side] / n[what, side]
}

# The variance of the mean.
function spread(what, side,	k, m, v)
{
	k = n[what, side]
	m = mean(what, side)
	v = (square[what, side] - k * m * m) / (k - 1)
	return (v > 0 ? v : 0) / k
}

END {
	printf "%-32s %31s %22s\n", "idle cost: a plain fault,", "instructions a fault (median)", "more on ours"
	printf "%-32s %15s %15s %9s %12s\n", "userfault not used", "pristine", "ours", "", "at most"
	for (i = 1; i <= nr; i++) {
		what = order[i]
		if (n[what, "ours"] < 6 || n[what, "pristine"] < 6) {
			printf "%-32s too few runs\n", what
			bad = 1
			continue
		}
		base = fault[what, "pristine"] / n[what, "pristine"]
		more = mean(what, "ours") - mean(what, "pristine")
		most = more + t * sqrt(spread(what, "ours") + spread(what, "pristine"))
		met = 100 * most / base <= target
		if (!met)
			bad = 1
		printf "%-32s %8d (%d) %8d (%d) %+9.1f %+7.1f = %.2f %%  %s\n", what, base,
		       median[what, "pristine"] / n[what, "pristine"],
		       fault[what, "ours"] / n[what, "ours"],
		       median[what, "ours"] / n[what, "ours"], more, most,
		       100 * most / base, met ? "met" : "MISSED"
		runs = n[what, "ours"]
	}
	printf "target: at most %d %%, with 95 %% confidence; %d passes of 1024 pages on each kernel\n", target, runs
	exit bad || !nr
}
