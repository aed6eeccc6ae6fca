// Command stores measures what sessions cost in a store: at rest, in memory, to make, to find, to end.
//
//	go run ./bench/stores -store file -sessions 1000000
//
// It starts a server of its own where the store needs one, fills it through the session manager with token sets of a
// realistic size, and prints one table.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store"
)

var writers = 64

const (
	sample    = 2000    // tickets that are kept, for lookups
	ofOne     = 10_000  // sessions of one person
	shortLife = 100_000 // sessions that end at once, to be pruned
)

func main() {
	kind := flag.String("store", "file", "file, redis or postgres")
	n := flag.Int("sessions", 100_000, "how many")
	flag.IntVar(&writers, "writers", writers, "how many make sessions at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // so that its server ends with it
	err := run(ctx, *kind, *n)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stores:", err)
		os.Exit(1)
	}
}

// provider is one that is never asked.
type provider struct{ session.Provider }

func (provider) Refresh(context.Context, oidc.TokenSet, oidc.Target, oidc.Expect) (oidc.Exchange, error) {
	return oidc.Exchange{}, fmt.Errorf("not asked")
}
func (provider) Revoke(context.Context, oidc.TokenSet) error { return nil }
func (provider) HasRevocation() bool                         { return false }
func (provider) Issuer() string                              { return "https://tenant.example.com/" }

// bench is one run.
type bench struct {
	place *place
	st    closer
	ring  *seal.Ring
}

// manager makes a manager with an empty cache on the store.
func (b *bench) manager(lifetime time.Duration, cache int64) (*session.Manager, error) {
	c := session.NewCache(cache)
	return session.NewManager(session.Options{
		Frontend: "https://app.example.com", Store: b.st, Ring: b.ring, Cache: c, Feed: session.NewFeed(b.st, c, 0, nil),
		Providers: map[string]session.ProviderPolicy{"main": {Provider: provider{}, ClientID: "app"}},
		Idle:      24 * time.Hour, RememberIdle: 14 * 24 * time.Hour, Lifetime: lifetime,
	})
}

func text(n int) string {
	raw := make([]byte, n)
	rand.Read(raw)
	for i := range raw {
		raw[i] = 'A' + raw[i]%26
	}
	return string(raw)
}

// login is a login with about 3 kB of tokens and claims.
func login(subject string) session.Login {
	now := time.Now()
	claim := func(s string) json.RawMessage { raw, _ := json.Marshal(s); return raw }
	return session.Login{
		Provider: "main", Method: "redirect", Device: "Firefox on Linux", Address: "192.0.2.1",
		Exchange: oidc.Exchange{
			Tokens: oidc.TokenSet{Access: text(1200), TokenType: "Bearer", Refresh: text(200), ID: text(1000), Scope: "openid profile email offline_access", Obtained: now, Expires: now.Add(time.Hour)},
			Claims: oidc.Claims{Issuer: provider{}.Issuer(), Subject: subject, SID: rand.Text(), AuthTime: now, IssuedAt: now, User: map[string]json.RawMessage{
				"name": claim("Alice Example " + text(12)), "email": claim(text(12) + "@example.com"), "picture": claim("https://cdn.example.com/" + text(120)),
			}},
		},
	}
}

