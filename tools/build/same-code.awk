#!/usr/bin/awk -f
# SPDX-License-Identifier: GPL-2.0
#
# Compares two dumps of an object, made by same-code.sh, unit by unit, and prints
# each unit that differs or is in one of them only. The last line counts what was
# compared: "= FUNCTIONS SECTIONS".
#
# usage: awk -f same-code.awk BEFORE AFTER
#
# A unit is a function, with its instructions and relocations, or a section of
# data, with its content and relocations.

# --no-addresses leaves "<name>:" of a function's first line.
/^<.*>:$/ && in_code {
	unit = "function " substr($0, 2, length($0) - 3)
	# Local functions may share a name.
	unit = unit (nr[FILENAME, unit]++ ? "#" nr[FILENAME, unit] : "")
	functions += FILENAME == ARGV[1]
	next
}
/^Disassembly of section / { in_code = 1; unit = ""; next }
/^Contents of section / {
	in_code = 0
	unit = "data in " substr($4, 1, length($4) - 1)
	sections += FILENAME == ARGV[1]
	next
}
/^RELOCATION RECORDS FOR \[/ {
	in_code = 0
	name = substr($4, 2, length($4) - 3)
	# Those of code stand beside the instructions.
	unit = (FILENAME, name) in is_code ? "" : "data in " name " (relocations)"
	next
}
/^CODE / { is_code[FILENAME, $2] = 1; next }
unit == "" || /^$/ || /:     file format / { next }

FILENAME == ARGV[1] {
	text[unit, ++last[unit]] = $0
	next
}
{
	if (text[unit, ++seen[unit]] != $0 && !(unit in differs))
		differs[unit] = "was:" text[unit, seen[unit]] "; is:" $0
}

END {
	for (unit in last) {
		if (!(unit in seen))
			differs[unit] = "is gone"
		else if (last[unit] != seen[unit] && !(unit in differs))
			differs[unit] = "has become shorter"
	}
	for (unit in seen) {
		if (!(unit in last))
			differs[unit] = "is new"
	}
	for (unit in differs) {
		gsub(/[ \t]+/, " ", differs[unit])
		print unit ": " differs[unit] | "sort"
	}
	close("sort")
	print "= " functions + 0, sections + 0
}
