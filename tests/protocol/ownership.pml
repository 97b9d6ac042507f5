/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who owns the guest while it migrates: the rules that kuf send and kuf recv keep, as a
 * model for spin. What must hold is at the end of this file.
 *
 * There is one source and there are two destinations, of which the source is connected
 * to one at a time. Connections are cut, processes are killed and begin again with what
 * they have recorded, and an operator gives the guest to the other destination. How
 * often each of these happens is bounded; when, is not: a process may also just stop for
 * any time.
 *
 * BREAK=n takes rule n out; tests/protocol/run.sh wants each to be missed:
 *	1  the source records that it has given up before it sends GO
 *	2  the destination waits for GO
 *	3  a source that has given up does not run the guest
 *	4  GO is only for the epoch that the source is at
 *	5  a destination is revoked, by its record, before another one is tried
 *	6  the state is offered for an epoch of its own each time
 *	7  a destination records that it starts before it runs the guest
 *	8  GO is sent again to whoever comes back for it
 */
#ifndef BREAK
#define BREAK 0
#endif
#ifndef LIVE
#define LIVE 0
#endif
#ifndef CUTS
#define CUTS 2
#endif
#define KILLS	1	/* of each process */
#define STOPS	2	/* times that the source stops the guest in order to send it */
#define SWAPS	(1 + 3 * LIVE)	/* times that the operator tries the other destination */
#define DESTS	2
#define NONE	DESTS

/* HELLO carries the epoch that a destination has loaded, 0 if none. */
mtype = { HELLO, STATE, READY, GO, NO };

/* What is under way; an end that hangs up does not read what is left. */
chan to_d[DESTS] = [2] of { mtype, byte };
chan to_s = [2] of { mtype, byte };
byte s_conn = NONE;
bool d_up[DESTS];

/* The source's record, and its process. */
byte s_epoch = 1;
bool s_given, s_vacant;	/* given up; and then: the one it was given to is revoked */
bool s_runs = true;
bool s_fresh;		/* the other end has nothing loaded */
bool s_sent;		/* the state, over this connection */

/*
 * The destinations: their records, of the last epoch in which they started the guest, or
 * may not start it any more; and their processes.
 */
byte started[DESTS], revoked[DESTS];
byte loaded[DESTS];
bool d_runs[DESTS];
bool lost;		/* the guest ran there, and was killed */

byte s_dest = NONE;	/* whom GO is for */
byte cuts, s_kills, stops, swaps;

#define connected(i)	(s_conn == i && d_up[i])
#define concerns(i)	(s_given && !s_vacant && s_dest == i)

inline drain(c) { do :: c?_,_ :: empty(c) -> break od }
inline s_hang_up() { s_conn = NONE; s_fresh = false; s_sent = false; drain(to_s) }
inline d_hang_up(i) { d_up[i] = false; drain(to_d[i]) }
inline connect(i)
{
	drain(to_s); drain(to_d[i]);
	s_conn = i; d_up[i] = true;
	to_s!HELLO(loaded[i])
}
inline s_send(type, e)
{
	if
	:: s_conn != NONE && d_up[s_conn] -> to_d[s_conn]!type(e)
	:: else
	fi
}
inline d_send(i, type, e) { if :: connected(i) -> to_s!type(e) :: else fi }

active proctype network()
{
	do
	/*
	 * A destination says first what it has. For what must happen at last, somebody
	 * has to connect those two whom it concerns.
	 */
	:: atomic { s_conn == NONE && !d_up[0] && !(LIVE && concerns(1)) -> connect(0) }
	:: atomic { s_conn == NONE && !d_up[1] && !(LIVE && concerns(0)) -> connect(1) }
	:: atomic { s_conn != NONE && d_up[s_conn] && cuts < CUTS -> cuts++; s_hang_up() }
	:: atomic { s_conn != NONE && d_up[s_conn] && cuts < CUTS -> cuts++; d_hang_up(s_conn) }
	/* The other end notices at last, having read everything or not. */
	:: atomic { s_conn != NONE && !d_up[s_conn] -> s_hang_up() }
	:: atomic { d_up[0] && s_conn != 0 -> d_hang_up(0) }
	:: atomic { d_up[1] && s_conn != 1 -> d_hang_up(1) }
	od
}

