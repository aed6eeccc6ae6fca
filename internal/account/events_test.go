package account

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

const testOrigin = "https://app.example"

// provider gives new claims with each refresh.
type provider struct {
	session.Provider
	refreshed int
}

func (p *provider) Issuer() string                              { return "https://op.example" }
func (p *provider) HasRevocation() bool                         { return false }
func (p *provider) Revoke(context.Context, oidc.TokenSet) error { return nil }
func (p *provider) exchange(name string, lives time.Duration) oidc.Exchange {
	return oidc.Exchange{
		Tokens: oidc.TokenSet{Access: "a-" + name, Refresh: "r-" + name, Obtained: time.Now(), Expires: time.Now().Add(lives)},
		Claims: oidc.Claims{Issuer: p.Issuer(), Subject: "alice", User: map[string]json.RawMessage{"name": json.RawMessage(`"` + name + `"`)}},
	}
}

func (p *provider) Refresh(context.Context, oidc.TokenSet, oidc.Target, oidc.Expect) (oidc.Exchange, error) {
	p.refreshed++
	return p.exchange("Alice the Second", 30*24*time.Hour), nil
}

// fixture is a handler with real sessions in memory.
type fixture struct {
	*Handler
	t  testing.TB
	p  *provider
	st *memstore.Store
}

func newFixture(t testing.TB, idle time.Duration) *fixture {
	t.Helper()
	f := &fixture{t: t, p: &provider{}, st: memstore.New()}
	ring, err := seal.NewRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	cookies, err := web.NewCookies(testOrigin, config.Session{})
	if err != nil {
		t.Fatal(err)
	}
	cache := session.NewCache(1 << 20)
	sessions, err := session.NewManager(session.Options{
		Frontend: testOrigin, Store: f.st, Ring: ring, Cache: cache, Feed: session.NewFeed(f.st, cache, 0, nil),
		Providers: map[string]session.ProviderPolicy{"main": {Provider: f.p, ClientID: "app"}},
		Idle:      idle, RememberIdle: idle, Lifetime: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	pages := page.New(page.Theme{})
	f.Handler = New(Options{
		Origin: testOrigin, Sessions: sessions, Store: f.st, Pages: pages,
		Transactions: web.Transactions{Cookies: cookies, Ring: ring, Frontend: testOrigin},
		Gate:         gate.New(gate.Options{Origin: testOrigin, Cookies: cookies, Sessions: sessions, Reloader: pages.Reload}),
	})
	return f
}

// inBubble runs a test in fake time.
func inBubble(t *testing.T, idle time.Duration, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, idle)
		test(t, f)
		f.Handler.Close()
		if err := f.Sessions.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func (f *fixture) login() (session.Ticket, *session.Live) {
	f.t.Helper()
	ticket, live, err := f.Sessions.Create(context.Background(), session.Login{
		Provider: "main", Method: "redirect", Exchange: f.p.exchange("Alice", time.Hour),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return ticket, live
}

func (f *fixture) request(ticket session.Ticket, proto int) *http.Request {
	r := httptest.NewRequest(http.MethodGet, testOrigin+"/auth/events", nil)
	r.ProtoMajor = proto
	for name, value := range map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"} {
		r.Header.Set(name, value)
	}
	r.AddCookie(&http.Cookie{Name: f.Transactions.Cookies.TicketName(), Value: ticket.Reveal()})
	return r
}

// listener is a client that reads a stream.
type listener struct {
	mu      sync.Mutex
	header  http.Header
	status  int
	written string
	flushed int // how much of it was sent
	leave   context.CancelFunc
	left    chan struct{} // closed when the handler has returned
	broken  bool          // the client is gone: writing fails
}

func (l *listener) Header() http.Header { return l.header }
func (l *listener) WriteHeader(s int)   { l.status = s }
func (l *listener) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return 0, errors.New("broken pipe")
	}
	l.written += string(b)
	return len(b), nil
}
func (l *listener) Flush() { l.mu.Lock(); defer l.mu.Unlock(); l.flushed = len(l.written) }

func (f *fixture) listen(ticket session.Ticket, proto int) *listener {
	l := &listener{header: http.Header{}, left: make(chan struct{})}
	r := f.request(ticket, proto)
	ctx, cancel := context.WithCancel(r.Context())
	l.leave = cancel
	go func() {
		defer close(l.left)
		f.Stream(l, r.WithContext(ctx))
	}()
	synctest.Wait()
	return l
}

// sent is what was flushed.
func (l *listener) sent() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written[:l.flushed]
}