// fill makes n sessions and returns up to sample of their tickets.
func (b *bench) fill(ctx context.Context, m *session.Manager, n int, subject func(int) string) ([]session.Ticket, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var mu sync.Mutex
	var tickets []session.Ticket
	every := max(1, n/sample)
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil {
					return
				}
				t, _, err := m.Create(ctx, login(subject(i)))
				if err != nil {
					failed.Store(&err)
					return
				}
				if i%every == 0 {
					mu.Lock()
					tickets = append(tickets, t)
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return tickets, nil
}

// lookups looks tickets up, four at a time, until stop or each was had once, and returns how long each took.
func lookups(ctx context.Context, m *session.Manager, tickets []session.Ticket, stop <-chan struct{}) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	var bad error
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := w; stop != nil || i < len(tickets); i += 4 {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				_, err := m.Lookup(ctx, tickets[i%len(tickets)])
				d := time.Since(began)
				mu.Lock()
				if took = append(took, d); err != nil {
					bad = err
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	slices.Sort(took)
	return took, bad
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc) //nolint:gosec // no machine has as much
}

func sayf(what, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

func run(ctx context.Context, kind string, n int) error {
	b := &bench{}
	var err error
	if b.place, err = newPlace(kind); err != nil {
		return err
	}
	defer b.place.remove()
	if b.st, err = b.place.start(ctx); err != nil {
		return err
	}
	defer func() { _ = b.st.Close() }()
	if b.ring, err = seal.NewRing(make([]byte, 32)); err != nil {
		return err
	}
	fmt.Printf("| %s | %d sessions, %d writers |\n|---|---:|\n", kind, n, writers)
	for _, part := range []func(context.Context, int) error{b.rest, b.ofOne, b.pruned} {
		if err := part(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// rest measures making sessions, what they take, and finding them.
func (b *bench) rest(ctx context.Context, n int) error {
	m, err := b.manager(30*24*time.Hour, 1<<20)
	if err != nil {
		return err
	}
	empty, before := b.place.size(), b.place.memory()
	began := time.Now()
	tickets, err := b.fill(ctx, m, n, func(i int) string { return fmt.Sprint("subject-", i) })
	if err != nil {
		return err
	}
	sayf("made per second", "%.0f", float64(n)/time.Since(began).Seconds())
	sayf("bytes on disk per session", "%d", (b.place.size()-empty)/int64(n))
	if b.place.command != nil {
		sayf("bytes of the server's memory per session", "%d", (b.place.memory()-before)/int64(n))
	} else {
		sayf("bytes of this process's own memory per session (without the file's pages)", "%d", heap()/int64(n))
	}
	if err := m.Close(ctx); err != nil {
		return err
	}
	if err := b.st.Close(); err != nil {
		return err
	}
	b.place.stop()
	began = time.Now()
	if b.st, err = b.place.start(ctx); err != nil {
		return err
	}
	sayf("started again in", "%v", time.Since(began).Round(time.Millisecond))
	return b.found(ctx, tickets)
}

// found measures lookups with an empty cache and a full one, and what a cached session takes.
func (b *bench) found(ctx context.Context, tickets []session.Ticket) error {
	m, err := b.manager(30*24*time.Hour, 1<<30)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go m.Feed.Run(watching) // as in a server: a cached session is trusted while the feed proves itself
	time.Sleep(time.Second)
	empty := heap()
	cold, err := lookups(ctx, m, tickets, nil)
	if err != nil {
		return err
	}
	sayf("found cold, p50 / p99", "%v / %v", quantile(cold, 0.5).Round(time.Microsecond), quantile(cold, 0.99).Round(time.Microsecond))
	sayf("bytes of memory per cached session", "%d", (heap()-empty)/int64(len(tickets)))
	cached, err := lookups(ctx, m, tickets, nil)
	if err != nil {
		return err
	}
	sayf("found cached, p50 / p99", "%v / %v", quantile(cached, 0.5), quantile(cached, 0.99))
	return m.Close(ctx)
}

// ofOne measures the sessions of one person.
func (b *bench) ofOne(ctx context.Context, _ int) error {
	m, err := b.manager(30*24*time.Hour, 1<<20)
	if err != nil {
		return err
	}
	if _, err := b.fill(ctx, m, ofOne, func(int) string { return "one person" }); err != nil {
		return err
	}
	who := session.Who{Provider: "main", Subject: "one person"}
	began := time.Now()
	_, next, err := m.List(ctx, who, "", 100)
	if err != nil {
		return err
	}
	sayf(fmt.Sprintf("%d sessions of one person: the first page of 100", ofOne), "%v", time.Since(began).Round(time.Microsecond))
	total := 100
	for next != "" {
		var page []session.Entry
		if page, next, err = m.List(ctx, who, next, 100); err != nil {
			return err
		}
		total += len(page)
	}
	if total != ofOne {
		return fmt.Errorf("listed %d of %d", total, ofOne)
	}
	sayf("all pages", "%v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	if total, err = m.EndAll(ctx, who, "", session.ReasonUser); err != nil || total != ofOne {
		return fmt.Errorf("ended %d of %d: %w", total, ofOne, err)
	}
	sayf("end all", "%v", time.Since(began).Round(time.Millisecond))
	return m.Close(ctx)
}

// pruned measures removing what is over while others are being looked up.
func (b *bench) pruned(ctx context.Context, n int) error {
	pruner, ok := b.st.(store.Pruner)
	if !ok {
		sayf(fmt.Sprintf("%d are over", shortLife), "the server forgets them by itself")
		return nil
	}
	brief, err := b.manager(time.Second, 1<<20)
	if err != nil {
		return err
	}
	over := min(shortLife, n)
	if _, err := b.fill(ctx, brief, over, func(i int) string { return fmt.Sprint("brief-", i) }); err != nil {
		return err
	}
	m, err := b.manager(30*24*time.Hour, 1) // each lookup is a cold one
	if err != nil {
		return err
	}
	tickets, err := b.fill(ctx, m, sample, func(i int) string { return fmt.Sprint("reader-", i) })
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	before, err := lookups(ctx, m, tickets, after(3*time.Second))
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var meanwhile []time.Duration
	var work sync.WaitGroup
	work.Go(func() { meanwhile, err = lookups(ctx, m, tickets, stop) })
	began, total := time.Now(), 0
	for removed := 1000; removed == 1000; total += removed {
		var bad error
		if removed, bad = pruner.Prune(ctx, 1000); bad != nil {
			return bad
		}
	}
	took := time.Since(began)
	close(stop)
	work.Wait()
	if err != nil {
		return err
	}
	sayf(fmt.Sprintf("%d that are over removed in", total), "%v", took.Round(time.Millisecond))
	sayf("a lookup meanwhile, p99 / longest", "%v / %v", quantile(meanwhile, 0.99).Round(time.Microsecond), quantile(meanwhile, 1).Round(time.Microsecond))
	sayf("and before, p99 / longest", "%v / %v", quantile(before, 0.99).Round(time.Microsecond), quantile(before, 1).Round(time.Microsecond))
	return m.Close(ctx)
}

func after(d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	time.AfterFunc(d, func() { close(done) })
	return done
}
