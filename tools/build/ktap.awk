#!/usr/bin/awk -f
# SPDX-License-Identifier: GPL-2.0
#
# Judges KTAP (version 1) and TAP (version 13) files: prints every failed test
# with its diagnostics and, as the last line, "N passed, N failed, N skipped".
# Exit status 0 only if nothing failed and something passed.
#
# usage: awk -f tools/build/ktap.awk [-v quiet=1] FILE...
#
# Only result lines at the top level count; everything else is diagnostics of
# the result line that follows. What a file promises and does not hold is a
# failure of its own: no version line, no plan or two, a planned test without a
# result, a number or name that occurs twice, "Bail out!", an unreadable file.

BEGIN {
	if (ARGC < 2)
		fail("(no file)", "nothing to judge")
	for (f = 1; f < ARGC; f++)
		judge(ARGV[f])
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed || !passed
}

function fail(what, why,	i, first)
{
	failed++
	if (quiet)
		return
	printf "FAILED %s: %s\n", what, why
	if (nr_diag > 40)
		nr_diag = without_threads()
	first = nr_diag > 40 ? nr_diag - 39 : 1
	if (first > 1)
		printf "    (%d lines before)\n", first - 1
	for (i = first; i <= nr_diag; i++)
		printf "    %s\n", diag[i]
}

# Where each thread waits, of a test that does not end (tools/build/init/procs.c), is long
# and remains in the file: what the test said itself is shown.
function without_threads(	i, n)
{
	for (i = 1; i <= nr_diag; i++) {
		if (diag[i] !~ /^# init:   /)
			diag[++n] = diag[i]
	}
	return n
}

function forget_diag()
{
	nr_diag = 0
}

# "ok 3 - name # SKIP reason"
function result(file, line,	ok, nr, name, directive, at)
{
	ok = line !~ /^not /
	sub(/^(not )?ok /, "", line)
	nr = line + 0
	sub(/^[0-9]+ *(- *)?/, "", line)

	at = index(line, "#")
	name = at ? substr(line, 1, at - 1) : line
	directive = at ? substr(line, at + 1) : ""
	gsub(/^ +| +$/, "", name)
	gsub(/^ +| +$/, "", directive)
	if (name == "")
		name = "test " nr

	if (nr in seen)
		fail(file ": " name, "second result with number " nr)
	else if (name in names)
		fail(file ": " name, "second result with this name")
	else if (!ok)
		fail(file ": " name, directive == "" ? "not ok" : directive)
	else if (toupper(directive) ~ /^SKIP/)
		skipped++
	else
		passed++
	seen[nr] = 1
	names[name] = 1
	if (nr > highest)
		highest = nr
	forget_diag()
}

function judge(file,	line, rc, lines, version, plan, plans, i)
{
	split("", seen)
	split("", names)
	highest = 0
	forget_diag()

	while ((rc = (getline line < file)) > 0) {
		lines++
		sub(/\r$/, "", line)
		if (line ~ /^(KTAP version 1|TAP version 13)$/) {
			version++
		} else if (line ~ /^1\.\.[0-9]+( |$)/) {
			plans++
			plan = substr(line, 4) + 0
		} else if (line ~ /^(not )?ok [0-9]+( |$)/) {
			result(file, line)
		} else if (line ~ /^Bail out!/) {
			fail(file, line)
			forget_diag()
		} else {
			diag[++nr_diag] = line
		}
	}
	close(file)

	if (rc < 0)
		fail(file, "cannot be read")
	else if (!version)
		fail(file, "no KTAP version line")
	# What was said since the last result belongs to the first test without one.
	for (i = 1; i <= plan; i++)
		if (!(i in seen)) {
			fail(file ": test " i, "no result, though planned")
			forget_diag()
		}
	forget_diag()
	if (rc >= 0 && plans != 1)
		fail(file, plans ? plans " plans" : "no plan")
	else if (rc >= 0 && !plan)
		fail(file, "a plan of no tests")
	if (plans && highest > plan)
		fail(file, "result number " highest " is beyond the plan")
}