// heard is what arrived: the events with their data.
func (l *listener) heard() (events []string) {
	for block := range strings.SplitSeq(l.sent(), "\n\n") {
		if name, data, ok := strings.Cut(strings.TrimPrefix(block, "retry: 3600000\n"), "\ndata: "); ok {
			events = append(events, strings.TrimPrefix(name, "event: ")+" "+data)
		}
	}
	return events
}

func (l *listener) ended() bool {
	synctest.Wait()
	select {
	case <-l.left:
		return true
	default:
		return false
	}
}

// says is how an event with this time looks.
func says(event string, at time.Time) string {
	return event + ` {"expires_at":"` + at.UTC().Truncate(time.Second).Format(time.RFC3339) + `"}`
}

func expect(t *testing.T, l *listener, want ...string) {
	t.Helper()
	if got := l.heard(); !slices.Equal(got, want) {
		t.Fatalf("heard %q\nwant  %q", got, want)
	}
}

func TestStreamTellsTheEnd(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, f *fixture) {
		ticket, live := f.login()
		end := live.ExpiresAt()
		l := f.listen(ticket, 2)
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"} {
			if got := l.header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		if sent := l.sent(); l.status != 200 || sent == "" {
			t.Errorf("%d, nothing sent at once", l.status)
		}
		time.Sleep(9*time.Minute - time.Second)
		expect(t, l)
		time.Sleep(time.Second)
		expect(t, l, says(eventEnding, end))
		time.Sleep(time.Minute + 20*time.Second) // activity is written coarsely: so much later it is decided
		expect(t, l, says(eventEnding, end))
		time.Sleep(11 * time.Second)
		expect(t, l, says(eventEnding, end), `session_ended {"reason":"idle"}`)
		if !l.ended() {
			t.Error("the stream goes on")
		}
		if beats := strings.Count(l.sent(), ":\n\n"); beats < 28 || beats > 34 {
			t.Errorf("%d heartbeats in ten minutes", beats)
		}
	})
}

func TestActivityTakesTheWarningBack(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, f *fixture) {
		ticket, live := f.login()
		first := live.ExpiresAt()
		l := f.listen(ticket, 2)
		time.Sleep(9*time.Minute + 30*time.Second)
		f.Sessions.Touch(live)
		second := live.ExpiresAt()
		time.Sleep(1100 * time.Millisecond)
		expect(t, l, says(eventEnding, first), says(eventChanged, second))
		time.Sleep(9 * time.Minute)
		expect(t, l, says(eventEnding, first), says(eventChanged, second), says(eventEnding, second))
		l.leave()
	})
}

// Activity at another replica is in the store only.
func TestActivityElsewhere(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, f *fixture) {
		ticket, live := f.login()
		page, err := f.st.Find(t.Context(), store.Query{})
		if err != nil || len(page.Records) != 1 {
			t.Fatal(err)
		}
		elsewhere := func() {
			if err := f.st.Touch(t.Context(), []store.Touch{{ID: page.Records[0].ID, LastActive: time.Now()}}); err != nil {
				t.Fatal(err)
			}
		}
		l := f.listen(ticket, 2)
		time.Sleep(5 * time.Minute)
		elsewhere()
		time.Sleep(9*time.Minute - time.Second)
		expect(t, l) // the store was read before anything was said
		time.Sleep(2 * time.Second)
		first := live.ExpiresAt()
		expect(t, l, says(eventEnding, first))
		time.Sleep(10 * time.Second)
		elsewhere()
		time.Sleep(beatEvery + time.Second)
		expect(t, l, says(eventEnding, first), says(eventChanged, live.ExpiresAt()))
		l.leave()
	})
}

func TestStreamTellsLogoutAndChange(t *testing.T) {
	inBubble(t, 24*time.Hour, func(t *testing.T, f *fixture) {
		ticket, live := f.login()
		l := f.listen(ticket, 2)
		time.Sleep(2 * time.Hour) // the access token is over
		if _, err := f.Sessions.Fresh(t.Context(), live); err != nil || f.p.refreshed != 1 {
			t.Fatal(err, f.p.refreshed)
		}
		expect(t, l, says(eventChanged, live.ExpiresAt()))
		if _, err := f.Sessions.End(t.Context(), live, session.ReasonUser); err != nil {
			t.Fatal(err)
		}
		expect(t, l, says(eventChanged, live.ExpiresAt()), `session_ended {"reason":"user"}`)
		again := f.listen(ticket, 2)
		if again.status != http.StatusUnauthorized || !again.ended() || !strings.Contains(again.written, `"session_ended"`) {
			t.Errorf("asking again: %d %s", again.status, again.written)
		}
	})
}

