# SPDX-License-Identifier: GPL-2.0
#
# The table of pages a second and instructions a page, and the verdict.
#
# usage: awk -f cells.awk -f table.awk [-v emulated=1] [-v busy=PERCENT] \
#	FILE icount=1 FILE
#
# Exit status 0 only if every cell is there and no page of any was wrong.

function measured(m, b, v)
{
	return ((m, b, v, "ns") in cell)
}

# userfaultfd does not know guest_memfd; that, and nothing else, may be missing.
function may_be_na(m, b)
{
	return b == "gmem" && m ~ /^uffd/
}

# One column: a figure and a ratio, either of which may be missing.
function put(text, quotient)
{
	printf " %8s %5s", text, quotient ? sprintf("%.2f", quotient) : ""
}

function hole(present, m, b)
{
	if (present && may_be_na(m, b)) {
		na = 1
		put("n/a", 0)
	} else {
		missing++
		put("MISSING", 0)
	}
}

function speedup(m, base, b, v)
{
	if (!measured(m, b, v) || !measured(base, b, v))
		return 0
	return cell[m, b, v, "pages_per_s"] / cell[base, b, v, "pages_per_s"]
}

function insn_ratio(m, base, b)
{
	if (!((m, b) in insns) || !((base, b) in insns))
		return 0
	return insns[m, b] / insns[base, b]
}

function put_row(m, b,	k, v)
{
	for (k = 1; k <= nr_sizes; k++) {
		v = sizes[k]
		if (measured(m, b, v))
			put(sprintf("%d", cell[m, b, v, "pages_per_s"]),
			    speedup(m, "prefilled", b, v))
		else
			hole((m, b, v) in has, m, b)
	}
	if ((m, b) in insns)
		put(sprintf("%d", insns[m, b]), insn_ratio(m, "prefilled", b))
	else
		hole((m, b) in has_insns, m, b)
	printf "\n"
}

function put_comparison(m, base, b,	k)
{
	if (!insn_ratio(m, base, b))
		return
	printf "%-5s %-10s", "", m "/" base
	for (k = 1; k <= nr_sizes; k++)
		put("", speedup(m, base, b, sizes[k]))
	put("", insn_ratio(m, base, b))
	printf "\n"
}

END {
	printf "%-16s %44s %14s\n", "",
	       "pages a second, " cell["prefilled", "anon", 1, "mb"] \
	       " MiB a guest (ratio to prefilled)", "instructions"
	printf "%-16s", ""
	for (k = 1; k <= nr_sizes; k++)
		printf "%15s", sizes[k] " vCPU" (sizes[k] > 1 ? "s" : "")
	printf "%15s\n", "a page, 1 vCPU"

	for (j = 1; j <= nr_backings; j++) {
		for (i = 1; i <= nr_modes; i++) {
			printf "%-5s %-10s", (i == 1 ? backings[j] : ""), modes[i]
			put_row(modes[i], backings[j])
		}
		put_comparison("kuf", "uffd", backings[j])
	}

	printf "\nprefilled  all pages are there beforehand, KVM only maps them\n"
	printf "uffd       userfaultfd MISSING, a thread resolves by UFFDIO_COPY\n"
	printf "uffd+kuf   KVM's exit names the page, the vCPU's thread resolves by UFFDIO_COPY\n"
	printf "kuf        KVM's exit names the page, the vCPU's thread copies it, clears a bit\n"
	if (na)
		printf "n/a        no userfaultfd on guest_memfd in this kernel (UFFDIO_REGISTER: EINVAL)\n"
	if (emulated)
		printf "The CPU is emulated: its seconds are not those of hardware, the instructions are\nthe steady figure, and emulated CPUs say nothing about scaling.\n"
	if (busy > 25)
		printf "Other programs used %d %% of a CPU meanwhile: the pages a second are worth little.\n", busy
	printf "\n"

	if (missing)
		printf "FAILED: %d cells have no result\n", missing
	if (wrong)
		printf "FAILED: %d of %d pages were WRONG\n", wrong, pages
	if (missing || wrong)
		exit 1
	printf "every page verified: %d pages, 0 wrong\n", pages
}
