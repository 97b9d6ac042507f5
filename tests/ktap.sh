# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests that are commands, and their results as KTAP on stdout. Sourced by run.sh of
# the directories here:
#
#	begin SUITE NUMBER	of results that there will be
#	try NAME COMMAND...	ok if COMMAND succeeds; otherwise with what it said
#	end			exit status 0 if none failed
#
# What a result says of itself comes before it.

begin()
{
	suite=$1 n=0 failed=0
	echo "KTAP version 1"
	echo "1..$2"
}

# result "ok"|"not ok" NAME [COMMENT]
result()
{
	n=$((n + 1))
	[[ $1 == ok ]] || failed=$((failed + 1))
	printf '%s %d %s.%s%s\n' "$1" "$n" "$suite" "$2" "${3:+ # $3}"
}

# Note that nothing in COMMAND, if it is a function, stops at a failure by itself.
try()
{
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then
		result ok "$name"
	else
		awk '{ print "# " $0 }' <<<"$said"
		result "not ok" "$name"
	fi
}

end()
{
	exit $((failed > 0))
}
