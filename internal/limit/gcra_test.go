package limit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cloakroom/cloakroom/config"
)

func TestBurstThenOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(config.Rate{Burst: 10, Per: 15 * time.Minute})
		for i := range 10 {
			if ok, after := g.Take("a"); !ok || after != 0 {
				t.Fatalf("take %d: %v, %v", i, ok, after)
			}
		}
		if ok, after := g.Take("a"); ok || after != 90*time.Second {
			t.Fatalf("take 11: %v, %v; want refused for 90s", ok, after)
		}
		if ok, _ := g.Take("b"); !ok {
			t.Error("another key is refused")
		}
		time.Sleep(90 * time.Second)
		if ok, _ := g.Peek("a"); !ok {
			t.Error("peek is refused after the time it was told")
		}
		if ok, _ := g.Take("a"); !ok {
			t.Error("take is refused after the time it was told")
		}
		if ok, _ := g.Take("a"); ok {
			t.Error("one interval bought two takes")
		}
		time.Sleep(365 * 24 * time.Hour)
		for range 10 {
			g.Take("a")
		}
		if ok, _ := g.Take("a"); ok {
			t.Error("a year's rest saved up more than the burst")
		}
	})
}

func TestRatesAtTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []config.Rate{
			{Burst: 1, Per: 1},
			{Burst: 7, Per: 10},
			{Burst: 3, Per: 2}, // more takes than nanoseconds
			{Burst: 3, Per: 1<<63 - 1},
			{Burst: 1000, Per: time.Hour},
		} {
			g := New(rate)
			n := 0
			for ; n <= rate.Burst; n++ {
				if ok, _ := g.Take("a"); !ok {
					break
				}
			}
			if n != rate.Burst {
				t.Errorf("%v: %d takes at once", rate, n)
			}
		}
	})
	for _, rate := range []config.Rate{{}, {Burst: -1, Per: time.Hour}, {Burst: 5}, {Burst: 5, Per: -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%v) did not panic", rate)
				}
			}()
			New(rate)
		}()
	}
}

// inBubble hides Deadline, which rapid would ask and a synctest bubble does not have.
type inBubble struct{ rapid.TB }

// Whatever is asked, whenever, and however little room there is: no key gets more than its rate in any window, what
// is promised is kept to the nanosecond, and Peek tells what Take does.
func TestPropertyRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(inBubble{t}, func(rt *rapid.T) {
			rate := config.Rate{
				Burst: rapid.IntRange(1, 6).Draw(rt, "burst"),
				Per:   time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(rt, "per")),
			}
			g := mustSize(rate, rapid.IntRange(0, 2).Draw(rt, "room"))
			interval := time.Duration(g.interval)
			takes := map[string][]time.Time{}
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				if rapid.Bool().Draw(rt, "rest") {
					time.Sleep(time.Duration(rapid.Int64Range(0, 2*int64(interval)).Draw(rt, "sleep")))
				}
				key := fmt.Sprint(rapid.IntRange(0, 300).Draw(rt, "key") % 5)
				peek, peekAfter := g.Peek(key)
				ok, after := g.Take(key)
				if ok != peek || after != peekAfter || ok != (after == 0) {
					rt.Fatalf("peek says %v %v, take says %v %v", peek, peekAfter, ok, after)
				}
				if ok {
					takes[key] = append(takes[key], time.Now())
					inRate(rt, rate.Burst, interval, takes[key])
					continue
				}
				time.Sleep(after - 1)
				if ok, left := g.Peek(key); ok || left != 1 {
					rt.Fatalf("free a nanosecond early: %v, %v", ok, left)
				}
				time.Sleep(1)
				if ok, _ := g.Peek(key); !ok {
					rt.Fatalf("not free after %v", after)
				}
			}
		})
	})
}

func inRate(rt *rapid.T, burst int, interval time.Duration, takes []time.Time) {
	last := takes[len(takes)-1]
	for i, first := range takes {
		if n := len(takes) - i; n > burst+int(last.Sub(first)/interval) {
			rt.Fatalf("%d takes in %v; burst %d, one each %v", n, last.Sub(first), burst, interval)
		}
	}
}

