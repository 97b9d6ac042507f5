// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Every transition in every state: what is allowed, what is refused and how, and
 * which flags remain.
 */
#include "test.h"

enum op {
	REQUEST,	/* fetched ahead */
	REQUEST_URGENT,
	REQUEST_EVENT,
	FAILED,
	CLAIM,
	CLAIM_ZERO,
	SETTLE,
	TAKE,
	TAKEN_DISCARDED,
	TAKEN_POISONED,
	RELEASE,
	DROP,
	UNPOISON,
	NR_OPS
};

#define PEER	7
#define NR	8	/* states, and one that is none */

struct row {
	int ret;
	int to;		/* -1: as before */
};

#define OK(state)	{ 0, KUF_##state }
#define NO(error)	{ -(error), -1 }

/*
 * Claims are of PEER here, and made in the state ABSENT; what happens to others is
 * below.  EBUSY and ESTALE leave flags of a request with the page.
 */
static const struct row table[NR_OPS][NR] = {
	/* absent, requested, filling, present, taking, discarded, poisoned, none */
	[REQUEST] = { OK(REQUESTED), OK(REQUESTED), NO(EBUSY), NO(EEXIST), NO(EBUSY),
		      NO(ESTALE), NO(EHWPOISON), NO(EUCLEAN) },
	[REQUEST_URGENT] = { OK(REQUESTED), OK(REQUESTED), NO(EBUSY), NO(EEXIST), NO(EBUSY),
			     NO(ESTALE), NO(EHWPOISON), NO(EUCLEAN) },
	[REQUEST_EVENT] = { OK(REQUESTED), OK(REQUESTED), NO(EBUSY), NO(EEXIST), NO(EBUSY),
			    NO(ESTALE), NO(EHWPOISON), NO(EUCLEAN) },
	[FAILED] = { NO(ENOENT), OK(ABSENT), NO(EBUSY), NO(EEXIST), NO(EBUSY), NO(ESTALE),
		     NO(EHWPOISON), NO(EUCLEAN) },
	[CLAIM] = { OK(FILLING), OK(FILLING), NO(EBUSY), NO(EEXIST), NO(EBUSY), NO(ESTALE),
		    NO(EHWPOISON), NO(EUCLEAN) },
	[CLAIM_ZERO] = { OK(FILLING), OK(FILLING), NO(EBUSY), NO(EEXIST), NO(EBUSY),
			 OK(FILLING), NO(EHWPOISON), NO(EUCLEAN) },
	[SETTLE] = { NO(EPERM), NO(EPERM), OK(PRESENT), NO(EPERM), NO(EPERM), NO(EPERM),
		     NO(EPERM), NO(EPERM) },
	[TAKE] = { OK(TAKING), OK(TAKING), NO(EBUSY), OK(TAKING), NO(EBUSY), OK(TAKING),
		   NO(EHWPOISON), NO(EUCLEAN) },
	[TAKEN_DISCARDED] = { NO(EPERM), NO(EPERM), NO(EPERM), NO(EPERM), OK(DISCARDED),
			      NO(EPERM), NO(EPERM), NO(EPERM) },
	[TAKEN_POISONED] = { NO(EPERM), NO(EPERM), NO(EPERM), NO(EPERM), OK(POISONED),
			     NO(EPERM), NO(EPERM), NO(EPERM) },
	[RELEASE] = { NO(EPERM), NO(EPERM), OK(ABSENT), NO(EPERM), OK(ABSENT), NO(EPERM),
		      NO(EPERM), NO(EPERM) },
	[DROP] = { OK(DISCARDED), OK(DISCARDED), NO(EBUSY), NO(EEXIST), NO(EBUSY), NO(ESTALE),
		   NO(EHWPOISON), NO(EUCLEAN) },
	[UNPOISON] = { NO(ENOENT), NO(ENOENT), NO(EBUSY), NO(EEXIST), NO(EBUSY), NO(ESTALE),
		       OK(DISCARDED), NO(EUCLEAN) },
};

static int apply(enum op op, uint32_t *word, unsigned int peer, uint32_t *old, bool *ask)
{
	switch (op) {
	case REQUEST:
		return kufi_page_request(word, 0, ask);
	case REQUEST_URGENT:
		return kufi_page_request(word, KUFI_URGENT, ask);
	case REQUEST_EVENT:
		return kufi_page_request(word, KUFI_URGENT | KUFI_EVENT, ask);
	case FAILED:
		return kufi_page_fail(word);
	case CLAIM:
		return kufi_page_claim(word, peer, false);
	case CLAIM_ZERO:
		return kufi_page_claim(word, peer, true);
	case SETTLE:
		return kufi_page_settle(word, peer, old);
	case TAKE:
		return kufi_page_take(word, peer);
	case TAKEN_DISCARDED:
		return kufi_page_taken(word, peer, KUF_DISCARDED, old);
	case TAKEN_POISONED:
		return kufi_page_taken(word, peer, KUF_POISONED, old);
	case RELEASE:
		return kufi_page_release(word, peer, old, ask);
	case DROP:
		return kufi_page_drop(word, old);
	default:
		return kufi_page_unpoison(word);
	}
}

