package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// hub is a store that several processes share, with a change feed, as a server is; in fake time.
type hub struct {
	mu    sync.Mutex
	mem   *memstore.Store
	ports []*port
}

// port is one process's connection to the hub.
type port struct {
	*hub
	down   atomic.Bool             // every call fails, the feed breaks
	mute   atomic.Bool             // the feed is half open: nothing comes, and nobody says so
	hangs  atomic.Bool             // calls wait until they are given up
	loads  atomic.Int64            // how often records were read
	before func(call string)       // called before a call reaches the hub
	after  func(call string) error // called before its answer; an error loses the answer
	skew   time.Duration           // the hub's clock less this process's
	inbox  []store.Change          // of the feed, guarded by hub.mu
	bell   chan struct{}           // rings when there is something in the inbox
	broken chan struct{}           // closed to break the feed
}

func newHub() *hub { return &hub{mem: memstore.New()} }

func (h *hub) connect() *port {
	p := &port{hub: h, bell: make(chan struct{}, 1), broken: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports = append(h.ports, p)
	return p
}

// tell delivers a change to all.
func (h *hub) tell(c store.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.ports {
		p.inbox = append(p.inbox, c)
		select {
		case p.bell <- struct{}{}:
		default:
		}
	}
}

// failover puts back an older state of the hub, and breaks every feed.
func (h *hub) failover(to *memstore.Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mem = to
	for _, p := range h.ports {
		close(p.broken)
		p.broken = make(chan struct{})
		p.inbox = nil
	}
}

// copied is the hub's state as a new store.
func (h *hub) copied(t *testing.T) *memstore.Store {
	t.Helper()
	c := memstore.New()
	page, err := h.mem.Find(context.Background(), store.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Records {
		version := r.Version
		for r.Version = 0; r.Version < version; r.Version++ {
			if _, err := c.Save(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

func (h *hub) store() *memstore.Store {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mem
}

// call is one call of a process to the hub.
func call[T any](ctx context.Context, p *port, name string, do func(*memstore.Store) (T, error)) (answer T, err error) {
	if p.hangs.Load() {
		<-ctx.Done()
		return answer, ctx.Err()
	}
	if p.down.Load() {
		return answer, errDown
	}
	if p.before != nil {
		p.before(name)
	}
	if answer, err = do(p.store()); p.after != nil {
		if lost := p.after(name); lost != nil {
			return answer, lost
		}
	}
	return answer, err
}

func (p *port) Load(ctx context.Context, id store.ID) (store.Record, error) {
	p.loads.Add(1)
	return call(ctx, p, "load", func(m *memstore.Store) (store.Record, error) { return m.Load(ctx, id) })
}

func (p *port) Save(ctx context.Context, r store.Record) (uint64, error) {
	return call(ctx, p, "save", func(m *memstore.Store) (uint64, error) {
		v, err := m.Save(ctx, r)
		if err == nil {
			p.tell(store.Change{ID: r.ID, Version: v})
		}
		return v, err
	})
}

func (p *port) Delete(ctx context.Context, ids ...store.ID) error {
	_, err := call(ctx, p, "delete", func(m *memstore.Store) (struct{}, error) {
		err := m.Delete(ctx, ids...)
		for _, id := range ids {
			p.tell(store.Change{ID: id})
		}
		return struct{}{}, err
	})
	return err
}

func (p *port) Touch(ctx context.Context, touches []store.Touch) error {
	_, err := call(ctx, p, "touch", func(m *memstore.Store) (struct{}, error) { return struct{}{}, m.Touch(ctx, touches) })
	return err
}

func (p *port) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	return call(ctx, p, "once", func(m *memstore.Store) (bool, error) { return m.Once(ctx, key, expires) })
}

func (p *port) Find(ctx context.Context, q store.Query) (store.Page, error) {
	return call(ctx, p, "find", func(m *memstore.Store) (store.Page, error) { return m.Find(ctx, q) })
}

func (p *port) Ping(ctx context.Context) error {
	_, err := call(ctx, p, "ping", func(m *memstore.Store) (struct{}, error) { return struct{}{}, m.Ping(ctx) })
	return err
}

func (p *port) Now(context.Context) (time.Time, error) {
	if p.down.Load() {
		return time.Time{}, errDown
	}
	return time.Now().Add(p.skew).Round(0), nil
}

// Watch delivers what is told, and proves itself five times a second; without proof for three seconds it breaks.
func (p *port) Watch(ctx context.Context, f store.Feed) error {
	if p.down.Load() {
		return errDown
	}
	if p.mute.Load() {
		<-time.After(time.Second)
		return errors.New("no answer")
	}
	p.mu.Lock()
	broken := p.broken
	p.inbox = nil
	p.mu.Unlock()
	f.Begun()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return errors.New("the feed broke")
		case <-p.bell:
			if !p.mute.Load() {
				p.drain(f)
			}
		case <-tick.C:
			since := time.Now()
			switch {
			case p.down.Load():
				return errDown
			case !p.mute.Load():
				p.drain(f)
				f.Alive(since)
				last = since
			case since.Sub(last) > 3*time.Second:
				return errors.New("the feed is silent")
			}
		}
	}
}

func (p *port) drain(f store.Feed) {
	p.mu.Lock()
	changes := p.inbox
	p.inbox = nil
	p.mu.Unlock()
	for _, c := range changes {
		f.Changed(c)
	}
}

// replica is one process of a fleet.
type replica struct {
	*fixture
	port *port
	stop context.CancelFunc
	done chan struct{}
}

// fleet starts replicas on one hub with one provider, and ends them with the bubble.
func fleet(t *testing.T, n int, change func(*Options), test func(t *testing.T, h *hub, r []*replica)) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHub(), &provider{life: time.Minute}
		replicas := make([]*replica, n)
		for i := range replicas {
			replicas[i] = join(t, h, p, change)
		}
		time.Sleep(300 * time.Millisecond) // the feeds stand
		test(t, h, replicas)
		for _, r := range replicas {
			r.leave()
		}
	})
}

