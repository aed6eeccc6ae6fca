package session

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// minute is a session with a token that lives from t0 for a minute.
func minute() state {
	return state{generation: 1, expires: at(60), lead: 12 * time.Second, canRefresh: true}
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
	window := Reuse{kind: reuseWindow, window: 30 * time.Second}
	for _, tc := range []struct {
		rule  string
		from  state
		event stepEvent
		phase phase
		want  []act
		check func(state) bool
	}{
		{"a fresh token needs nothing", minute(), needed{now: at(10)}, idle, nil, nil},
		{"close to its end one refreshes ahead", minute(), needed{now: at(50)}, asking, []act{present}, nil},
		{"past its end, too", minute(), needed{now: at(70)}, asking, []act{present}, nil},
		{"who finds a flight starts none", in(asking), needed{now: at(70)}, asking, nil, nil},
		{"while saving, none starts", in(saving), needed{now: at(70)}, saving, nil, nil},
		{"without a refresh token none starts", with(func(s *state) { s.canRefresh = false }), needed{now: at(70)}, idle, nil, nil},
		{"an unknown end is fresh", with(func(s *state) { s.expires = time.Time{} }), needed{now: at(1e6)}, idle, nil, nil},
		{"backoff holds", with(func(s *state) { s.notBefore = at(80) }), needed{now: at(70)}, idle, nil, nil},
		{"the provider's circuit holds", minute(), needed{now: at(70), hold: at(80)}, idle, nil, nil},
		{"a rejected token is refreshed although fresh", minute(), needed{now: at(10), force: true}, asking, []act{present}, func(s state) bool { return s.forced }},
		{"but once per generation", with(func(s *state) { s.forced = true }), needed{now: at(10), force: true}, idle, nil, nil},

		{"an answer is saved before it is used", in(asking), answered{now: at(50)}, saving, []act{save}, func(s state) bool { return s.generation == 1 }},
		{"saved, it is used", in(saving), saved{now: at(50), generation: 2, expires: at(110)}, idle, []act{publish}, func(s state) bool { return s.generation == 2 && s.expires.Equal(at(110)) }},
		{"a new token set forgets old trouble", with(func(s *state) { s.phase, s.failures, s.lost, s.forced = saving, 3, true, true }), saved{now: at(50), generation: 2, expires: at(110), canRefresh: true}, idle, []act{publish}, func(s state) bool { return s.failures == 0 && !s.lost && !s.forced }},
		{"a conflict is read again", in(saving), unsaved{now: at(50), why: conflict}, merging, []act{load}, nil},
		{"ours is newer: merged and saved", in(merging), reread{now: at(50), generation: 1}, saving, []act{save}, nil},
		{"theirs is newer: used", in(merging), reread{now: at(50), generation: 2, expires: at(110)}, idle, []act{adopt}, func(s state) bool { return s.generation == 2 }},
		{"the session ended meanwhile: revoked", in(saving), unsaved{now: at(50), why: gone}, over, []act{revoke, end}, nil},
		{"ended between conflict and reading", in(merging), reread{now: at(50), gone: true}, over, []act{revoke, end}, nil},
		{"a store that is down: kept and tried again", in(saving), unsaved{now: at(50), why: unavailable}, saving, []act{save}, func(s state) bool { return s.failures == 1 }},

		{"definitive: read again first", in(asking), failed{now: at(50), outcome: definitive}, checking, []act{load}, nil},
		{"somebody was faster: used", in(checking), reread{now: at(50), generation: 2, expires: at(110)}, idle, []act{adopt}, nil},
		{"nobody was: over", in(checking), reread{now: at(50), generation: 1}, over, []act{end}, nil},
		{"the store does not answer: asked again, not over", in(checking), reread{now: at(50), failed: true}, checking, []act{load}, nil},
		{"step-up is no logout", in(asking), failed{now: at(50), outcome: stepUp}, idle, nil, func(s state) bool { return s.stepUp && !s.lost }},
		{"transient: backoff", in(asking), failed{now: at(50), outcome: transient}, idle, nil, func(s state) bool { return s.failures == 1 && s.notBefore.Equal(at(51)) }},
		{"Retry-After is heeded", in(asking), failed{now: at(50), outcome: transient, retryAfter: 20 * time.Second}, idle, nil, func(s state) bool { return s.notBefore.Equal(at(70)) }},

		{"ambiguous, nothing known: transient", in(asking), failed{now: at(50), outcome: ambiguous}, idle, nil, func(s state) bool { return !s.lost && s.failures == 1 }},
		{"ambiguous, a rotation was seen: never again", with(func(s *state) { s.phase, s.rotates = asking, true }), failed{now: at(50), outcome: ambiguous}, idle, nil, func(s state) bool { return s.lost }},
		{"ambiguous, reuse none", with(func(s *state) { s.phase, s.reuse = asking, Reuse{kind: reuseNone} }), failed{now: at(50), outcome: ambiguous}, idle, nil, func(s state) bool { return s.lost }},
		{"ambiguous, harmless: again later", with(func(s *state) { s.phase, s.rotates, s.reuse = asking, true, Reuse{kind: reuseHarmless} }), failed{now: at(50), outcome: ambiguous}, idle, nil, func(s state) bool { return !s.lost }},
		{"ambiguous, within the window: once more", with(func(s *state) { s.phase, s.reuse, s.presented = asking, window, at(40) }), failed{now: at(50), outcome: ambiguous}, asking, []act{present}, func(s state) bool { return s.retried }},
		{"ambiguous, a second time: never again", with(func(s *state) { s.phase, s.reuse, s.presented, s.doubt, s.retried = asking, window, at(40), true, true }), failed{now: at(50), outcome: ambiguous}, idle, nil, func(s state) bool { return s.lost }},
		{"ambiguous, past the window: never again", with(func(s *state) { s.phase, s.reuse, s.presented = asking, window, at(10) }), failed{now: at(50), outcome: ambiguous}, idle, nil, func(s state) bool { return s.lost }},
		{"in doubt, within the window: the one try", with(func(s *state) { s.reuse, s.presented, s.doubt = window, at(40), true }), needed{now: at(55)}, asking, []act{present}, func(s state) bool { return s.retried && s.presented.Equal(at(40)) }},
		{"a try that was not sent does not count", with(func(s *state) { s.phase, s.reuse, s.presented, s.doubt, s.retried = asking, window, at(40), true, true }), failed{now: at(50), outcome: transient}, idle, nil, func(s state) bool { return !s.retried && !s.lost }},
		{"in doubt, past the window: never again", with(func(s *state) { s.reuse, s.presented, s.doubt = window, at(10), true }), needed{now: at(55)}, idle, nil, func(s state) bool { return s.lost }},
		{"lost, the token serves out its life", with(func(s *state) { s.lost = true }), needed{now: at(55)}, idle, nil, nil},
		{"lost, then over", with(func(s *state) { s.lost = true }), needed{now: at(60)}, over, []act{end}, nil},
		{"ambiguous past the end: over at once", with(func(s *state) { s.phase, s.reuse = asking, Reuse{kind: reuseNone} }), failed{now: at(70), outcome: ambiguous}, over, []act{end}, nil},

		{"an end is an end", minute(), ended{now: at(1)}, over, nil, nil},
		{"an answer to an ended session is revoked", in(over), answered{now: at(50)}, over, []act{revoke}, nil},
		{"saved as it ended: ended again and revoked", in(over), saved{now: at(50), generation: 2}, over, []act{end, revoke}, nil},
		{"an ended session asks for nothing", in(over), needed{now: at(70)}, over, nil, nil},
	} {
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

// TestStepSimulation drives step with a model store and a model provider that rotates and revokes the family on
// reuse, through random answers, losses and outages, and checks after every step what must never happen.
func TestStepSimulation(t *testing.T) {
	for seed := range uint64(20000) {
		if trace := simulate(seed); trace != "" {
			t.Fatalf("seed %d: %s", seed, trace)
		}
	}
}

// world is the model around one session.
type world struct {
	rng      *rand.Rand
	now      time.Time
	s        state
	issued   uint64       // generation the provider gave last
	stored   uint64       // generation in the store
	pending  uint64       // generation that reached us and is not in the store
	gone     bool         // the record is deleted
	shown    map[int]int  // refresh token -> presentations
	lostOnce map[int]bool // refresh token whose answer was lost
	refused  bool
	reuse    Reuse
	queue    []effect
}

func simulate(seed uint64) string {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: t0, s: minute(), issued: 1, stored: 1, shown: map[int]int{}, lostOnce: map[int]bool{}}
	w.reuse = []Reuse{{}, {kind: reuseNone}, {kind: reuseWindow, window: 30 * time.Second}}[w.rng.IntN(3)]
	w.s.reuse, w.s.rotates = w.reuse, w.reuse.kind == reuseUnknown
	for range 60 {
		w.now = w.now.Add(time.Duration(w.rng.IntN(20000)) * time.Millisecond)
		if len(w.queue) == 0 {
			if w.rng.IntN(40) == 0 && w.s.phase == idle {
				w.gone = true // logout
				w.feed(ended{now: w.now})
				continue
			}
			w.feed(needed{now: w.now, force: w.rng.IntN(10) == 0})
			continue
		}
		e := w.queue[0]
		w.queue = w.queue[1:]
		if bad := w.do(e); bad != "" {
			return bad
		}
	}
	return ""
}

func (w *world) feed(e stepEvent) {
	var more []effect
	w.s, more = step(w.s, e)
	w.queue = append(w.queue, more...)
}

func (w *world) do(e effect) string {
	switch e.do {
	case present:
		return w.present()
	case save:
		switch n := w.rng.IntN(10); {
		case w.gone:
			w.feed(unsaved{now: w.now, why: gone})
		case n == 0:
			w.feed(unsaved{now: w.now, why: conflict})
		case n == 1:
			w.feed(unsaved{now: w.now, why: unavailable, jitter: 0.5})
		default:
			w.stored, w.pending = w.pending, 0
			w.feed(saved{now: w.now, generation: w.stored, expires: w.now.Add(time.Minute), lead: 12 * time.Second, canRefresh: true})
		}
	case load:
		w.feed(reread{now: w.now, gone: w.gone, failed: w.rng.IntN(5) == 0, generation: w.stored, expires: w.s.expires, lead: w.s.lead, canRefresh: true})
	case publish:
		if w.s.generation != w.stored {
			return fmt.Sprintf("generation %d is in use, %d is stored", w.s.generation, w.stored)
		}
	case end:
		if e.reason == ReasonRefreshRejected && !w.refused {
			return "ended as refused, and the provider did not refuse"
		}
		if e.reason == ReasonRefreshLost && len(w.lostOnce) == 0 {
			return "ended as lost, and nothing was lost"
		}
		w.gone = true
	case revoke:
		w.pending = 0
	}
	if w.pending != 0 && w.s.phase == idle {
		return "a token set that reached us was dropped"
	}
	return ""
}

// present is the provider: it gives, refuses what was used, loses answers, or is down.
func (w *world) present() string {
	token := int(w.s.generation)
	if w.gone {
		return "presented for an ended session"
	}
	switch n := w.rng.IntN(10); n {
	case 0: // down before anything was written
		w.feed(failed{now: w.now, outcome: transient, jitter: 0.5})
		return ""
	case 1: // written, and the answer lost; the token may be spent
		w.shown[token]++
		w.lostOnce[token] = true
		if w.rng.IntN(2) == 0 {
			w.issued++
		}
		w.feed(failed{now: w.now, outcome: ambiguous, jitter: 0.5})
	default:
		w.shown[token]++
		w.issued++
		w.pending = w.s.generation + 1
		w.feed(answered{now: w.now, rotated: true})
	}
	allowed := 1
	if w.lostOnce[token] && w.reuse.kind == reuseWindow {
		allowed = 2
	}
	if w.shown[token] > allowed {
		return fmt.Sprintf("refresh token %d was presented %d times, allowed %d", token, w.shown[token], allowed)
	}
	return ""
}
