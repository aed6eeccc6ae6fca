package session

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// endedWithin reports whether the session ends in that time of the bubble.
func endedWithin(l *Live, d time.Duration) bool {
	select {
	case <-l.Done():
		return true
	case <-time.After(d):
		return false
	}
}

func TestWatchedSessionEndsByItself(t *testing.T) {
	inBubble(t, func(o *Options) { o.Idle = 10 * time.Minute }, func(t *testing.T, f *fixture) {
		_, l := f.login()
		defer l.Watch()()
		time.Sleep(9 * time.Minute)
		// Another replica writes activity, which the change feed does not tell.
		if err := f.st.Touch(t.Context(), []store.Touch{{ID: l.id, LastActive: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		if endedWithin(l, 10*time.Minute) {
			t.Fatalf("ended in spite of activity elsewhere: %s", l.Why())
		}
		if !endedWithin(l, time.Minute) || l.Why() != ReasonIdle {
			t.Fatalf("the idle end was not noticed: %q", l.Why())
		}
		synctest.Wait() // the session is over for its watchers before its tokens are revoked
		if got := f.reasons(); len(got) != 1 || got[0] != ReasonIdle {
			t.Errorf("audit: %v", got)
		}
		if f.p.revoked() == nil {
			t.Error("the tokens were at hand and are not revoked")
		}
	})
}

func TestUnwatchedSessionsAreLeftAlone(t *testing.T) {
	inBubble(t, func(o *Options) { o.Idle = time.Minute }, func(t *testing.T, f *fixture) {
		_, l := f.login()
		stop := l.Watch()
		again := l.Watch()
		stop()
		stop() // once is enough
		if n := l.watched.Load(); n != 1 {
			t.Errorf("one stream is left, not %d", n)
		}
		again()
		if endedWithin(l, time.Hour) || l.watched.Load() != 0 {
			t.Errorf("nobody watches: %q", l.Why())
		}
	})
}

// fed is a shared store: it has a change feed, which the test makes stand or not.
type fed struct {
	store.Store
	stands chan store.Feed // what Watch was given
	breaks chan error
	loads  atomic.Int64
}

func (s *fed) Load(ctx context.Context, id store.ID) (store.Record, error) {
	s.loads.Add(1)
	return s.Store.Load(ctx, id)
}

func (s *fed) Watch(ctx context.Context, f store.Feed) error {
	select {
	case s.stands <- f:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-s.breaks:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alive proves the feed for that long.
func alive(f store.Feed, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		f.Alive(time.Now())
		time.Sleep(200 * time.Millisecond)
	}
	f.Alive(time.Now())
}

// withFeed runs a test with a feed that stands.
func withFeed(t *testing.T, test func(t *testing.T, f *fixture, s *fed, feed store.Feed)) {
	s := &fed{stands: make(chan store.Feed), breaks: make(chan error)}
	inBubble(t, func(o *Options) {
		s.stands, s.breaks = make(chan store.Feed), make(chan error) // of the bubble
		s.Store, o.Store = o.Store, s
	}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		go f.Feed.Run(ctx)
		feed := <-s.stands
		feed.Begun()
		alive(feed, 2*time.Second)
		test(t, f, s, feed)
		cancel()
		synctest.Wait()
	})
}

// others ends a session as another replica does: nothing of this process hears of it but by the feed.
func others(t *testing.T, f *fixture, l *Live) {
	t.Helper()
	if err := f.st.Store.Delete(t.Context(), l.id); err != nil {
		t.Fatal(err)
	}
}

func TestFeedTellsStreams(t *testing.T) {
	withFeed(t, func(t *testing.T, f *fixture, _ *fed, feed store.Feed) {
		_, l := f.login()
		defer l.Watch()()
		alive(feed, 3*time.Second)
		others(t, f, l)
		feed.Changed(store.Change{ID: l.id})
		if !endedWithin(l, time.Millisecond) || l.Why() != ReasonEndedElsewhere {
			t.Errorf("%q", l.Why())
		}
	})
}

func TestStreamsEndWithoutAFeed(t *testing.T) {
	withFeed(t, func(t *testing.T, f *fixture, s *fed, feed store.Feed) {
		_, l := f.login()
		defer l.Watch()()
		alive(feed, 3*time.Second)
		s.breaks <- errDown // and it does not come back
		others(t, f, l)
		if !endedWithin(l, trustTime+2*lookEvery) {
			t.Error("without a feed, nobody looked")
		}
	})
}

// The store does not answer in the moment in which the feed stands again: the look that was due is made up for.
func TestStreamsEndAfterAFailedLook(t *testing.T) {
	withFeed(t, func(t *testing.T, f *fixture, s *fed, feed store.Feed) {
		_, l := f.login()
		defer l.Watch()()
		alive(feed, 3*time.Second)
		s.breaks <- errDown
		others(t, f, l)
		f.st.down.Store(true)
		feed = <-s.stands
		feed.Begun()
		alive(feed, 2*time.Second)
		if l.over.Load() {
			t.Error("a store that does not answer ended a session")
		}
		f.st.down.Store(false)
		feed.Alive(time.Now())
		if !endedWithin(l, 2*lookEvery) {
			t.Error("nobody looked again")
		}
	})
}

func TestTheStoreIsNotAskedWhileTheFeedStands(t *testing.T) {
	withFeed(t, func(t *testing.T, f *fixture, s *fed, feed store.Feed) {
		_, l := f.login()
		defer l.Watch()()
		alive(feed, 3*time.Second)
		before := s.loads.Load()
		alive(feed, time.Minute)
		if asked := s.loads.Load() - before; asked != 0 || l.over.Load() {
			t.Errorf("asked %d times", asked)
		}
	})
}

// DELETE must not say that it is done when it is not.
func TestEndHandleTellsThatTheStoreIsDown(t *testing.T) {
	f := newFixture(t, nil)
	defer f.Close(context.Background())
	_, l := f.login()
	handle := l.Session().Handle
	other := f.manager(Options{
		Frontend: f.Frontend, Store: f.st, Ring: f.Ring, Cache: NewCache(1 << 20), Providers: f.Providers,
		Idle: f.Idle, RememberIdle: f.RememberIdle, Lifetime: f.Lifetime,
	})
	defer other.Close(context.Background())
	f.st.down.Store(true)
	if err := other.EndHandle(t.Context(), handle, ReasonUser); err == nil {
		t.Error("nothing was ended, and nobody is told")
	}
	f.st.down.Store(false)
	if err := other.EndHandle(t.Context(), handle, ReasonUser); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Show(t.Context(), handle); err == nil {
		t.Error("it lives on")
	}
	if err := other.EndHandle(t.Context(), handle, ReasonUser); err != nil {
		t.Errorf("again: %v", err)
	}
}