func join(t *testing.T, h *hub, p *provider, change func(*Options)) *replica {
	t.Helper()
	r := &replica{port: h.connect(), done: make(chan struct{})}
	r.fixture = newFixture(t, func(o *Options) {
		o.Store = r.port
		o.Feed = NewFeed(r.port, o.Cache, 0, o.Events)
		if change != nil {
			change(o)
		}
		for name, policy := range o.Providers {
			policy.Provider = p
			o.Providers[name] = policy
		}
	})
	r.p = p
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { defer close(r.done); r.Feed.Run(ctx) }()
	return r
}

func (r *replica) leave() {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
	r.stop()
	<-r.done
}

// lookup says how a ticket fares here: nil, ErrEnded or an *Unavailable.
func (r *replica) lookup(ticket Ticket) (*Live, error) { return r.Lookup(context.Background(), ticket) }

func wantEnded(t *testing.T, r *replica, ticket Ticket, what string) {
	t.Helper()
	if _, err := r.lookup(ticket); !errors.Is(err, ErrEnded) {
		t.Errorf("%s: %v", what, err)
	}
}

func wantLive(t *testing.T, r *replica, ticket Ticket, what string) *Live {
	t.Helper()
	l, err := r.lookup(ticket)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return l
}

func isUnavailable(err error) bool {
	_, ok := errors.AsType[*Unavailable](err)
	return ok
}

// What one replica ends is over on all, at once, and only the one that ended it says so.
func TestAnEndIsAnEndEverywhere(t *testing.T) {
	fleet(t, 3, nil, func(t *testing.T, _ *hub, r []*replica) {
		ticket, l := r[0].login()
		held := []*Live{wantLive(t, r[1], ticket, "second replica"), wantLive(t, r[2], ticket, "third replica")}
		if revoked, err := r[0].End(t.Context(), l, ReasonLogout); err != nil || !revoked {
			t.Fatal(revoked, err)
		}
		synctest.Wait()
		for i, other := range held {
			select {
			case <-other.Done():
			default:
				t.Errorf("replica %d: its streams live on", i+1)
			}
			wantEnded(t, r[i+1], ticket, "after the end")
			if reasons := r[i+1].reasons(); len(reasons) != 0 {
				t.Errorf("replica %d accounts for it, too: %v", i+1, reasons)
			}
		}
		if reasons := r[0].reasons(); len(reasons) != 1 || reasons[0] != ReasonLogout {
			t.Errorf("%v", reasons)
		}
	})
}

// A cached session costs no load while the feed proves itself, and what another replica saves is seen.
func TestWhatAnotherReplicaSavesIsSeen(t *testing.T) {
	fleet(t, 2, nil, func(t *testing.T, _ *hub, r []*replica) {
		ticket, l := r[0].login()
		other := wantLive(t, r[1], ticket, "second replica")
		before := r[1].port.loads.Load()
		for range 100 {
			time.Sleep(300 * time.Millisecond)
			wantLive(t, r[1], ticket, "cached")
		}
		if n := r[1].port.loads.Load() - before; n != 0 {
			t.Errorf("%d loads of a cached session", n)
		}
		changed := other.Changed()
		stop := other.Watch()
		defer stop()
		r[0].p.change = func(x *oidc.Exchange) error {
			x.Claims.User["name"] = []byte(`"Alice B."`)
			return nil
		}
		time.Sleep(25 * time.Second)
		if tokens, err := r[0].Fresh(t.Context(), l); err != nil || tokens.Access != "access-1" {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-changed:
		default:
			t.Error("a stream is not told of other claims")
		}
		again := wantLive(t, r[1], ticket, "after a refresh elsewhere")
		tokens, err := r[1].Fresh(t.Context(), again)
		if err != nil || tokens.Access != "access-2" || r[0].p.asked() != 1 || string(again.Session().User["name"]) != `"Alice B."` {
			t.Errorf("%v, %d refreshes, %s", err, r[0].p.asked(), again.Session().User["name"])
		}
	})
}

