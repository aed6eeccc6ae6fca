package session

import (
	"reflect"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// now is an event at that many seconds, on both clocks.
func now(s float64) when {
	return when{now: at(s), mono: time.Hour + time.Duration(s*float64(time.Second))}
}

// minute is a session with a token that lives from t0 for a minute.
func minute() state {
	return state{lessee: lessee{owner: "us"}}.use(record{version: 1, generation: 1, expires: at(60), lead: 12 * time.Second, canRefresh: true}, now(0))
}

// acts are the effects without their details.
func acts(effects []effect) []act {
	var list []act
	for _, e := range effects {
		list = append(list, e.do)
	}
	return list
}

func TestStep(t *testing.T) {
	with := func(change func(*state)) state { s := minute(); change(&s); return s }
	in := func(p phase) state { return with(func(s *state) { s.phase = p }) }
	ours, theirs := lease{Owner: "us", Held: true, Presenting: true}, lease{Owner: "them", Held: true, Presenting: true}
	theirHands := func(w when) state { // waiting for another process since then
		s := in(waiting)
		return s.observe(theirs, 2, w)
	}
	noTurn := held{now(50), at(80)}
	window := Reuse{kind: reuseWindow, window: 30 * time.Second}
	for _, tc := range []struct {
		rule  string
		from  state
		event stepEvent
		phase phase
		want  []act
		check func(state) bool
	}{
		{"a fresh token needs nothing", minute(), needed{when: now(10)}, idle, nil, nil},
		{"close to its end one refreshes ahead", minute(), needed{when: now(50)}, queued, []act{queue}, nil},
		{"past its end, too", minute(), needed{when: now(70)}, queued, []act{queue}, nil},
		{"who finds a flight starts none", in(asking), needed{when: now(70)}, asking, nil, nil},
		{"while saving, none starts", in(saving), needed{when: now(70)}, saving, nil, nil},
		{"without a refresh token none starts", with(func(s *state) { s.canRefresh = false }), needed{when: now(70)}, idle, nil, nil},
		{"an unknown end is fresh", with(func(s *state) { s.expires = time.Time{} }), needed{when: now(1e6)}, idle, nil, nil},
		{"backoff holds", with(func(s *state) { s.notBefore = at(80) }), needed{when: now(70)}, idle, nil, nil},
		{"the provider's circuit holds", minute(), needed{when: now(70), hold: at(80)}, idle, nil, nil},
		{"found well again since, it does not hold", with(func(s *state) { s.notBefore, s.failedAt = at(80), at(65) }), needed{when: now(70), mended: at(66)}, queued, []act{queue}, nil},
		{"found well again before that, it does", with(func(s *state) { s.notBefore, s.failedAt = at(80), at(67) }), needed{when: now(70), mended: at(66)}, idle, nil, nil},
		{"its turn: the lease is taken", in(queued), admitted{now(50)}, leasing, []act{take}, nil},
		{"its turn, but another has the lease by now: wait", with(func(s *state) { *s = theirHands(now(50)); s.phase = queued }), admitted{now(51)}, waiting, []act{load}, func(s state) bool { return !s.turn }},
		{"no turn: later", with(func(s *state) { s.phase, s.forced = queued, true }), noTurn, idle, nil, func(s state) bool { return s.notBefore.Equal(at(80)) && !s.forced }},
		{"another one refreshed while it stood in line: used", in(queued), reread{when: now(50), record: record{version: 2, generation: 2, expires: at(110)}}, idle, []act{adopt}, nil},
		{"another one took the lease while it stood in line: wait", in(queued), reread{when: now(50), record: record{version: 2, generation: 1, lease: theirs}}, waiting, []act{load}, nil},
		{"something else changed: it stands in line", in(queued), reread{when: now(50), record: record{version: 2, generation: 1}}, queued, []act{queue}, nil},
		{"ended in the line", in(queued), reread{when: now(50), gone: true}, over, []act{end}, nil},
		{"a rejected token is refreshed although fresh", minute(), needed{when: now(10), force: true}, queued, []act{queue}, func(s state) bool { return s.forced }},
		{"but once per generation", with(func(s *state) { s.forced = true }), needed{when: now(10), force: true}, idle, nil, nil},

		{"an answer is saved before it is used", in(asking), answered{when: now(50)}, saving, []act{save}, func(s state) bool { return s.generation == 1 }},
		{"saved, it is used", in(saving), saved{now(50), record{generation: 2, expires: at(110)}}, idle, []act{publish}, func(s state) bool { return s.generation == 2 && s.expires.Equal(at(110)) }},
		{"a new token set forgets old trouble", with(func(s *state) { s.phase, s.failures, s.lost, s.forced = saving, 3, true, true }), saved{now(50), record{generation: 2, expires: at(110), canRefresh: true}}, idle, []act{publish}, func(s state) bool { return s.failures == 0 && !s.lost && !s.forced }},
		{"a conflict is read again", in(saving), unsaved{when: now(50), why: conflict}, merging, []act{load}, nil},
		{"ours is newer: merged and saved", in(merging), reread{when: now(50), record: record{generation: 1}}, saving, []act{save}, nil},
		{"theirs is newer: used", in(merging), reread{when: now(50), record: record{generation: 2, expires: at(110)}}, idle, []act{adopt}, func(s state) bool { return s.generation == 2 }},
		{"the session ended meanwhile: revoked", in(saving), unsaved{when: now(50), why: gone}, over, []act{revoke, end}, nil},
		{"ended between conflict and reading", in(merging), reread{when: now(50), gone: true}, over, []act{revoke, end}, nil},
		{"a store that is down: kept and tried again", in(saving), unsaved{when: now(50), why: unavailable}, saving, []act{save}, func(s state) bool { return s.failures == 1 }},

		{"definitive: read again first", in(asking), failed{when: now(50), outcome: definitive}, checking, []act{load}, nil},
		{"somebody was faster: used", in(checking), reread{when: now(50), record: record{generation: 2, expires: at(110)}}, idle, []act{adopt}, nil},
		{"nobody was: marked as over", in(checking), reread{when: now(50), record: record{version: 4, generation: 1}}, ending, []act{mark}, func(s state) bool { return s.verdict == ReasonRefreshRejected }},
		{"marked: over", in(ending), marked{now(50)}, over, []act{end}, nil},
		{"somebody saved meanwhile: read again", in(ending), unsaved{when: now(50), why: conflict}, checking, []act{load}, nil},
		{"the store did not say whether it is marked: read again", in(ending), unsaved{when: now(50), why: unavailable}, checking, []act{load}, nil},
		{"it was", with(func(s *state) { s.phase, s.verdict = checking, ReasonRefreshLost }), reread{when: now(50), gone: true, record: record{lease: lease{Owner: "us", Over: true}}}, over, []act{end}, nil},
		{"ended by another before that", in(ending), unsaved{when: now(50), why: gone}, over, []act{end}, nil},
		{"the store does not answer: asked again, not over", in(checking), reread{when: now(50), failed: true}, checking, []act{load}, nil},
		{"step-up is no logout", in(asking), failed{when: now(50), outcome: stepUp}, releasing, []act{release}, func(s state) bool { return s.stepUp && !s.lost }},
		{"transient: backoff", in(asking), failed{when: now(50), outcome: transient}, releasing, []act{release}, func(s state) bool { return s.failures == 1 && s.notBefore.Equal(at(51)) }},
		{"Retry-After is heeded", in(asking), failed{when: now(50), outcome: transient, retryAfter: 20 * time.Second}, releasing, []act{release}, func(s state) bool { return s.notBefore.Equal(at(70)) }},

		{"ambiguous, nothing known: transient", in(asking), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return !s.lost && s.failures == 1 }},
		{"ambiguous, a rotation was seen: never again", with(func(s *state) { s.phase, s.rotates = asking, true }), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return s.lost }},
		{"ambiguous, reuse none", with(func(s *state) { s.phase, s.reuse = asking, Reuse{kind: reuseNone} }), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return s.lost }},
		{"ambiguous, harmless: again later", with(func(s *state) { s.phase, s.rotates, s.reuse = asking, true, Reuse{kind: reuseHarmless} }), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return !s.lost }},
		{"ambiguous, within the window: once more", with(func(s *state) { s.phase, s.turn, s.reuse, s.presented = asking, true, window, at(40) }), failed{when: now(50), outcome: ambiguous}, leasing, []act{take}, func(s state) bool { return s.doubt && !s.lost }},
		{"ambiguous, a second time: never again", with(func(s *state) { s.phase, s.reuse, s.presented, s.doubt, s.retried = asking, window, at(40), true, true }), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return s.lost }},
		{"ambiguous, past the window: never again", with(func(s *state) { s.phase, s.reuse, s.presented = asking, window, at(10) }), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return s.lost }},
		{"in doubt, within the window: the one try", with(func(s *state) { s.reuse, s.presented, s.doubt = window, at(40), true }), needed{when: now(55)}, queued, []act{queue}, func(s state) bool { return s.doubt && s.presented.Equal(at(40)) }},
		{"a try that was not sent does not count", with(func(s *state) { s.phase, s.reuse, s.presented, s.doubt, s.retried = asking, window, at(40), true, true }), failed{when: now(50), outcome: transient}, releasing, []act{release}, func(s state) bool { return !s.retried && !s.lost }},
		{"in doubt, past the window: never again", with(func(s *state) { s.reuse, s.presented, s.doubt = window, at(10), true }), needed{when: now(55)}, idle, nil, func(s state) bool { return s.lost }},
		{"lost, the token serves out its life", with(func(s *state) { s.lost = true }), needed{when: now(55)}, idle, nil, nil},
		{"lost, then read again", with(func(s *state) { s.lost = true }), needed{when: now(60)}, checking, []act{load}, nil},
		{"and marked as over", with(func(s *state) { s.phase, s.lost = checking, true }), reread{when: now(60), record: record{generation: 1}}, ending, []act{mark}, func(s state) bool { return s.verdict == ReasonRefreshLost }},
		{"ambiguous past the end: read again", with(func(s *state) { s.phase, s.reuse = asking, Reuse{kind: reuseNone} }), failed{when: now(70), outcome: ambiguous}, checking, []act{load}, nil},

		{"leased: presented", in(leasing), leased{when: now(50), lease: ours, began: now(49).mono}, asking, []act{present}, func(s state) bool { return s.presented.Equal(at(50)) && s.lease == ours }},
		{"leased, the one try within the window", with(func(s *state) { s.phase, s.reuse, s.doubt, s.presented = leasing, window, true, at(40) }), leased{when: now(50), lease: ours, began: now(49).mono}, asking, []act{present}, func(s state) bool { return s.retried && s.presented.Equal(at(40)) }},
		{"leased, but the window is over: given back", with(func(s *state) { s.phase, s.reuse, s.doubt, s.presented = leasing, window, true, at(15) }), leased{when: now(50), lease: ours, began: now(49).mono}, releasing, []act{release}, func(s state) bool { return s.lost }},
		{"leased too slowly: given back, not sent", in(leasing), leased{when: now(50), lease: ours, began: now(29).mono}, releasing, []act{release}, nil},
		{"no lease, a conflict: read again", in(leasing), unsaved{when: now(50), why: conflict}, leasing, []act{load}, nil},
		{"no lease, the store is down: nothing is sent, but it may be written", in(leasing), unsaved{when: now(50), why: unavailable}, releasing, []act{load}, func(s state) bool { return s.notBefore.After(at(50)) }},
		{"no lease, the session is gone", in(leasing), unsaved{when: now(50), why: gone}, over, []act{end}, nil},
		{"another has the lease: wait", in(leasing), reread{when: now(50), record: record{version: 2, generation: 1, lease: theirs}}, waiting, []act{load}, nil},
		{"it has it still: wait on", theirHands(now(50)), reread{when: now(80), record: record{version: 2, generation: 1, lease: theirs}}, waiting, []act{load}, nil},
		{"it renewed it: the time begins anew", theirHands(now(50)), reread{when: now(95), record: record{version: 3, generation: 1, lease: theirs}}, waiting, []act{load}, func(s state) bool { return s.seen == now(95).mono }},
		{"its lease is over: taken over", theirHands(now(10)), reread{when: now(50), record: record{version: 2, generation: 1, lease: theirs}}, queued, []act{queue}, func(s state) bool { return !s.lost && !s.doubt }},
		{"taken over, but the token may be spent", with(func(s *state) { *s = theirHands(now(10)); s.rotates = true }), reread{when: now(55), record: record{version: 2, generation: 1, lease: theirs}}, idle, nil, func(s state) bool { return s.lost }},
		{"taken over within a long window: one try", with(func(s *state) { *s = theirHands(now(10)); s.reuse = Reuse{reuseWindow, time.Minute} }), reread{when: now(52), record: record{version: 2, generation: 1, lease: theirs}}, queued, []act{queue}, func(s state) bool { return s.doubt && !s.lost && s.presented.Equal(at(0)) }},
		{"its one try is had", with(func(s *state) {
			*s = theirHands(now(10))
			s.reuse, s.lease.Retried = Reuse{reuseWindow, time.Minute}, true
		}), reread{when: now(52), record: record{version: 2, generation: 1, lease: lease{Owner: "them", Held: true, Presenting: true, Retried: true}}}, idle, nil, func(s state) bool { return s.lost }},
		{"another one's at the same version, after a failover: the time begins anew", theirHands(now(10)), reread{when: now(55), record: record{version: 2, generation: 1, lease: lease{Owner: "third", Held: true, Presenting: true}}}, waiting, []act{load}, nil},
		{"it gave up: nothing to wait for", theirHands(now(50)), reread{when: now(51), record: record{version: 3, generation: 1}}, queued, []act{queue}, nil},
		{"in its turn: the lease is taken", with(func(s *state) { s.phase, s.turn = leasing, true }), reread{when: now(50), record: record{version: 3, generation: 1}}, leasing, []act{take}, nil},
		{"it gave up in doubt", with(func(s *state) { *s = theirHands(now(50)); s.reuse = Reuse{kind: reuseNone} }), reread{when: now(51), record: record{version: 3, generation: 1, lease: lease{Owner: "them", Presenting: true}}}, idle, nil, func(s state) bool { return s.lost }},
		{"it was faster: used", theirHands(now(50)), reread{when: now(51), record: record{version: 3, generation: 2, expires: at(110)}}, idle, []act{adopt}, func(s state) bool { return s.generation == 2 && s.lease == lease{} }},
		{"the store is down while waiting: nothing begun", theirHands(now(50)), reread{when: now(51), failed: true}, idle, nil, nil},
		{"of a dead process on a store of our own: taken over at once", with(func(s *state) { s.alone, s.lease = true, theirs }), needed{when: now(50)}, queued, []act{queue}, nil},
		{"refused while another is at it: it may bring a newer one", in(checking), reread{when: now(50), record: record{version: 2, generation: 1, lease: theirs}}, checking, []act{load}, nil},
		{"given back", in(releasing), released{now(50)}, idle, nil, nil},
		{"given back in doubt", with(func(s *state) { s.phase, s.reuse = asking, Reuse{kind: reuseNone} }), failed{when: now(50), outcome: ambiguous}, releasing, []act{release}, func(s state) bool { return s.remains() == lease{Owner: "us", Presenting: true} }},
		{"giving back goes on when the store is down", in(releasing), unsaved{when: now(50), why: unavailable}, releasing, []act{release}, nil},
		{"for a while", with(func(s *state) { s.phase, s.tries = releasing, leaseTries-1 }), unsaved{when: now(50), why: unavailable}, idle, nil, nil},
		{"something else changed: given back on top of it", with(func(s *state) { s.phase = releasing }), reread{when: now(50), record: record{version: 5, generation: 1, lease: ours}}, releasing, []act{release}, nil},
		{"it is not ours any more", in(releasing), reread{when: now(50), record: record{version: 5, generation: 1, lease: theirs}}, idle, nil, nil},

		{"for another target: the token in use being fresh says nothing", minute(), needed{when: now(1), aside: true}, queued, []act{queue}, func(s state) bool { return !s.forced }},
		{"for another target, of a token that is lost", with(func(s *state) { s.lost = true }), needed{when: now(1), aside: true}, idle, nil, nil},
		{"for another target, too early after a failure", with(func(s *state) { s.notBefore = at(30) }), needed{when: now(1), aside: true}, idle, nil, nil},
		{"a no to another target says nothing of the session", in(asking), failed{when: now(50), outcome: denied}, releasing, []act{release}, func(s state) bool { return s.failures == 0 && s.notBefore.IsZero() }},
		{"a failover gave a generation twice: theirs", in(releasing), reread{when: now(50), record: record{version: 5, generation: 1, expires: at(90)}}, idle, []act{adopt}, func(s state) bool { return s.expires.Equal(at(90)) }},
		{"a failover gave a generation twice: ours is the newer one", in(merging), reread{when: now(50), record: record{version: 5, generation: 1, expires: at(90)}}, saving, []act{save}, nil},

		{"an end is an end", minute(), ended{now(1)}, over, nil, nil},
		{"an answer to an ended session is revoked", in(over), answered{when: now(50)}, over, []act{revoke}, nil},
		{"saved as it ended: ended again and revoked", in(over), saved{now(50), record{generation: 2}}, over, []act{end, revoke}, nil},
		{"an ended session asks for nothing", in(over), needed{when: now(70)}, over, nil, nil},
	} {
		if e, ok := tc.event.(reread); ok && e.generation == tc.from.generation && e.expires.IsZero() {
			e.expires = tc.from.expires // what the row does not say is as it was
			tc.event = e
		}
		s, effects := step(tc.from, tc.event)
		if s.phase != tc.phase || !reflect.DeepEqual(acts(effects), tc.want) || tc.check != nil && !tc.check(s) {
			t.Errorf("%s: phase %d %v, want %d %v\n%+v", tc.rule, s.phase, acts(effects), tc.phase, tc.want, s)
		}
	}
}

func TestLead(t *testing.T) {
	for _, tc := range []struct {
		life time.Duration
		want time.Duration
	}{{time.Hour, time.Minute}, {5 * time.Minute, time.Minute}, {time.Minute, 12 * time.Second}, {2 * time.Second, 400 * time.Millisecond}} {
		if got := leadOf(tc.life, 0); got != tc.want {
			t.Errorf("leadOf(%v) = %v, want %v", tc.life, got, tc.want)
		}
		if got := leadOf(tc.life, 1); got > tc.want || got < tc.want*3/4 {
			t.Errorf("leadOf(%v) with jitter = %v", tc.life, got)
		}
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for n := range 100 {
		if d := backoff(n, 1); d < firstBackoff || d > mostBackoff*5/4 {
			t.Fatalf("backoff(%d) = %v", n, d)
		}
	}
}