active proctype source()
{
	byte e, from;

	do
	:: atomic { s_runs && s_fresh && stops < STOPS -> stops++; s_runs = false }
	:: atomic { !s_runs && (!s_given || s_vacant) && s_fresh && !s_sent ->
		if :: BREAK != 6 || s_epoch == 1 -> s_epoch++ :: else fi;
		s_sent = true; s_send(STATE, s_epoch) }
	/* Nothing came of it, or the operator wants it so: the guest goes on here. */
	:: atomic { !s_runs && (!s_given || BREAK == 3) ->
		if :: s_conn != NONE -> s_hang_up() :: else fi;
		s_runs = true }
	:: atomic { to_s?HELLO(e) ->
		if
		:: e && s_given && !s_vacant && (e == s_epoch || BREAK == 4) ->
			if :: BREAK != 8 -> s_send(GO, e) :: else fi
		:: e && !(s_given && !s_vacant && (e == s_epoch || BREAK == 4)) ->
			s_send(NO, e)
		:: !e && s_given && !s_vacant -> s_hang_up()
		:: !e && !(s_given && !s_vacant) -> s_fresh = true
		fi;
		e = 0 }
	:: atomic { to_s?READY(e) -> from = s_conn }
		if
		:: s_runs || (s_given && !s_vacant) || e != s_epoch || !s_sent
		:: BREAK != 1 && !s_runs && (!s_given || s_vacant) && e == s_epoch ->
			atomic { s_given = true; s_vacant = false; s_epoch = e; s_dest = from };
			/* May be killed here: given up, and GO is not sent. */
			atomic {
			if
			:: s_conn == from -> s_send(GO, e)
			:: s_conn != from && s_conn != NONE -> s_hang_up()
			:: else
			fi }
		:: atomic { BREAK == 1 && !s_runs && e == s_epoch && s_sent ->
			s_send(GO, e) }
			atomic {
			if
			:: s_kills < KILLS -> s_kills++; s_hang_up()
			:: !s_runs -> s_given = true; s_vacant = false; s_epoch = e
			:: else
			fi }
		fi;
		e = 0
	od
}

/* Of the source nothing is lost but the connection: its stopped guest is recorded. */
active proctype killer()
{
	do
	:: atomic { !s_runs && s_conn != NONE && s_kills < KILLS -> s_kills++; s_hang_up() }
	od
}

/* Another destination: once it is sure that the first has not started, and never will. */
active proctype operator()
{
	do
	:: atomic { s_given && !s_vacant && s_dest != NONE && swaps < SWAPS &&
		    !(LIVE && loaded[s_dest] == s_epoch) &&
		    started[s_dest] != s_epoch ->
		swaps++;
		if :: BREAK != 5 -> revoked[s_dest] = s_epoch :: else fi;
		if :: s_conn != NONE -> s_hang_up() :: else fi;
		s_vacant = true }
	od
}

proctype destination(byte i)
{
	byte e, kills;

	do
	:: atomic { to_d[i]?STATE(e) ->
		if
		:: !loaded[i] -> loaded[i] = e; d_send(i, READY, e)
		:: else
		fi;
		e = 0 }
	:: atomic { BREAK == 2 && loaded[i] && !d_runs[i] -> d_runs[i] = true }
	:: atomic { to_d[i]?GO(e) ->
		if
		:: e == loaded[i] && !d_runs[i] && revoked[i] != e -> 
			if :: BREAK != 7 -> started[i] = e :: else fi
		:: else -> e = 0
		fi }
		if
		:: atomic { e -> d_runs[i] = true }
		:: atomic { e && kills < KILLS -> kills++; loaded[i] = 0; lost = true; d_hang_up(i) }
		:: !e
		fi;
		e = 0
	/* Its state is out of date. */
	:: atomic { to_d[i]?NO(e) ->
		if
		:: d_runs[i] -> assert(BREAK)
		:: else -> loaded[i] = 0; d_send(i, HELLO, 0)
		fi;
		e = 0 }
	:: atomic { kills < KILLS && loaded[i] ->
		kills++;
		if :: d_runs[i] -> lost = true; d_runs[i] = false :: else fi;
		loaded[i] = 0;
		if :: d_up[i] -> d_hang_up(i) :: else fi }
	:: to_d[i]?HELLO(e) -> assert(false)
	od
}

init { atomic { run destination(0); run destination(1) } }

/* One at most runs the guest, and who did it last has what it is now. */
#define RUNNERS	(s_runs + d_runs[0] + d_runs[1])
ltl one { [] (RUNNERS <= 1 && !(lost && RUNNERS)) }
/* And somebody does, again and again, unless it was killed where it ran. */
ltl live { [] <> (RUNNERS == 1 || lost) }
