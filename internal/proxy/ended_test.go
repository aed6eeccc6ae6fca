package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// silent is a provider that is never asked.
type silent struct{ session.Provider }

func (silent) Issuer() string                              { return "https://op.example" }
func (silent) HasRevocation() bool                         { return false }
func (silent) Revoke(context.Context, oidc.TokenSet) error { return nil }

// withSession is a proxy whose requests all have this session.
func withSession(t *testing.T, upstream http.HandlerFunc, idle time.Duration) (*setup, *session.Manager, *session.Live) {
	t.Helper()
	ring, err := seal.NewRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	st, cache := memstore.New(), session.NewCache(1<<20)
	m, err := session.NewManager(session.Options{
		Frontend: "https://app.example", Store: st, Ring: ring, Cache: cache, Feed: session.NewFeed(st, cache, 0, nil),
		Providers: map[string]session.ProviderPolicy{"main": {Provider: silent{}, ClientID: "app"}},
		Idle:      idle, RememberIdle: idle, Lifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	_, live, err := m.Create(t.Context(), session.Login{Provider: "main", Exchange: oidc.Exchange{
		Tokens: oidc.TokenSet{Access: "at", Expires: time.Now().Add(time.Hour)}, Claims: oidc.Claims{Issuer: "https://op.example", Subject: "alice"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, upstream, func(*config.Route) {})
	s.proxy.Gate = openGate{gate.Pass{Live: live, Token: oidc.AccessToken{Value: "at"}}}
	return s, m, live
}

// closes reads until the other side closes, and says what came.
func closes(t *testing.T, r io.Reader) string {
	t.Helper()
	type got struct {
		text string
		err  error
	}
	done := make(chan got, 1)
	go func() { b, err := io.ReadAll(r); done <- got{string(b), err} }()
	select {
	case g := <-done:
		return g.text
	case <-time.After(20 * time.Second):
		t.Fatal("still open")
		return ""
	}
}

// nobodyWatches waits until no goroutine of this file's subject is left.
func nobodyWatches(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		text := string(stacks[:runtime.Stack(stacks, true)])
		if !strings.Contains(text, "endWithSession") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a goroutine outlives its request:\n%s", text)
		}
	}
}

// echo is an upstream of WebSockets, as far as a proxy sees of them.
func echo(left chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		defer close(left)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		for {
			line, err := buf.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "echo "+line)
		}
	}
}

// socket opens a WebSocket and hears its first echo.
func (s *setup) socket(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, "GET /api/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Fatal(line, err)
	}
	return conn, r
}

func TestEndClosesWebSockets(t *testing.T) {
	left := make(chan struct{})
	s, m, live := withSession(t, echo(left), time.Hour)
	_, r := s.socket(t)
	if _, err := m.End(t.Context(), live, session.ReasonLogout); err != nil {
		t.Fatal(err)
	}
	if text := closes(t, r); text != "" {
		t.Errorf("it said %q", text)
	}
	<-left // the upstream's end is closed, too
	nobodyWatches(t)
}

// A WebSocket asks nothing, so its session's end by time is noticed by whoever watches.
func TestIdleEndClosesWebSockets(t *testing.T) {
	left := make(chan struct{})
	s, _, live := withSession(t, echo(left), 2*time.Second)
	_, r := s.socket(t)
	closes(t, r)
	if <-live.Done(); live.Why() != session.ReasonIdle {
		t.Errorf("%q", live.Why())
	}
	<-left
	nobodyWatches(t)
}

func TestClosedWebSocketIsNotWatched(t *testing.T) {
	left := make(chan struct{})
	s, _, live := withSession(t, echo(left), time.Hour)
	conn, _ := s.socket(t)
	_ = conn.Close()
	<-left
	nobodyWatches(t)
	select {
	case <-live.Done():
		t.Error("the session ended with it")
	default:
	}
}

func TestEndClosesStreams(t *testing.T) {
	left := make(chan struct{})
	s, m, live := withSession(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = fmt.Fprint(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}, time.Hour)
	res := s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := m.End(t.Context(), live, session.ReasonUser); err != nil {
		t.Fatal(err)
	}
	closes(t, res.Body)
	<-left
	nobodyWatches(t)
}

// An answer that was on its way when the session ended arrives whole: such as that of the app's own "log me out".
func TestEndCutsNoOrdinaryAnswer(t *testing.T) {
	var end func()
	s, m, live := withSession(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, strings.Repeat("a", 1000))
		_ = http.NewResponseController(w).Flush()
		end()
		_, _ = fmt.Fprint(w, strings.Repeat("b", 1000))
	}, time.Hour)
	end = func() {
		if _, err := m.End(context.Background(), live, session.ReasonLogout); err != nil {
			t.Error(err)
		}
	}
	res, err := http.Get(s.front.URL + "/api/logout")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || len(body) != 2000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	nobodyWatches(t)
}
