package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
)

// arrival is a login as the provider tells of it: whose, when its ID token was made, when the person logged in there
// (zero = not said).
type arrival struct {
	subject, sid     string
	issued, loggedIn time.Time
}

// enter makes a session of an arrival.
func (f *fixture) enter(a arrival) (Ticket, error) {
	f.t.Helper()
	f.p.mu.Lock()
	x := f.p.next()
	f.p.mu.Unlock()
	x.Claims.Subject, x.Claims.SID, x.Claims.IssuedAt, x.Claims.AuthTime = a.subject, a.sid, a.issued, a.loggedIn
	ticket, _, err := f.Create(context.Background(), Login{Provider: "main", Method: "redirect", Exchange: x})
	return ticket, err
}

func (f *fixture) mustEnter(a arrival) Ticket {
	f.t.Helper()
	ticket, err := f.enter(a)
	if err != nil {
		f.t.Fatal(err)
	}
	return ticket
}

// alive tells which of the tickets open a session.
func (f *fixture) alive(tickets ...Ticket) (list []bool) {
	f.t.Helper()
	for _, t := range tickets {
		_, err := f.Lookup(context.Background(), t)
		if err != nil && !errors.Is(err, ErrEnded) {
			f.t.Fatal(err)
		}
		list = append(list, err == nil)
	}
	return list
}

func notice(who Who, id string, issued time.Time) Notice {
	who.Provider = "main"
	return Notice{Who: who, ID: id, Issued: issued, Until: issued.Add(11 * time.Minute)}
}

// A notice ends what it names and nothing else.
func TestProviderLogoutEndsWhomItNames(t *testing.T) {
	for _, tc := range []struct {
		name string
		who  Who
		want string // of alice s1, alice s2, bob s3
		n    int
	}{
		{"a sid", Who{SID: "s1"}, "[false true true]", 1},
		{"a subject", Who{Subject: "alice"}, "[false false true]", 2},
		{"both", Who{SID: "s1", Subject: "alice"}, "[false true true]", 1},
		{"a sid of somebody else", Who{SID: "s1", Subject: "bob"}, "[true true true]", 0},
		{"nobody here", Who{SID: "s9"}, "[true true true]", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				now := time.Now()
				a, b, c := f.mustEnter(arrival{"alice", "s1", now, now}), f.mustEnter(arrival{"alice", "s2", now, now}), f.mustEnter(arrival{"bob", "s3", now, now})
				n, repeated, err := f.ProviderLogout(t.Context(), notice(tc.who, "j1", time.Now()))
				if err != nil || repeated || n != tc.n {
					t.Errorf("ended %d, repeated %v, %v", n, repeated, err)
				}
				if got := fmt.Sprint(f.alive(a, b, c)); got != tc.want {
					t.Errorf("alive %s, want %s", got, tc.want)
				}
			})
		})
	}
}

// What comes back is not ended by a notice that is older, however often that one comes, and whatever failed before.
func TestProviderLogoutHasNoSecondEffect(t *testing.T) {
	for _, who := range []Who{{SID: "s1"}, {Subject: "alice"}, {SID: "s1", Subject: "alice"}} {
		for _, repeatedID := range []bool{true, false} {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				before := time.Now()
				old := f.mustEnter(arrival{"alice", "s1", before, before})
				time.Sleep(time.Minute)
				first := notice(who, "j1", time.Now())
				if n, _, err := f.ProviderLogout(t.Context(), first); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				time.Sleep(30 * time.Second)
				now := time.Now()
				// Some providers give the same sid to the next login in the same browser.
				again, err := f.enter(arrival{"alice", "s1", now, now.Add(-10 * time.Second)})
				if err != nil {
					t.Fatalf("%+v: the next login is refused: %v", who, err)
				}
				second := first
				if !repeatedID {
					second.ID = "j2"
				}
				n, repeated, err := f.ProviderLogout(t.Context(), second)
				if n != 0 || repeated != repeatedID || err != nil {
					t.Errorf("%+v: ended %d, repeated %v, %v", who, n, repeated, err)
				}
				if got := fmt.Sprint(f.alive(old, again)); got != "[false true]" {
					t.Errorf("%+v: alive %s", who, got)
				}
			})
		}
	}
}

