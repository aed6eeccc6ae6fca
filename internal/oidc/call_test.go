package oidc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestBrokenTokenEndpoint: what may have arrived is ambiguous, is not sent again and goes nowhere else.
func TestBrokenTokenEndpoint(t *testing.T) {
	more := map[string]http.HandlerFunc{
		"307 that would re-send the secret": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"308": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
		},
		"303":         func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusSeeOther) },
		"reset":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"early hints": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); panic(http.ErrAbortHandler) },
		"10 MB": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"access_token":"at-1","x":"`)
			io.Copy(w, io.LimitReader(spaces{}, 10<<20))
		},
		"reset after the head": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	}
	for name, h := range brokenAnswers {
		if name != "404" {
			more[name] = h
		}
	}
	for name, h := range more {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.answer("/token", h)
			p := f.provider(nil)
			_, err := p.Refresh(t.Context(), TokenSet{Refresh: "rt-1"}, Target{}, Expect{})
			wantError(t, err, Ambiguous, "")
			_, err = p.Password(t.Context(), PasswordRequest{Username: "alice", Password: "hunter2"})
			if e := wantError(t, err, Ambiguous, ""); e.Reason != ReasonUnavailable {
				t.Errorf("reason %s", e.Reason)
			}
			if n := len(f.to("/token")); n != 2 || len(f.to("/elsewhere")) != 0 {
				t.Errorf("%d requests for 2 grants, %d elsewhere", n, len(f.to("/elsewhere")))
			}
		})
	}
}

// TestHangingTokenEndpoint: a provider that hangs, at once or in the middle of its answer, holds nobody for ever.
func TestHangingTokenEndpoint(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"at once": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"after the head": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"dripping": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.answer("/token", h)
				p := f.provider(nil)
				began := time.Now()
				_, err := exchange(t, p, Expect{})
				wantError(t, err, Ambiguous, "")
				if d := time.Since(began); d > 30*time.Second {
					t.Errorf("took %v", d)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err = p.Refresh(ctx, TokenSet{Refresh: "rt-1"}, Target{}, Expect{})
				wantError(t, err, Ambiguous, "")
				if n := len(f.to("/token")); n != 2 {
					t.Errorf("%d requests for 2 grants", n)
				}
				f.close()
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestNeverArrived: what fails before a byte is written is transient: nothing was spent.
func TestNeverArrived(t *testing.T) {
	for name, c := range map[string]struct {
		dial    func() error
		timeout bool
	}{
		"refused": {dial: func() error { return &net.OpError{Op: "dial", Err: errors.New("connection refused")} }},
		"DNS":     {dial: func() error { return &net.DNSError{Err: "no such host", Name: "localhost"} }},
		"slow":    {dial: func() error { time.Sleep(time.Minute); return errors.New("timed out") }, timeout: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				p := f.provider(nil)
				p.Discover(t.Context())
				f.close()
				f.dial = c.dial
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := p.Refresh(ctx, TokenSet{Refresh: "rt-1"}, Target{}, Expect{})
				wantError(t, err, Transient, "")
				if c.timeout != errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
				cancel()
				_, err = p.Refresh(ctx, TokenSet{Refresh: "rt-1"}, Target{}, Expect{})
				wantError(t, err, Transient, "")
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

// TestTLSFails: a handshake that fails is before the request, too.
func TestTLSFails(t *testing.T) {
	f := newFake(t)
	f.meta["token_endpoint"] = "https://localhost/token"
	p := f.provider(nil)
	_, err := exchange(t, p, Expect{}) // the fake speaks no TLS
	wantError(t, err, Transient, "")
}

// blind is a transport that says nothing of how far a request came.
type blind struct{ err error }

func (b blind) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

// TestBlindTransport: where nothing is known of how far a request came, it may have arrived.
func TestBlindTransport(t *testing.T) {
	p := quiet(&metadata{issuer: issuer, token: issuer + "/token"}, nil)
	p.HTTP = &http.Client{Transport: blind{errors.New("broken")}}
	_, err := exchange(t, p, Expect{})
	wantError(t, err, Ambiguous, "")
}

// closing is a server that answers the first request on a connection and closes it on reading the second: the race
// that every keep-alive connection can lose.
type closing struct {
	f  *fake
	mu sync.Mutex
	// second counts the requests that were read and not answered.
	second map[string]int
}

func (c *closing) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for n := range 2 {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		if n == 1 {
			c.mu.Lock()
			c.second[req.Method]++
			c.mu.Unlock()
			return
		}
		body := string(mustJSON(c.f.meta))
		res := http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
		if res.Write(conn) != nil {
			return
		}
	}
}

// TestNoReplay: net/http repeats a request that it may repeat on a new connection, so the test first shows that it
// would here; a grant it must not, whatever the header says.
func TestNoReplay(t *testing.T) {
	f := newFake(t)
	c := &closing{f: f, second: map[string]int{}}
	f.raw = c.serve
	var dialed atomic.Int32
	f.dial = func() error { dialed.Add(1); return nil }
	p := f.provider(nil)
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.get(t.Context(), "discovery", issuer+wellKnown, func([]byte) error { return nil }); err != nil {
		t.Fatal("a GET was not repeated, so this test shows nothing:", err)
	}
	if dialed.Load() != 2 || c.second["GET"] != 1 {
		t.Fatalf("%d connections, %v: this test shows nothing", dialed.Load(), c.second)
	}
	_, err := p.Refresh(t.Context(), TokenSet{Refresh: "rt-1"}, Target{}, Expect{})
	wantError(t, err, Ambiguous, "")
	if dialed.Load() != 2 || c.second["POST"] != 1 {
		t.Errorf("%d connections, %v: the grant was sent again", dialed.Load(), c.second)
	}
	req, err := p.request(t.Context(), issuer+"/token", clientSecretBasic, posting{header: http.Header{"Idempotency-Key": {"x"}}})
	if err != nil || req.GetBody != nil || req.Body == nil || req.Body == http.NoBody {
		t.Error("net/http could repeat it", err)
	}
}

// TestIdleConnections: a connection that a provider is about to drop is dropped by us before.
func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var dialed atomic.Int32
		f.dial = func() error { dialed.Add(1); return nil }
		p := f.provider(nil)
		for range 3 {
			if _, err := exchange(t, p, Expect{}); err != nil {
				t.Error(err)
			}
		}
		if n := dialed.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		time.Sleep(4 * time.Second) // Node drops after 5
		exchange(t, p, Expect{})
		if n := dialed.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}
		f.close()
	})
}