func TestTooManyStreams(t *testing.T) {
	inBubble(t, 24*time.Hour, func(t *testing.T, f *fixture) {
		ticket, _ := f.login()
		other, _ := f.login()
		bystander := f.listen(other, 2)
		var list []*listener
		open := func(proto int, gone ...int) {
			t.Helper()
			list = append(list, f.listen(ticket, proto))
			for i, l := range list {
				want := slices.Contains(gone, i)
				if l.ended() != want {
					t.Errorf("stream %d of %d: ended %v", i, len(list), !want)
				}
				if want {
					expect(t, l, "superseded {}")
					if !strings.Contains(l.sent(), "retry: 3600000\nevent: superseded") {
						t.Error("a client that does not know the event would come back at once")
					}
				}
			}
		}
		open(1)
		open(2)
		open(1)
		open(1, 0)       // the third over HTTP/1.1
		open(2, 0)       // the fourth of all
		open(2, 0, 1)    // the fifth
		open(1, 0, 1, 2) // HTTP/1.1 again: its own oldest
		list[3].leave()  // leaves room for one
		synctest.Wait()
		one := f.listen(ticket, 1)
		for i, l := range append(list[4:7:7], one) {
			if l.ended() {
				t.Errorf("stream %d is driven out although there was room", i+4)
			}
		}
		list = append(list, one)
		if bystander.ended() {
			t.Error("another session's stream was ended")
		}
		for _, l := range append(list, bystander) {
			l.leave()
		}
		synctest.Wait()
		if n := len(f.streams.open); n != 0 {
			t.Errorf("%d sessions are still in the books", n)
		}
	})
}

// A client that vanished without a word is noticed by the heartbeat.
func TestStreamOfABrokenClient(t *testing.T) {
	inBubble(t, 24*time.Hour, func(t *testing.T, f *fixture) {
		ticket, _ := f.login()
		l := f.listen(ticket, 2)
		l.mu.Lock()
		l.broken = true
		l.mu.Unlock()
		time.Sleep(beatEvery + time.Second)
		if !l.ended() {
			t.Error("it goes on")
		}
	})
}

func TestCloseEndsStreams(t *testing.T) {
	inBubble(t, 24*time.Hour, func(t *testing.T, f *fixture) {
		ticket, _ := f.login()
		l := f.listen(ticket, 2)
		f.Close()
		late := f.listen(ticket, 2)
		if !l.ended() || !late.ended() {
			t.Errorf("streams go on: %v, %v", !l.ended(), !late.ended())
		}
		expect(t, l) // the session lives: the browser asks the next server
	})
}

func TestHeadOfAStream(t *testing.T) {
	f := newFixture(t, time.Hour)
	ticket, _ := f.login()
	r := f.request(ticket, 1)
	r.Method = http.MethodHead
	w := httptest.NewRecorder()
	f.Stream(w, r)
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

// http.Server.Shutdown waits for what is running: an open stream must not hold it up.
func TestServerShutdownEndsStreams(t *testing.T) {
	f := newFixture(t, time.Hour)
	ticket, _ := f.login()
	server := httptest.NewServer(http.HandlerFunc(f.Stream))
	defer server.Close()
	var bodies []*http.Response
	for range 2 {
		r := f.request(ticket, 1)
		out, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		out.Header = r.Header
		res, err := server.Client().Do(out)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		defer res.Body.Close()
		bodies = append(bodies, res)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Fatalf("the streams held the server up: %v", err)
	}
	for _, res := range bodies {
		if n, err := res.Body.Read(make([]byte, 1<<10)); err != nil && n == 0 {
			t.Errorf("a stream was cut without its first bytes: %v", err)
		}
	}
}

func TestWarning(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	var w warning
	for _, step := range []struct {
		now, end int
		says     string
		wait     time.Duration
	}{
		{0, 600, "", 540 * time.Second},
		{540, 600, eventEnding, time.Second},
		{541, 600, "", time.Second},
		{542, 640, eventChanged, 38 * time.Second},
		{580, 640, eventEnding, time.Second},
		{590, 645, eventEnding, time.Second}, // put off, and near all the same
		{600, 630, eventEnding, time.Second}, // brought forward
		{640, 630, "", time.Second},          // over, and not decided yet
		{641, 1000, eventChanged, 299 * time.Second},
	} {
		if got := w.look(at(step.now), at(step.end)); got != step.says {
			t.Errorf("at %d, end %d: %q, want %q", step.now, step.end, got, step.says)
		}
		if got := w.wait(at(step.now), at(step.end)); got != step.wait {
			t.Errorf("at %d, end %d: waits %v, want %v", step.now, step.end, got, step.wait)
		}
	}
}
