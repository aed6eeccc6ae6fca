// Package limit bounds how often something may be tried: GCRA, the generic cell rate algorithm, with one number for
// each key, in this process. What the keys are is for [Account] and [Address] to say; no key can be read back.
package limit

import (
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

const (
	shards    = 64                   // locks, so that logins do not queue for each other
	shardKeys = 2048                 // 131,072 keys in all, about 16 MiB when full
	cells     = 256                  // shared counters of a shard, for the keys that find it full
	firstScan = 64                   // a smaller shard is not worth a sweep
	maxPer    = 366 * 24 * time.Hour // keeps the sums below in an int64
)

// GCRA counts by key. A key may be taken Burst times at once, and as often again spread over each Per. Its whole
// state is the theoretical arrival time: the moment at which the key will have paid off what it took.
//
// Memory is bounded, and filling it buys an attacker nothing. A counter is forgotten only once it is paid off, when
// it says no more than a missing one does. A key that finds no room shares a counter with others that found none:
// it may then be refused early because of them, and is never allowed more than its rate.
type GCRA struct {
	interval int64 // what one take costs, in nanoseconds
	limit    int64 // the most that a key may owe
	room     int   // keys that one shard tracks one by one
	start    time.Time
	seed     maphash.Seed // secret: nobody can choose keys to meet a victim's shard or cell
	shards   [shards]shard
}

type shard struct {
	mu     sync.Mutex
	tat    map[string]int64 // nanoseconds since start
	cells  [cells]int64     // the same, each for many keys
	scanAt int              // sweep when the map has grown to this
	freeAt int64            // nothing is paid off before
}

// New makes a counter. The rate must be a real one: the caller has put the default where the configuration says
// nothing. A rate without burst or period is a programming error and panics, because it could only mean all or none.
func New(rate config.Rate) *GCRA { return mustSize(rate, shardKeys) }

func mustSize(rate config.Rate, room int) *GCRA {
	if rate.Burst <= 0 || rate.Per <= 0 {
		panic("limit: a rate needs a burst and a period")
	}
	interval := max(1, int64(min(rate.Per, maxPer))/int64(rate.Burst))
	return &GCRA{
		interval: interval,
		limit:    interval * int64(rate.Burst),
		room:     room,
		start:    time.Now(),
		seed:     maphash.MakeSeed(),
	}
}

// Take counts one and reports whether it is allowed. What is refused costs nothing, so hammering delays nobody's
// next chance; retryAfter says when that is (0 if allowed).
func (g *GCRA) Take(key string) (ok bool, retryAfter time.Duration) {
	return g.ask(key, true)
}

// Peek reports what Take would say, and counts nothing.
func (g *GCRA) Peek(key string) (ok bool, retryAfter time.Duration) {
	return g.ask(key, false)
}

// Give takes a Take back: the attempt turned out to be none of those that are to be limited.
func (g *GCRA) Give(key string) {
	s := &g.shards[maphash.String(g.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if tat, tracked := s.tat[key]; tracked {
		s.tat[key] = tat - g.interval
	} // a key without a counter of its own shares one: giving there would be giving to others
}

func (g *GCRA) ask(key string, take bool) (bool, time.Duration) {
	h := maphash.String(g.seed, key)
	s := &g.shards[h%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(time.Since(g.start)) // monotonic: setting the clock forgives nothing

	// A key that is not tracked starts at what its cell owes, also when there is room again: it may have taken there.
	cell := &s.cells[h/shards%cells]
	tat, tracked := s.tat[key]
	if !tracked {
		tat = *cell
	}
	next := max(tat, now) + g.interval
	if wait := next - g.limit - now; wait > 0 {
		return false, time.Duration(wait)
	}
	if !take {
		return true, 0
	}
	if !tracked && !s.hasRoom(now, g.room) {
		*cell = next
		return true, 0
	}
	s.tat[key] = next
	s.freeAt = min(s.freeAt, next)
	return true, 0
}

// hasRoom reports whether one more key can be tracked. It sweeps when the map has doubled, so that each sweep is paid
// for by the keys that came since; in a full shard only once something has been paid off.
func (s *shard) hasRoom(now int64, room int) bool {
	switch full := len(s.tat) >= room; {
	case s.tat == nil:
		s.tat, s.scanAt, s.freeAt = map[string]int64{}, firstScan, math.MaxInt64
	case full && now >= s.freeAt, !full && len(s.tat) >= s.scanAt:
		s.sweep(now)
	}
	return len(s.tat) < room
}

// sweep forgets what is paid off.
func (s *shard) sweep(now int64) {
	s.freeAt = math.MaxInt64
	for key, tat := range s.tat {
		if tat <= now {
			delete(s.tat, key)
		} else {
			s.freeAt = min(s.freeAt, tat)
		}
	}
	s.scanAt = max(firstScan, 2*len(s.tat))
}