/* A word in that state, with a claim of @peer if it has one. */
static uint32_t word_in(unsigned int state, unsigned int peer, unsigned int prev,
			uint32_t flags)
{
	uint32_t word = state | flags | 5 * KUFI_SEQ;

	if (state == KUF_FILLING || state == KUF_TAKING)
		word |= peer << KUFI_PEER_SHIFT | prev << KUFI_PREV_SHIFT;
	return word;
}

static void all_transitions(void)
{
	unsigned int op, state;
	uint32_t word, before, old;
	bool ask;

	for (op = 0; op < NR_OPS; op++) {
		for (state = 0; state < NR; state++) {
			const struct row *row = &table[op][state];
			int ret;

			before = word_in(state, PEER, KUF_ABSENT, 0);
			word = before;
			ret = apply(op, &word, PEER, &old, &ask);
			if (ret != row->ret)
				FAIL("op %u in state %u: %d, not %d", op, state, ret, row->ret);
			if (kufi_state(word) != (row->to < 0 ? state : (unsigned int)row->to))
				FAIL("op %u in state %u: now %u", op, state, kufi_state(word));
			/* Others' cancelled waits do not look like no change. */
			EQUAL(word & KUFI_SEQ_MASK, before & KUFI_SEQ_MASK);
			if (ret && op > REQUEST_EVENT)
				EQUAL(word, before);
		}
	}
}

/* Claims of somebody else: only their holder ends them. */
static void foreign_claims(void)
{
	static const enum op ops[] = { SETTLE, TAKEN_DISCARDED, TAKEN_POISONED, RELEASE };
	unsigned int i, state;
	uint32_t word, old;
	bool ask;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (state = KUF_FILLING; state <= KUF_TAKING; state += 2) {
			word = word_in(state, PEER + 1, KUF_ABSENT, 0);
			EQUAL(apply(ops[i], &word, PEER, &old, &ask), -EPERM);
			EQUAL(word, word_in(state, PEER + 1, KUF_ABSENT, 0));
		}
	}
}

static void claims_are_recorded(void)
{
	static const unsigned int from[] = { KUF_ABSENT, KUF_REQUESTED, KUF_PRESENT,
					     KUF_DISCARDED };
	unsigned int i;
	uint32_t word;

	for (i = 0; i < 4; i++) {
		word = word_in(from[i], 0, 0, KUFI_FLAGS);
		EQUAL(kufi_page_take(&word, 254), 0);
		EQUAL(word, word_in(KUF_TAKING, 254, from[i], KUFI_FLAGS));
		if (from[i] == KUF_PRESENT)
			continue;
		word = word_in(from[i], 0, 0, KUFI_FLAGS);
		EQUAL(kufi_page_claim(&word, 254, true), 0);
		EQUAL(word, word_in(KUF_FILLING, 254, from[i], KUFI_FLAGS));
	}
}

/* Who asked while a claim was held is not forgotten when it ends with nothing done. */
static void released(void)
{
	static const struct {
		unsigned int prev;
		uint32_t flags;
		unsigned int to;
		uint32_t left;
		bool ask;
	} cases[] = {
		{ KUF_ABSENT, 0, KUF_ABSENT, 0, false },
		{ KUF_ABSENT, KUFI_SLEEPERS, KUF_ABSENT, 0, false },
		{ KUF_ABSENT, KUFI_URGENT, KUF_REQUESTED, KUFI_URGENT, true },
		{ KUF_ABSENT, KUFI_URGENT | KUFI_EVENT, KUF_REQUESTED,
		  KUFI_URGENT | KUFI_EVENT, true },
		/* Its reply may have come, to no effect. */
		{ KUF_REQUESTED, 0, KUF_REQUESTED, 0, true },
		{ KUF_REQUESTED, KUFI_SLEEPERS, KUF_REQUESTED, 0, true },
		{ KUF_REQUESTED, KUFI_FLAGS, KUF_REQUESTED, KUFI_URGENT | KUFI_EVENT, true },
		{ KUF_PRESENT, KUFI_FLAGS, KUF_PRESENT, 0, false },
		{ KUF_DISCARDED, KUFI_FLAGS, KUF_DISCARDED, 0, false },
	};
	uint32_t word, old, before;
	unsigned int i, state;
	bool ask;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (state = KUF_FILLING; state <= KUF_TAKING; state += 2) {
			before = word_in(state, PEER, cases[i].prev, cases[i].flags);
			word = before;
			EQUAL(kufi_page_release(&word, PEER, &old, &ask), 0);
			EQUAL(old, before);
			EQUAL(word, word_in(cases[i].to, 0, 0, cases[i].left));
			EQUAL(ask, cases[i].ask);
		}
	}
}

