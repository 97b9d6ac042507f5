// SPDX-License-Identifier: GPL-2.0
/*
 * What nobody should say to a destination.
 */
#include "corpus_file.h"
#include "crc32c.h"

/*
 * Connections: 0 main, 1 urgent, 2 and so on: others.
 */

struct script {
	struct proto_config config;
	struct state_config state;
	bool cpuid;
	u16 state_version;
	u32 frames;		/* announced beyond those that there are */
	enum wrong wrong;
	u16 at;			/* the type of the frame that is wrong */
	struct proto_end end;	/* to be added */
	u64 go;
};

static const struct script right = {
	.config = { .mem_size = MIN_MEM, .page_size = PAGE_SIZE, .nr_cpus = 1 },
	.state = { .mem_size = MIN_MEM, .nr_cpus = 1 },
};

static void step(const struct script *s, u8 connection, u16 type, const void *data, u32 size)
{
	frame_wrong(connection, type, data, size, s->at == type ? s->wrong : NOTHING);
}

static void up_to_state(const struct script *s)
{
	struct proto_hello h = hello_of(PROTO_MAIN);
	struct proto_config config = s->config;
	struct frame_writer w = {};
	struct proto_end last;

	op(CORPUS_CONNECT, 0, 0, 0);
	step(s, 0, PROTO_HELLO, &h, sizeof(h));
	op(CORPUS_AWAIT, 0, PROTO_HELLO, 0);
	op(CORPUS_CONNECT, 1, 0, 0);
	hello(1, PROTO_URGENT);
	op(CORPUS_AWAIT, 1, PROTO_HELLO, 0);
	corpus_epoch[0] = CORPUS_EPOCH;
	build_state(&w, &s->state, s->cpuid, s->state_version);
	config.state_size += w.size;
	config.state_frames = w.nr + s->frames;
	last.state_size = w.size + s->end.state_size;
	last.state_crc = crc32c(0, w.data, w.size) + s->end.state_crc;
	last.reserved = 0;
	step(s, 0, PROTO_CONFIG, &config, sizeof(config));
	step(s, 0, PROTO_STATE, w.data, w.size);
	step(s, 0, PROTO_END_OF_STATE, &last, sizeof(last));
	frame_writer_free(&w);
}

static void up_to_go(const struct script *s)
{
	struct proto_epoch go = { CORPUS_EPOCH + 1 + s->go };

	up_to_state(s);
	op(CORPUS_AWAIT, 0, PROTO_READY, 0);
	step(s, 0, PROTO_GO, &go, sizeof(go));
	corpus_epoch[0]++;
	corpus_epoch[1]++;
	if (!s->go)
		op(CORPUS_AWAIT, 0, PROTO_STARTED, 0);
}

/* As the source has it. */
#define ZERO_PAGE	1

static void zero(u8 connection, u64 gpa, u64 len, enum wrong how)
{
	struct proto_range range = { gpa, len };

	frame_wrong(connection, PROTO_ZERO, &range, sizeof(range), how);
}

static void touch(void)
{
	op(CORPUS_TOUCH, 0, 0, ZERO_PAGE);
	op(CORPUS_AWAIT, 1, PROTO_REQUEST, 0);
}

static void one_recv(const char *name, const char *outcome, const char *says,
		     const struct script *s)
{
	begin("recv-%s", name);
	expect("recv", outcome, says);
	up_to_state(s);
	end();
}

static void make_recv_frames(void)
{
	static const struct {
		u16 type;
		const char *name, *outcome;
		bool go;
	} at[] = {
		{ PROTO_CONFIG, "config", "refused" }, { PROTO_STATE, "state", "refused" },
		{ PROTO_GO, "go", "waits", true },
	};
	struct script s = right;
	size_t i;
	int how;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		for (how = TRUNCATED; how < NR_WRONGS; how++) {
			/* It came, and then a second time; what is not sent is not out of order. */
			if (at[i].go && (how == REPEATED || how == SKIPPED))
				continue;
			s.at = at[i].type;
			s.wrong = how;
			begin("recv-%s-%s", at[i].name, wrongs[how].name);
			expect("recv", at[i].outcome, wrongs[how].says);
			if (at[i].go)
				up_to_go(&s);
			else
				up_to_state(&s);
			end();
		}
	}
	for (how = TRUNCATED; how < NR_WRONGS; how++) {
		begin("recv-reply-%s", wrongs[how].name);
		expect("recv", "recoverable",
		       how == TRUNCATED ? "the source of the VM is gone" : wrongs[how].says);
		up_to_go(&right);
		touch();
		zero(1, ZERO_PAGE * PAGE_SIZE, PAGE_SIZE, how);
		/* Whatever comes next is out of sequence. */
		if (how == SKIPPED)
			zero(1, ZERO_PAGE * PAGE_SIZE, PAGE_SIZE, NOTHING);
		end();
	}
}

