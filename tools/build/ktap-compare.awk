#!/usr/bin/awk -f
# SPDX-License-Identifier: GPL-2.0
#
# Compares two KTAP files test by test: does the second kernel behave exactly as
# the first? Prints KTAP with one result per test name of either file.
#
# usage: awk -f tools/build/ktap-compare.awk -v prefix=NAME -v may_fail="A B" PRISTINE OURS
#
# Same means: the same word (ok, not ok, skip) and the same reason, times left
# aside. A test that fails on both is the same, but shows nothing: it is only
# accepted when may_fail names it.

BEGIN {
	nr = split(may_fail, list, " ")
	for (i = 1; i <= nr; i++)
		allowed[list[i]] = 1
	load(ARGV[1], pristine)
	load(ARGV[2], ours)

	print "KTAP version 1"
	print "1.." (nr_names ? nr_names : 1)
	if (!nr_names)
		print "not ok 1 " prefix ".no-results"
	for (i = 1; i <= nr_names; i++)
		compare(names[i], i)
	exit !nr_names || different
}

function load(file, results,	line, rc, at, name, what)
{
	while ((rc = (getline line < file)) > 0) {
		if (line !~ /^(not )?ok [0-9]+ /)
			continue
		what = line ~ /^not / ? "not ok" : "ok"
		sub(/^(not )?ok [0-9]+ (- )?/, "", line)
		at = index(line, " # ")
		name = at ? substr(line, 1, at - 1) : line
		line = at ? substr(line, at + 3) : ""
		sub(/ *time=[0-9.]+s.*$/, "", line)
		# Which process was left, and its number, is chance.
		sub(/^(LEFTOVER|STUCK) .*/, "LEFTOVER", line)
		if (line != "")
			what = what " " line
		if (name in results)
			what = "twice"
		results[name] = what
		if (!(name in known)) {
			known[name] = 1
			names[++nr_names] = name
		}
	}
	close(file)
	if (rc < 0)
		print "# " file ": cannot be read"
}

function compare(name, i,	a, b)
{
	a = name in pristine ? pristine[name] : "no result"
	b = name in ours ? ours[name] : "no result"
	if (a == b && (a ~ /^ok/ || name in allowed)) {
		printf "ok %d %s.%s # same: %s\n", i, prefix, name, a
		return
	}
	different = 1
	printf "# pristine: %s\n# ours: %s\n", a, b
	printf "not ok %d %s.%s\n", i, prefix, name
}