/* The source is told once, and once more when it becomes urgent. */
static void fresh(void)
{
	uint32_t word = KUF_ABSENT;
	bool is;

	EQUAL(kufi_page_request(&word, 0, &is), 0);
	CHECK(is);
	EQUAL(kufi_page_request(&word, 0, &is), 0);
	CHECK(!is);
	EQUAL(kufi_page_request(&word, KUFI_URGENT, &is), 0);
	CHECK(is);
	EQUAL(kufi_page_request(&word, KUFI_URGENT, &is), 0);
	CHECK(!is);
	EQUAL(kufi_page_request(&word, KUFI_URGENT | KUFI_EVENT, &is), 0);
	CHECK(!is);
	EQUAL(word, (KUF_REQUESTED | KUFI_URGENT | KUFI_EVENT));
	EQUAL(kufi_page_request(&word, 0, &is), 0);
	CHECK(!is);
	/* It failed; whoever needs it is on record, and asking is new again. */
	EQUAL(kufi_page_fail(&word), 0);
	EQUAL(word, (KUF_ABSENT | KUFI_URGENT | KUFI_EVENT));
	EQUAL(kufi_page_request(&word, KUFI_URGENT, &is), 0);
	CHECK(is);
}

/* Flags reach whoever ends a claim, and do not survive it. */
static void flags_reach_the_holder(void)
{
	uint32_t word, old, now;
	bool is;

	word = KUF_ABSENT;
	EQUAL(kufi_page_claim(&word, PEER, false), 0);
	EQUAL(kufi_page_request(&word, KUFI_URGENT | KUFI_EVENT, &is), -EBUSY);
	EQUAL(kufi_page_sleep(&word, &now), 0);
	EQUAL(now, word);
	EQUAL(kufi_page_settle(&word, PEER, &old), 0);
	EQUAL(old & KUFI_FLAGS, KUFI_FLAGS);
	EQUAL(word, KUF_PRESENT);

	EQUAL(kufi_page_take(&word, PEER), 0);
	EQUAL(kufi_page_request(&word, KUFI_URGENT | KUFI_EVENT, &is), -EBUSY);
	EQUAL(kufi_page_taken(&word, PEER, KUF_DISCARDED, &old), 0);
	EQUAL(old & KUFI_FLAGS, KUFI_URGENT | KUFI_EVENT);
	EQUAL(word, KUF_DISCARDED);

	EQUAL(kufi_page_request(&word, KUFI_URGENT | KUFI_EVENT, &is), -ESTALE);
	EQUAL(kufi_page_claim(&word, PEER, true), 0);
	EQUAL(kufi_page_settle(&word, PEER, &old), 0);
	EQUAL(old & KUFI_FLAGS, KUFI_URGENT | KUFI_EVENT);

	word = KUF_REQUESTED | KUFI_FLAGS;
	EQUAL(kufi_page_drop(&word, &old), 0);
	EQUAL(old, (KUF_REQUESTED | KUFI_FLAGS));
	EQUAL(word, KUF_DISCARDED);
}

static void sleeping(void)
{
	static const int want[NR] = { 0, 0, 0, -EEXIST, 0, -ESTALE, -EHWPOISON, -EUCLEAN };
	unsigned int state;
	uint32_t word, now;

	for (state = 0; state < NR; state++) {
		word = word_in(state, PEER, KUF_ABSENT, 0);
		EQUAL(kufi_page_sleep(&word, &now), want[state]);
		EQUAL(word & KUFI_SLEEPERS, want[state] ? 0 : KUFI_SLEEPERS);
		EQUAL(kufi_page_sleep(&word, &now), want[state]);
		if (!want[state])
			EQUAL(now, word);
	}
}

/* A kick changes the word and nothing that has a meaning, also when it wraps. */
static void kicks(void)
{
	uint32_t word = word_in(KUF_FILLING, 254, KUF_DISCARDED, KUFI_FLAGS), before = word;
	unsigned int i;

	for (i = 0; i < 1u << 15; i++) {
		uint32_t last = word;

		kufi_page_kick(&word);
		CHECK(word != last);
		EQUAL(word & ~KUFI_SEQ_MASK, before & ~KUFI_SEQ_MASK);
	}
	EQUAL(word, before);
}

static void taken_to_what(void)
{
	uint32_t word, old;
	unsigned int to;

	for (to = 0; to < NR; to++) {
		word = word_in(KUF_TAKING, PEER, KUF_PRESENT, 0);
		EQUAL(kufi_page_taken(&word, PEER, to, &old),
		      to == KUF_DISCARDED || to == KUF_POISONED ? 0 : -EINVAL);
	}
}

static const struct test tests[] = {
	TEST(all_transitions), TEST(foreign_claims), TEST(claims_are_recorded), TEST(released),
	TEST(fresh), TEST(flags_reach_the_holder), TEST(sleeping), TEST(kicks),
	TEST(taken_to_what),
};

MAIN(tests)
