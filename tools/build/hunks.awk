# SPDX-License-Identifier: GPL-2.0
#
# Reads one hook patch (a mail) and says, or decides, where its hunks belong.
#
# usage: awk -f hunks.awk -v mode=list PATCH
#	One line "PATH PREBLOB POSTBLOB HUNKS" for each file it changes.
#
# usage: awk -f hunks.awk -v mode=place -v stage=DIR -v proven="PATH..." PATCH
#	The patch again, each hunk's line numbers made exact for the files below
#	DIR. Files in "proven" are known to be what the patch was made from and
#	are copied as they are. Any other hunk goes where the function that its
#	header names has its lines, and there only: a lookalike elsewhere is no
#	place, and neither is one of two equal places in that function.
#
# Git looks for the nearest lines that match instead, in whatever function;
# that is why it is told the exact place and never left to search.
#
# Exit 3 and one line on stderr when the patch cannot be a hook, or a hunk has
# no place.

function refuse(msg) {
	printf "%s\n", msg > "/dev/stderr"
	failed = 3
	exit 3
}

# Is this line what git's "cpp" driver (for *.c and *.h) or its default takes
# for the head of a function, a struct, a Kconfig entry?
function is_head(line) {
	if (!is_c)
		return line ~ /^[A-Za-z_$]/
	if (line ~ /^[ \t]*[A-Za-z_][A-Za-z_0-9]*:[ \t\r\f\v]*($|\/[\/*])/)
		return 0
	return line ~ /^((::[ \t]*)?[A-Za-z_].*)$/
}

# As it stands in a hunk's header: at most 80 bytes, no blanks at its end.
function head_text(line) {
	line = substr(line, 1, 80)
	sub(/[ \t\r\f\v]+$/, "", line)
	return line
}

# text[1..lines] of the file, and head[i]: the nearest head above line i.
function load(name,    line, h) {
	lines = 0
	h = ""
	while ((getline line < (stage "/" name)) > 0) {
		text[++lines] = line
		head[lines] = h
		if (is_head(line))
			h = head_text(line)
	}
	close(stage "/" name)
}

function fits(h, at,    i) {
	if (at + old_n[h] - 1 > lines)
		return 0
	for (i = 1; i <= old_n[h]; i++)
		if (text[at + i - 1] != old[h, i])
			return 0
	# Without context on a side the hunk was made for that end of the file.
	if (no_lead[h] && at != 1)
		return 0
	if (no_tail[h] && at + old_n[h] - 1 != lines)
		return 0
	return 1
}

# place_file: where[1..hunks], or refusal.
function place_file(    h, g, at, key, seen, need, found, elsewhere, spot, who) {
	load(path)
	for (h = 1; h <= hunks; h++) {
		key = func_of[h]
		for (g = 1; g <= old_n[h]; g++)
			key = key "\n" old[h, g]
		need[key]++
		nth[h] = need[key]
		key_of[h] = key
	}
	for (h = 1; h <= hunks; h++) {
		key = key_of[h]
		who = path ": hunk " h " of " hunks " (@@ " func_of[h] ")"
		if (odd_end[h])
			refuse(who " touches the last line without a line end: made for another version of this file")
		if (!(key in seen)) {
			seen[key] = 1
			found[key] = 0
			elsewhere = 0
			for (at = 1; at <= lines; at++) {
				if (!fits(h, at))
					continue
				if (head[at] == func_of[h])
					spot[key, ++found[key]] = at
				else if (!elsewhere)
					elsewhere = at
			}
		}
		if (found[key] < need[key]) {
			if (elsewhere)
				refuse(who " has its lines only elsewhere, at line " \
				       elsewhere " in \"" head[elsewhere] "\"")
			refuse(who ": the lines that it changes are not there")
		}
		if (found[key] > need[key])
			refuse(who " fits " found[key] " places in that function, lines " \
			       spot[key, 1] " and " spot[key, 2] ": its context is too small")
		where[h] = spot[key, nth[h]]
		if (h > 1 && where[h] < where[h - 1] + old_n[h - 1])
			refuse(who " would land before hunk " (h - 1) ": the order in the file has changed")
	}
}

function end_file(    h, i, shift) {
	if (path == "")
		return
	if (!hunks)
		refuse(path ": no hunk; a hook changes lines, not modes or names")
	if (mode == "list") {
		listing = listing path " " pre " " post " " hunks "\n"
	} else {
		if (!is_proven)
			place_file()
		print "diff --git a/" path " b/" path
		print "--- a/" path
		print "+++ b/" path
		shift = 0
		for (h = 1; h <= hunks; h++) {
			if (is_proven)
				printf "@@ -%d,%d +%d,%d @@\n", old_at[h], old_n[h], new_at[h], new_n[h]
			else
				printf "@@ -%d,%d +%d,%d @@\n", where[h], old_n[h], where[h] + shift, new_n[h]
			for (i = 1; i <= raw_n[h]; i++)
				print raw[h, i]
			shift += new_n[h] - old_n[h]
		}
	}
	path = ""
}

BEGIN {
	n = split(proven, names, " ")
	for (i = 1; i <= n; i++)
		proven_file[names[i]] = 1
	path = ""
}

# Lines of a hunk are counted, so that nothing in them is taken for a header.
left_old > 0 || left_new > 0 {
	c = substr($0, 1, 1)
	raw[hunks, ++raw_n[hunks]] = $0
	if (c == "\\") {
		odd_end[hunks] = 1
		next
	}
	if ($0 == "")
		c = " "
	if (c != " " && c != "+" && c != "-")
		refuse(path ": hunk " hunks " is damaged at: " $0)
	if (c != " " && !changed[hunks]) {
		changed[hunks] = 1
		no_lead[hunks] = (raw_n[hunks] == 1)
	}
	no_tail[hunks] = (c != " ")
	if (c != "+") {
		old[hunks, ++old_n[hunks]] = substr($0, 2)
		left_old--
	}
	if (c != "-") {
		new_n[hunks]++
		left_new--
	}
	if (c == "+")
		adds++
	next
}

# A marker after the very last line of a hunk.
/^\\ / && hunks && path != "" {
	raw[hunks, ++raw_n[hunks]] = $0
	odd_end[hunks] = 1
	next
}

/^diff --git a\// {
	end_file()
	path = $3
	sub(/^a\//, "", path)
	if (NF != 4 || $4 != "b/" path)
		refuse("renames or odd names are no hook: " $0)
	pre = post = "-"
	hunks = 0
	is_c = path ~ /\.[ch]$/
	is_proven = path in proven_file
	if (path in done)
		refuse(path " appears twice")
	done[path] = 1
	files++
	next
}

path != "" && !hunks && /^(new file|deleted file|old mode|new mode|rename|copy|similarity|GIT binary)/ {
	refuse(path ": '" $0 "': a hook only changes lines; new files belong into the overlay")
}

path != "" && !hunks && /^index [0-9a-f]+\.\.[0-9a-f]+/ {
	split($2, blob, /\.\./)
	pre = blob[1]
	post = blob[2]
	if (length(pre) != 40 || length(post) != 40)
		refuse(path ": short blob names; make the patch with --full-index")
	next
}

path != "" && /^@@ -[0-9]+(,[0-9]+)? \+[0-9]+(,[0-9]+)? @@/ {
	hunks++
	split(substr($2, 2), from, ",")
	split(substr($3, 2), to, ",")
	old_at[hunks] = from[1]
	new_at[hunks] = to[1]
	left_old = (2 in from) ? from[2] : 1
	left_new = (2 in to) ? to[2] : 1
	delete from
	delete to
	func_of[hunks] = $0
	sub(/^@@ [^@]* @@ ?/, "", func_of[hunks])
	sub(/[ \t\r\f\v]+$/, "", func_of[hunks])
	raw_n[hunks] = old_n[hunks] = new_n[hunks] = 0
	changed[hunks] = no_lead[hunks] = no_tail[hunks] = odd_end[hunks] = 0
	next
}

END {
	if (failed)
		exit failed
	if (left_old > 0 || left_new > 0)
		refuse(path ": hunk " hunks " ends too early")
	end_file()
	if (!files)
		refuse("no change in it")
	# Only what was added can show later that the patch is in.
	if (!adds)
		refuse("it only removes lines; a hook adds at least one")
	if (mode == "list")
		printf "%s", listing
}