static void make_recv_state(void)
{
	struct script s;

#define CASE(name, says, change) do {			\
	s = right;					\
	change;						\
	one_recv(name, "refused", says, &s);		\
} while (0)
	CASE("memory-none", "configuration of the VM that comes", s.config.mem_size = 0);
	CASE("memory-odd", "configuration of the VM that comes", s.config.mem_size++);
	CASE("memory-huge", "configuration of the VM that comes", s.config.mem_size = ~0ull << 12);
	CASE("memory-other", "contradicts itself", s.state.mem_size *= 2);
	CASE("cpus-none", "configuration of the VM that comes", s.config.nr_cpus = 0);
	CASE("cpus-many", "configuration of the VM that comes", s.config.nr_cpus = 1000);
	CASE("cpus-other", "no CPUID, vCPU 1", s.state.nr_cpus = 2);
	CASE("page-size", "configuration of the VM that comes", s.config.page_size = 8192);
	CASE("config-dirty", "configuration of the VM that comes", s.config.reserved = 1);
	CASE("state-none", "claims a state of", s.config.state_size = -1ull << 63);
	CASE("state-frames", "frames are missing", s.frames = 3);
	CASE("state-frames-many", "claims a state of", s.frames = 1 << 30);
	CASE("state-crc", "is not what was sent (CRC32C)", s.end.state_crc = 1);
	CASE("state-size", "is not what was sent (CRC32C)", s.end.state_size = 1);
	CASE("state-version", "this kuf reads version", s.state_version = 1);
	CASE("state-cpuid", "is not this host's: leaf 0x1", s.cpuid = true);
	CASE("state-disk", "a disk without its state", s.state.has_disk = 1);
	CASE("state-backing", "does not make sense", s.state.backing = 77);
#undef CASE
}

/* @again: when the VM is there; otherwise before it comes. */
static void bad_hello(const char *name, const char *says, struct proto_hello h, bool again)
{
	begin("recv-%s", name);
	expect("recv", "recoverable", says);
	if (again)
		up_to_go(&right);
	op(CORPUS_CONNECT, 2, 0, 0);
	frame(2, PROTO_HELLO, &h, sizeof(h));
	op(CORPUS_AWAIT, 2, PROTO_ABORT, 0);
	if (!again)
		up_to_go(&right);
	op(CORPUS_CLOSE, 0, 0, 0);
	end();
}

static void make_recv_hellos(void)
{
	struct proto_hello h = hello_of(PROTO_MAIN);

	h.required |= BIT_ULL(40);
	bad_hello("feature", "requires features 0x10000000000", h, false);
	h.required = PROTO_POSTCOPY;
	bad_hello("no-feature", "does not have features", h, false);
	h = hello_of(PROTO_MAIN);
	h.role = 77;
	bad_hello("role", "no VM is on its way here", h, false);
	h = hello_of(PROTO_URGENT);
	bad_hello("urgent-first", "no VM is on its way here", h, false);
	h = hello_of(PROTO_MAIN_AGAIN);
	bad_hello("again-first", "no VM is on its way here", h, false);
	h = hello_of(PROTO_MAIN);
	h.reserved = 1;
	bad_hello("hello-dirty", "does not understand", h, false);
	bad_hello("replayed", "another VM is on its way here, or is here", hello_of(PROTO_MAIN),
		  true);
	h = hello_of(PROTO_MAIN_AGAIN);
	h.token[15] ^= 1;
	bad_hello("again-token", "it does not belong to the VM", h, true);
	h = hello_of(PROTO_MAIN_AGAIN);
	h.epoch--;
	bad_hello("again-epoch", "it does not belong to the VM", h, true);
	h = hello_of(PROTO_MAIN_AGAIN);
	h.session[0] ^= 1;
	bad_hello("again-session", "it does not belong to the VM", h, true);
	h = hello_of(PROTO_TAKEN_BACK);
	h.epoch++;
	bad_hello("taken-back-late", "another VM is on its way here, or is here", h, true);
}