// A feed that is half open proves nothing: within a second the store is asked again. When it goes on, or breaks and is
// made anew, streams hear what they missed.
func TestHalfOpenFeedIsNotTrusted(t *testing.T) {
	for name, silent := range map[string]time.Duration{"goes on": 2 * time.Second, "breaks": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			fleet(t, 2, nil, func(t *testing.T, _ *hub, r []*replica) {
				ticket, l := r[0].login()
				held := wantLive(t, r[1], ticket, "second replica")
				defer held.Watch()()
				r[1].port.mute.Store(true)
				began := time.Now()
				if _, err := r[0].End(t.Context(), l, ReasonLogout); err != nil {
					t.Fatal(err)
				}
				other, _ := r[0].login()
				for time.Since(began) < trustTime {
					time.Sleep(100 * time.Millisecond)
				}
				wantEnded(t, r[1], ticket, "a second later")
				wantLive(t, r[1], other, "another session")
				held = wantLive(t, r[1], other, "another session, held by a stream")
				defer held.Watch()()
				if err := r[0].EndHandle(t.Context(), held.Session().Handle, ReasonUser); err != nil {
					t.Fatal(err)
				}
				time.Sleep(silent - trustTime)
				r[1].port.mute.Store(false)
				time.Sleep(3 * retryFeed)
				select {
				case <-held.Done():
				default:
					t.Error("a stream outlives its session, though the feed is back")
				}
			})
		})
	}
}

// Within the time of grace cached sessions are served, then 503; an ended one is never one of them for longer.
func TestStoreDown(t *testing.T) {
	const grace = 30 * time.Second
	for name, way := range map[string]func(*port, bool){
		"refuses": func(p *port, on bool) { p.down.Store(on) },
		"hangs":   func(p *port, on bool) { p.hangs.Store(on); p.mute.Store(on) },
	} {
		t.Run(name, func(t *testing.T) {
			fleet(t, 1, func(o *Options) { o.Feed = NewFeed(o.Store, o.Cache, grace, o.Events) }, func(t *testing.T, _ *hub, r []*replica) {
				r[0].p.life = time.Hour
				ticket, _ := r[0].login()
				way(r[0].port, true)
				slow := 0
				for began := time.Now(); time.Since(began) < grace; time.Sleep(250 * time.Millisecond) {
					asked := time.Now()
					wantLive(t, r[0], ticket, "in the time of grace")
					if time.Since(asked) > 0 {
						slow++
					}
				}
				if slow > 35 { // about one in a second tries
					t.Errorf("%d requests waited for a store that is down", slow)
				}
				time.Sleep(2 * time.Second)
				if _, err := r[0].lookup(ticket); !isUnavailable(err) {
					t.Errorf("after it: %v", err)
				}
				way(r[0].port, false)
				time.Sleep(3 * retryFeed)
				wantLive(t, r[0], ticket, "when it is back")
				if len(r[0].reasons()) != 0 {
					t.Errorf("ended: %v", r[0].reasons())
				}
			})
		})
	}
}

// A failover loses the last writes: an ended session does not come back, and a token set does not go back.
func TestFailoverLosesTheLastWrites(t *testing.T) {
	fleet(t, 2, nil, func(t *testing.T, h *hub, r []*replica) {
		ended, l := r[0].login()
		time.Sleep(40 * time.Second) // its token is about half over when the next begins
		refreshed, kept := r[1].login()
		wantLive(t, r[1], ended, "second replica")
		old := h.copied(t)
		made, _ := r[0].login()
		if _, err := r[0].End(t.Context(), l, ReasonLogout); err != nil {
			t.Fatal(err)
		}
		r[0].p.mu.Lock()
		r[0].p.current = kept.open.tokens.Refresh // the provider knows one person only
		r[0].p.mu.Unlock()
		time.Sleep(58 * time.Second)
		if _, err := r[1].Fresh(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		newest := r[1].Tokens(kept).Access
		h.failover(old)
		time.Sleep(5 * time.Second)
		for i, at := range r {
			wantEnded(t, at, ended, "an ended session came back")
			if got := at.Tokens(wantLive(t, at, refreshed, "a refreshed session")).Access; got != newest {
				t.Errorf("replica %d: the token set went back to %q from %q", i, got, newest)
			}
			wantLive(t, at, made, "a session that was made just before")
		}
		if r[0].p.spent() != 0 {
			t.Error("a spent refresh token was presented")
		}
	})
}

// Somebody ends all sessions of a person while one is being made.
func TestAnEndOvertakesALogin(t *testing.T) {
	fleet(t, 2, nil, func(t *testing.T, _ *hub, r []*replica) {
		r[0].port.after = func(name string) error {
			if name == "save" {
				r[0].port.after = nil
				if n, err := r[1].EndAll(t.Context(), Who{Provider: "main", Subject: "alice"}, "", ReasonEverywhere); err != nil || n != 1 {
					t.Errorf("%d ended, %v", n, err)
				}
				time.Sleep(time.Second) // the feed tells, the answer does not come yet
			}
			return nil
		}
		r[0].p.mu.Lock()
		x := r[0].p.next()
		r[0].p.mu.Unlock()
		ticket, _, err := r[0].Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: x})
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		wantEnded(t, r[0], ticket, "made and ended")
	})
}