// A login that was on its way when the notice came is over before it begins.
func TestProviderLogoutOvertakesItsLogin(t *testing.T) {
	for _, tc := range []struct {
		name string
		who  Who
		late arrival // in seconds after the notice, by way of its times
		dead bool
	}{
		{"by sid, no time said", Who{SID: "s1"}, arrival{subject: "alice", sid: "s1"}, true},
		{"by sid, its ID token made after the notice", Who{SID: "s1"}, arrival{subject: "alice", sid: "s1", issued: after(5), loggedIn: after(-60)}, true},
		{"by sid, logged in after the notice", Who{SID: "s1"}, arrival{subject: "alice", sid: "s1", issued: after(5), loggedIn: after(4)}, false},
		{"by another sid", Who{SID: "s2"}, arrival{subject: "alice", sid: "s1"}, false},
		{"by subject", Who{Subject: "alice"}, arrival{subject: "alice", sid: "s1", issued: after(-1)}, true},
		{"by subject, in the same second", Who{Subject: "alice"}, arrival{subject: "alice", sid: "s1", issued: after(0)}, true},
		{"by subject, its ID token made after the notice", Who{Subject: "alice"}, arrival{subject: "alice", sid: "s1", issued: after(1)}, false},
		{"by both", Who{SID: "s1", Subject: "alice"}, arrival{subject: "alice", sid: "s1"}, true},
		{"by both, and the sid is of somebody else", Who{SID: "s1", Subject: "bob"}, arrival{subject: "alice", sid: "s1"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				if _, _, err := f.ProviderLogout(t.Context(), notice(tc.who, "j1", after(0))); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if tc.late.issued.IsZero() {
					tc.late.issued = after(-1)
				}
				_, err := f.enter(tc.late)
				if tc.dead != errors.Is(err, ErrEnded) || !tc.dead && err != nil {
					t.Errorf("%v", err)
				}
				if n := len(f.p.revoked()); tc.dead && n != 1 {
					t.Errorf("%d tokens revoked", n)
				}
			})
		})
	}
}

// after is a time by seconds from the beginning of a bubble's time.
func after(seconds int) time.Time {
	return time.Date(2000, 1, 1, 0, 0, seconds, 0, time.UTC)
}

// A notice is done only when all of it is done: one that failed anywhere works when it comes again.
func TestProviderLogoutFailsHalfWay(t *testing.T) {
	for broken := 1; ; broken++ {
		reached := true
		inBubble(t, nil, func(t *testing.T, f *fixture) {
			now := time.Now()
			a, b := f.mustEnter(arrival{"alice", "s1", now, now}), f.mustEnter(arrival{"alice", "s2", now, now})
			st := &breaking{Store: f.st, at: broken}
			f.Store = st
			n := notice(Who{Subject: "alice"}, "j1", now)
			_, _, err := f.ProviderLogout(t.Context(), n)
			reached = st.calls >= broken
			var u *Unavailable
			if reached != errors.As(err, &u) {
				t.Fatalf("call %d broken: %v", broken, err)
			}
			if !reached {
				return
			}
			if _, repeated, err := f.ProviderLogout(t.Context(), n); err != nil || repeated {
				t.Errorf("call %d broken, then again: repeated %v, %v", broken, repeated, err)
			}
			if got := fmt.Sprint(f.alive(a, b)); got != "[false false]" {
				t.Errorf("call %d broken: alive %s", broken, got)
			}
			if _, repeated, err := f.ProviderLogout(t.Context(), n); err != nil || !repeated {
				t.Errorf("done: repeated %v, %v", repeated, err)
			}
		})
		if !reached {
			if broken < 7 {
				t.Errorf("only %d calls to the store", broken-1)
			}
			return
		}
	}
}

// breaking is a store whose one call fails.
type breaking struct {
	store.Store
	at, calls int
}

func (b *breaking) next() error {
	if b.calls++; b.calls == b.at {
		return errDown
	}
	return nil
}

func (b *breaking) Load(ctx context.Context, id store.ID) (store.Record, error) {
	if err := b.next(); err != nil {
		return store.Record{}, err
	}
	return b.Store.Load(ctx, id)
}

func (b *breaking) Save(ctx context.Context, r store.Record) (uint64, error) {
	if err := b.next(); err != nil {
		return 0, err
	}
	return b.Store.Save(ctx, r)
}

func (b *breaking) Delete(ctx context.Context, ids ...store.ID) error {
	if err := b.next(); err != nil {
		return err
	}
	return b.Store.Delete(ctx, ids...)
}

func (b *breaking) Find(ctx context.Context, q store.Query) (store.Page, error) {
	if err := b.next(); err != nil {
		return store.Page{}, err
	}
	return b.Store.Find(ctx, q)
}