// TestEvents: each request is one event that says how it went and nothing of what was in it.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer("/token", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			writeJSON(w, 200, f.tokens(nil))
		})
		p := f.provider(nil)
		exchange(t, p, Expect{})
		f.token(400, `{"error":"hunter2","error_description":"wrong: hunter2, rt-1"}`)
		_, err := p.Password(t.Context(), PasswordRequest{Username: "alice", Password: "hunter2"})
		if e := wantError(t, err, Misconfigured, "concealed"); e.Description != "" {
			t.Errorf("description %q", e.Description)
		}
		p.Revoke(t.Context(), TokenSet{Refresh: "rt-1"})
		var got []string
		for _, c := range f.calls {
			got = append(got, c.Act+": "+c.Outcome)
			if c.Provider != "main" || c.Time.IsZero() || (c.Duration == time.Second) != (c.Act == "authorization_code") {
				t.Errorf("%+v", c)
			}
		}
		want := []string{"discovery: ok", "keys: ok", "authorization_code: ok", "password: misconfigured concealed", "revoke: ok"}
		if !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		f.close()
	})
}

// TestNothingWritten: how far a request came, and whether it certainly did not arrive.
func TestNothingWritten(t *testing.T) {
	broken, late := errors.New("broken"), context.DeadlineExceeded
	for _, c := range []struct {
		asked, connected, wrote bool
		err                     error
		want                    bool
	}{
		{false, false, false, broken, false}, // a transport that tells nothing
		{true, false, false, broken, true},   // no connection
		{true, false, false, late, true},
		{true, true, false, broken, true}, // a connection that was closed before we wrote
		{true, true, false, late, false},  // the writer may be at it still
		{true, true, false, &net.OpError{Op: "read", Err: timeout{}}, false},
		{true, true, true, broken, false},
		{true, true, true, late, false},
	} {
		var way trace
		way.asked.Store(c.asked)
		way.connected.Store(c.connected)
		way.wrote.Store(c.wrote)
		if got := way.nothingWritten(c.err); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

type timeout struct{}

func (timeout) Error() string   { return "timed out" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }
