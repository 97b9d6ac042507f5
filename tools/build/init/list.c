// SPDX-License-Identifier: GPL-2.0
/*
 * Reads test lists. The same parser runs on the build host, where initramfs.sh
 * asks which programs to pack: a list that is wrong fails before a boot.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init.h"

static bool parse_long(const char *s, long min, long max, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(s, &end, 10);
	return !errno && end != s && !*end && *out >= min && *out <= max;
}

/* Names end up in KTAP lines, where a blank or a # would end them. */
static bool name_ok(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_-.,=/+:", *s))
			return false;
	return true;
}

static const char *parse_option(struct test *t, char *word)
{
	char *value = strchr(word, '=');
	long nr;

	if (value)
		*value++ = '\0';

	if (!strcmp(word, "npt") && value) {
		if (!parse_long(value, 0, 1, &nr))
			return "npt= takes 0 or 1";
		t->npt = nr;
	} else if (!strcmp(word, "hugepages") && value) {
		if (!parse_long(value, 1, 1L << 20, &t->hugepages))
			return "hugepages= takes a number of 2M pages";
	} else if (!strcmp(word, "expect") && value && *value) {
		t->expect = value;
	} else if (!strcmp(word, "may-skip") && !value) {
		t->may_skip = true;
	} else if (!strcmp(word, "may-fail") && !value) {
		t->may_fail = true;
	} else {
		return "unknown option (there are npt= hugepages= expect= may-skip may-fail)";
	}
	return NULL;
}

/* The words stay inside @line, which therefore has to live on. */
static const char *parse_line(char *line, struct test *t)
{
	const char *err;
	char *save, *word;
	long timeout;
	int argc = 0;

	*t = (struct test){ .npt = -1 };

	t->name = strtok_r(line, " \t", &save);
	if (!name_ok(t->name))
		return "a name has only letters, digits and _-.,=/+:";

	word = strtok_r(NULL, " \t", &save);
	if (!word || !parse_long(word, 1, 86400, &timeout))
		return "the second word is the timeout in seconds";
	t->timeout_s = timeout;

	for (;;) {
		word = strtok_r(NULL, " \t", &save);
		if (!word)
			return "no -- before the command";
		if (!strcmp(word, "--"))
			break;
		err = parse_option(t, word);
		if (err)
			return err;
	}

	while ((word = strtok_r(NULL, " \t", &save))) {
		if (argc == KUF_MAX_ARGS)
			return "too many arguments";
		t->argv[argc++] = word;
	}
	return argc ? NULL : "no command";
}

static bool is_duplicate(const struct test_list *list, const char *name)
{
	size_t i;

	for (i = 0; i < list->nr; i++)
		if (!strcmp(list->tests[i].name, name))
			return true;
	return false;
}

int list_read(const char *path, struct test_list *list, char *err, size_t size)
{
	const char *why = NULL;
	char *line = NULL;
	size_t cap = 0;
	int line_nr = 0;
	ssize_t len;
	FILE *f;

	*list = (struct test_list){ 0 };
	f = fopen(path, "re");
	if (!f) {
		snprintf(err, size, "%s: %s", path, strerror(errno));
		return -1;
	}

	while (!why && (len = getline(&line, &cap, f)) > 0) {
		struct test t;
		char *copy;

		line_nr++;
		line[strcspn(line, "\n")] = '\0';
		if (line[strspn(line, " \t")] == '#' || !line[strspn(line, " \t")])
			continue;

		copy = strdup(line);
		list->tests = realloc(list->tests, (list->nr + 1) * sizeof(t));
		if (!copy || !list->tests) {
			why = "out of memory";
			break;
		}
		why = parse_line(copy, &t);
		if (!why && is_duplicate(list, t.name))
			why = "a second test of this name";
		if (!why)
			list->tests[list->nr++] = t;
	}
	free(line);
	fclose(f);

	if (why)
		snprintf(err, size, "%s:%d: %s", path, line_nr, why);
	else if (!list->nr)
		snprintf(err, size, "%s: no test in it", path);
	return why || !list->nr ? -1 : 0;
}

static bool is_named(const char *names, const char *name)
{
	size_t len = strlen(name);
	const char *p = names;

	while ((p = strstr(p, name))) {
		if ((p == names || p[-1] == ',') && (!p[len] || p[len] == ','))
			return true;
		p += len;
	}
	return false;
}

void list_filter(struct test_list *list, int npt, const char *only)
{
	size_t i, kept = 0;

	for (i = 0; i < list->nr; i++) {
		const struct test *t = &list->tests[i];

		if (t->npt >= 0 && t->npt != npt)
			continue;
		if (*only && !is_named(only, t->name))
			continue;
		list->tests[kept++] = *t;
	}
	list->nr = kept;
}

/* For scripts: name, timeout, program, paging mode, may-skip, may-fail, expectation. */
void list_print(const struct test_list *list)
{
	size_t i;

	for (i = 0; i < list->nr; i++) {
		const struct test *t = &list->tests[i];

		printf("%s\t%d\t%s\t%s\t%s\t%s\t%s\n", t->name, t->timeout_s, t->argv[0],
		       t->npt < 0 ? "both" : t->npt ? "1" : "0",
		       t->may_skip ? "may-skip" : "-", t->may_fail ? "may-fail" : "-",
		       t->expect ? t->expect : "-");
	}
}