// A client has one address for notices, whatever it is called in the configuration and however many apps use it.
func TestProviderLogoutReachesTheWholeClient(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		second := f.Options
		second.Frontend = "https://second.example"
		second.Providers = map[string]ProviderPolicy{
			"main":  {Provider: f.p, ClientID: "another app"},
			"other": {Provider: f.p, ClientID: "app"},
		}
		m := f.manager(second)
		defer m.Close(t.Context())
		enter := func(provider string) Ticket {
			x := f.p.next()
			ticket, _, err := m.Create(t.Context(), Login{Provider: provider, Method: "redirect", Exchange: x})
			if err != nil {
				t.Fatal(err)
			}
			return ticket
		}
		here, there, anotherApp := f.mustEnter(arrival{subject: "alice", sid: "s1"}), enter("other"), enter("main")
		if n, _, err := f.ProviderLogout(t.Context(), notice(Who{SID: "s1"}, "j1", time.Now())); n != 2 || err != nil {
			t.Errorf("ended %d, %v", n, err)
		}
		_, errThere := m.Lookup(t.Context(), there)
		_, errOther := m.Lookup(t.Context(), anotherApp)
		if f.alive(here)[0] || !errors.Is(errThere, ErrEnded) || errOther != nil {
			t.Errorf("here %v, there %v, another client's %v", f.alive(here), errThere, errOther)
		}
	})
}

// Sessions of every key of the ring are reached, and so are logins that another key marks.
func TestProviderLogoutUnderTwoKeys(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		one, two := make([]byte, 32), append(make([]byte, 31), 1)
		ring := func(keys ...[]byte) *seal.Ring {
			r, err := seal.NewRing(keys...)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		now := time.Now()
		arrived := arrival{"alice", "s1", now, now}
		f.Ring = ring(one)
		old := f.mustEnter(arrived)
		f.Ring = ring(two, one)
		young := f.mustEnter(arrived)
		f.Ring = ring(one, two) // the replica that does not seal with the new one yet
		if n, _, err := f.ProviderLogout(t.Context(), notice(Who{SID: "s1"}, "j1", now)); n != 2 || err != nil {
			t.Errorf("ended %d, %v", n, err)
		}
		if got := fmt.Sprint(f.alive(old, young)); got != "[false false]" {
			t.Errorf("alive %s", got)
		}
		f.Ring = ring(two, one)
		if _, err := f.enter(arrived); !errors.Is(err, ErrEnded) {
			t.Errorf("a login on the other replica: %v", err)
		}
	})
}

// The front channel has no signature: it ends by sid only, and leaves nothing behind.
func TestFrontChannelLogout(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		now := time.Now()
		a, b := f.mustEnter(arrival{"alice", "s1", now, now}), f.mustEnter(arrival{"alice", "s2", now, now})
		saves := f.st.saves.Load()
		for _, tc := range []struct {
			who  Who
			want int
		}{
			{Who{Provider: "main", Subject: "alice"}, 0},
			{Who{Provider: "none", SID: "s1"}, 0},
			{Who{Provider: "main", SID: "s1"}, 1},
			{Who{Provider: "main", SID: "s1"}, 0},
		} {
			if n, err := f.FrontChannelLogout(t.Context(), tc.who); n != tc.want || err != nil {
				t.Errorf("%+v: ended %d, %v", tc.who, n, err)
			}
		}
		if got := fmt.Sprint(f.alive(a, b)); got != "[false true]" || f.st.saves.Load() != saves {
			t.Errorf("alive %s, %d written", got, f.st.saves.Load()-saves)
		}
	})
}

// A refresh that is under way when the notice comes brings nobody back, and what it brings is revoked.
func TestProviderLogoutDuringARefresh(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		f.p.delay = 10 * time.Second
		time.Sleep(61 * time.Second)
		var tokens oidc.TokenSet
		var err error
		done := make(chan struct{})
		go func() { defer close(done); tokens, err = f.Fresh(context.Background(), l) }()
		time.Sleep(5 * time.Second)
		if n, _, err := f.ProviderLogout(t.Context(), notice(Who{SID: "s1"}, "j1", time.Now())); n != 1 || err != nil {
			t.Fatalf("ended %d, %v", n, err)
		}
		<-done
		if !errors.Is(err, ErrEnded) || tokens.Access != "" || f.alive(ticket)[0] {
			t.Errorf("the refresh: %v", err)
		}
		synctest.Wait()
		if fmt.Sprint(f.p.revoked()) != "[refresh-1 refresh-2]" {
			t.Errorf("revoked %v", f.p.revoked())
		}
	})
}