func tracked(g *GCRA) int {
	n := 0
	for i := range g.shards {
		n += len(g.shards[i].tat)
	}
	return n
}

// An attacker with a /32 of IPv6 has four billion keys. They fill the memory that there is, and no more; they make
// nobody's counter forgotten, and cost the keys that come later no more than a shared budget.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := config.Rate{Burst: 3, Per: time.Hour}
		g := New(rate)
		for range 3 {
			g.Take("victim")
		}
		const flood = 2 * shards * shardKeys
		for i := range flood {
			g.Take(fmt.Sprint("flood-", i))
		}
		if n := tracked(g); n != shards*shardKeys {
			t.Errorf("%d keys tracked, want all the room there is: %d", n, shards*shardKeys)
		}
		if ok, _ := g.Peek("victim"); ok {
			t.Error("the flood made the victim's counter forgotten")
		}
		if ok, _ := g.Peek("flood-0"); !ok {
			t.Error("a tracked key lost its own budget to others")
		}

		// Those without room are bounded together, which holds for each of them, too.
		late := 0
		for i := range flood {
			if ok, _ := g.Take(fmt.Sprint("late-", i)); ok {
				late++
			}
		}
		if most := shards * cells * rate.Burst; late > most {
			t.Errorf("%d takes without room, at most %d are allowed", late, most)
		}

		time.Sleep(rate.Per)
		if ok, _ := g.Take("guest"); !ok {
			t.Error("still refused when the flood is paid off")
		}
		for i := range shards * firstScan {
			g.Take(fmt.Sprint("guest-", i))
		}
		if n := tracked(g); n > 2*shards*firstScan {
			t.Errorf("%d keys tracked after the flood", n)
		}
	})
}

// The one way to a second budget would be to take in the shared cell while there is no room, and again when there is.
func TestNoSecondBudgetWhenRoomComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := mustSize(config.Rate{Burst: 4, Per: 4 * time.Minute}, 1)
		g.seedFull()
		for range 4 {
			if ok, _ := g.Take("k"); !ok {
				t.Fatal("refused in an unused cell")
			}
		}
		time.Sleep(time.Minute) // the fillers are paid off, k is not
		if ok, _ := g.Take("k"); !ok {
			t.Fatal("refused what it has paid off")
		}
		if tracked(g) == 0 || g.shards[g.shardOf("k")].tat["k"] == 0 {
			t.Fatal("k was not given the room")
		}
		if ok, after := g.Take("k"); ok || after != time.Minute {
			t.Errorf("a second budget: %v, %v", ok, after)
		}
	})
}

// seedFull takes until each shard is full.
func (g *GCRA) seedFull() {
	for i := 0; tracked(g) < shards*g.room; i++ {
		g.Take(fmt.Sprint("filler-", i))
	}
	for i := range g.shards {
		g.shards[i].cells = [cells]int64{}
	}
}

func (g *GCRA) shardOf(key string) int {
	for i := range g.shards {
		if _, ok := g.shards[i].tat[key]; ok {
			return i
		}
	}
	return 0
}

// Run with -race: the counters are asked from everywhere, and no take is lost.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(config.Rate{Burst: 100, Per: time.Hour})
		allowed := make(chan bool, 400)
		for range 400 {
			go func() {
				ok, _ := g.Take("shared")
				allowed <- ok
			}()
		}
		n := 0
		for range 400 {
			if <-allowed {
				n++
			}
		}
		if n != 100 {
			t.Errorf("%d of 400 were allowed, want 100", n)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	g := New(config.Rate{Burst: 10, Per: 15 * time.Minute})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g.Take("2001:db8:1:2::/64")
		}
	})
}

func TestGiveTakesBack(t *testing.T) {
	g := New(config.Rate{Burst: 2, Per: time.Hour})
	for range 10 {
		if ok, _ := g.Take("a"); !ok {
			t.Fatal("refused although everything was given back")
		}
		g.Give("a")
	}
	g.Give("unknown")
	for i, want := range []bool{true, true, false} {
		if ok, _ := g.Take("a"); ok != want {
			t.Errorf("take %d: %v", i, ok)
		}
	}
}