// The feed brings our own end back before the store has answered: the tokens are revoked and the reason stays.
func TestOwnEndComesBackFirst(t *testing.T) {
	fleet(t, 1, nil, func(t *testing.T, _ *hub, r []*replica) {
		for name, end := range map[string]func(*Live) error{
			"one": func(l *Live) error { _, err := r[0].End(t.Context(), l, ReasonLogout); return err },
			"all": func(*Live) error {
				_, err := r[0].EndAll(t.Context(), Who{Provider: "main", Subject: "alice"}, "", ReasonLogout)
				return err
			},
		} {
			_, l := r[0].login()
			revoked, ended := len(r[0].p.revoked()), len(r[0].reasons())
			r[0].port.after = func(string) error { time.Sleep(time.Second); return nil }
			if err := end(l); err != nil {
				t.Error(err)
			}
			r[0].port.after = nil
			synctest.Wait()
			if l.Why() != ReasonLogout || len(r[0].p.revoked()) != revoked+1 || len(r[0].reasons()) != ended+1 || r[0].reasons()[ended] != ReasonLogout {
				t.Errorf("%s: %q, revoked %v, ended %v", name, l.Why(), r[0].p.revoked(), r[0].reasons())
			}
		}
	})
}

// Another replica refreshes while this one's try fails: its token set is used, and the old one is not presented.
func TestAFailedRefreshSeesWhatAnotherSaved(t *testing.T) {
	fleet(t, 2, nil, func(t *testing.T, _ *hub, r []*replica) {
		ticket, l := r[0].login()
		other := wantLive(t, r[1], ticket, "second replica")
		r[0].p.delay = 3 * time.Second
		r[0].p.fault = func(call int) (oidc.Exchange, error, bool) {
			return oidc.Exchange{}, &oidc.Error{Kind: oidc.Transient}, call == 1
		}
		time.Sleep(55 * time.Second)
		if _, err := r[0].Fresh(t.Context(), l); err != nil { // ahead of the end; it will fail
			t.Fatal(err)
		}
		synctest.Wait()
		r[0].p.mu.Lock()
		r[0].p.delay = time.Second // the other one is through first
		r[0].p.mu.Unlock()
		if _, err := r[1].Fresh(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for range 20 {
			time.Sleep(time.Second)
			again := wantLive(t, r[0], ticket, "first replica")
			if _, err := r[0].Fresh(t.Context(), again); err != nil {
				t.Fatal(err)
			}
		}
		if r[0].p.spent() != 0 || r[0].p.asked() != 2 {
			t.Errorf("%d calls, %d spent tokens presented", r[0].p.asked(), r[0].p.spent())
		}
	})
}

// A record that another version wrote, or that is broken, takes only its own session.
func TestBrokenRecordOnASharedStore(t *testing.T) {
	fleet(t, 2, nil, func(t *testing.T, h *hub, r []*replica) {
		broken, l := r[0].login()
		newer, n := r[0].login()
		fine, _ := r[0].login()
		for id, change := range map[store.ID]func([]byte){l.id: func(b []byte) { b[len(b)/2] ^= 1 }, n.id: func(b []byte) { b[0] = envelopeVersion + 1 }} {
			rec, err := h.store().Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			change(rec.Blob)
			if _, err := h.store().Save(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		wantEnded(t, r[1], broken, "a broken record")
		if _, err := r[1].lookup(newer); !isUnavailable(err) {
			t.Errorf("a record of a newer version: %v", err)
		}
		wantLive(t, r[1], fine, "another session")
		r[1].mu.Lock()
		defer r[1].mu.Unlock()
		told := 0
		for _, a := range r[1].audit {
			if a.Kind == event.RecordCorrupt {
				told++
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}