static void make_recv_replies(void)
{
	struct proto_failed failed = { ZERO_PAGE * PAGE_SIZE, PAGE_SIZE, 5 };
	struct { struct proto_page head; u32 crc; u8 page[PAGE_SIZE]; } page = {};
	u32 size = sizeof(page.head) + 4 + PAGE_SIZE;
	struct proto_bye bye = {};
	u64 gpa = ZERO_PAGE * PAGE_SIZE;

#define CASE(name, says, what) do {						\
	begin("recv-%s", name);							\
	expect("recv", "recoverable", says);					\
	up_to_go(&right);							\
	touch();								\
	what;									\
	end();									\
} while (0)
	begin("recv-right");
	expect("recv", "recoverable", "the source of the VM is gone");
	up_to_go(&right);
	touch();
	zero(1, gpa, PAGE_SIZE, NOTHING);
	op(CORPUS_CLOSE, 0, 0, 0);
	end();
	CASE("not-asked", "came without having been asked for", zero(1, 9 * PAGE_SIZE, PAGE_SIZE,
								     NOTHING));
	CASE("not-asked-there", "came without having been asked for", zero(0, gpa, PAGE_SIZE,
									   NOTHING));
	CASE("zero-twice", "came without having been asked for",
	     (zero(1, gpa, PAGE_SIZE, NOTHING), zero(1, gpa, PAGE_SIZE, NOTHING)));
	CASE("zero-outside", "a ZERO that does not make sense", zero(1, 1ull << 40, PAGE_SIZE,
								     NOTHING));
	CASE("zero-odd", "a ZERO that does not make sense", zero(1, gpa + 1, PAGE_SIZE, NOTHING));
	CASE("zero-long", "a ZERO that does not make sense", zero(1, gpa, -PAGE_SIZE, NOTHING));
	CASE("zero-empty", "a ZERO that does not make sense", zero(1, gpa, 0, NOTHING));
	CASE("zero-half", "a ZERO of 20 bytes", frame(1, PROTO_ZERO, nothing, 20));
	page.head = (struct proto_page){ gpa, 16 };
	CASE("page-many", "a PAGE that does not make sense", frame(1, PROTO_PAGE, &page, size));
	page.head = (struct proto_page){ gpa, 0xffffffff };
	CASE("page-wraps", "a PAGE that does not make sense", frame(1, PROTO_PAGE, &page, size));
	page.head = (struct proto_page){ 1ull << 50, 1 };
	CASE("page-outside", "a PAGE that does not make sense", frame(1, PROTO_PAGE, &page, size));
	CASE("failed-errno", "a FAILED that does not make sense", frame(1, PROTO_FAILED, &failed,
									sizeof(failed)));
	CASE("bye-early", "a BYE that does not make sense", frame(0, PROTO_BYE, &bye, sizeof(bye)));
	CASE("state-late", "does not belong here", frame(0, PROTO_STATE, nothing, 100));
	CASE("resume-there", "does not belong here", frame(0, PROTO_RESUME, nothing,
							   sizeof(struct proto_resume)));
	CASE("go-twice", "does not belong here", frame(0, PROTO_GO, nothing, 8));
	CASE("abort", "the other side gives up: [31m?no", frame(0, PROTO_ABORT, "[31m\033no", 7));
#undef CASE
	{
		struct script s = right;

		s.go = 1;
		begin("recv-go-epoch");
		expect("recv", "waits", "GO for another epoch");
		up_to_go(&s);
		end();
	}
}

void corpus_make_recv(void)
{
	make_recv_frames();
	make_recv_state();
	make_recv_hellos();
	make_recv_replies();
}
