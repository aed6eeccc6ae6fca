package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// stub is a transport that answers by a function.
type stub func(r *http.Request) (*http.Response, error)

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close() // as a transport must
	}
	return s(r)
}
func (stub) CloseIdleConnections() {}

func answer(status int) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("answer"))}, nil
}

var (
	errRefused = &notSent{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	errBroken  = fmt.Errorf("broken: %w", io.EOF)
	errReset   = &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	errTimeout = &net.OpError{Op: "read", Err: context.DeadlineExceeded}
)

// stubs is a pool over transports, m0, m1 and so on.
func stubs(l *log, transports ...stub) *Pool {
	p := &Pool{events: l.sink, stop: func() {}}
	for i, s := range transports {
		m := &member{target: config.UpstreamURL{Network: "tcp", Host: fmt.Sprintf("m%d", i)}, name: fmt.Sprintf("m%d", i), scheme: "http", main: s, upgrade: s}
		p.members = append(p.members, m)
	}
	p.live.Store(&p.members)
	return p
}

// drop sends a GET and lets the answer go.
func drop(t testing.TB, p *Pool) (status int) {
	t.Helper()
	res, err := p.RoundTrip(request(t, "GET", "/", nil))
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestBalance(t *testing.T) {
	var counts [4]int
	var transports []stub
	for i := range counts {
		transports = append(transports, func(*http.Request) (*http.Response, error) { counts[i]++; return answer(200) })
	}
	p := stubs(&log{}, transports...)
	var open []io.Closer
	for range 400 { // all stay open
		res, err := p.RoundTrip(request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res.Body)
	}
	if least, most := slices.Min(counts[:]), slices.Max(counts[:]); most-least > 20 {
		t.Errorf("busy: %v", counts)
	}
	for _, body := range open {
		_ = body.Close()
	}
	for _, m := range p.members {
		if n := m.running.Load(); n != 0 {
			t.Errorf("%d still run", n)
		}
	}
	// One that is slow gets no more than what it is done with.
	p.members[0].running.Store(100)
	counts = [4]int{}
	for range 300 {
		drop(t, p)
	}
	if counts[0] != 0 || slices.Min(counts[1:]) < 50 {
		t.Errorf("one is busy: %v", counts)
	}
}

func TestRepeated(t *testing.T) {
	body := func() io.Reader { return strings.NewReader("body") }
	for _, tc := range []struct {
		name   string
		method string
		body   io.Reader
		read   bool // the transport reads the body before it fails
		err    error
		want   bool
	}{
		{"GET refused", "GET", nil, false, errRefused, true},
		{"POST refused", "POST", nil, false, errRefused, true},
		{"POST with a body refused", "POST", body(), false, errRefused, true},
		{"POST with a body that was read", "POST", body(), true, errRefused, false},
		{"GET broken", "GET", nil, false, errBroken, true},
		{"HEAD reset", "HEAD", nil, false, errReset, true},
		{"DELETE reset", "DELETE", nil, false, errReset, true},
		{"PUT with a body, reset", "PUT", body(), false, errReset, false},
		{"POST reset", "POST", nil, false, errReset, false},
		{"PATCH broken", "PATCH", nil, false, errBroken, false},
		{"GET in vain", "GET", nil, false, errTimeout, false},
		{"GET with a malformed answer", "GET", nil, false, errors.New("malformed"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tried := map[string]int{}
			got := ""
			first := func(r *http.Request) (*http.Response, error) {
				tried[r.URL.Host]++
				if len(tried) == 1 {
					if tc.read {
						_, _ = r.Body.Read(make([]byte, 1))
					}
					return nil, tc.err
				}
				if r.Body != nil {
					b, _ := io.ReadAll(r.Body)
					got = string(b)
				}
				if r.Host != r.URL.Host {
					t.Errorf("Host %s, URL %s", r.Host, r.URL.Host)
				}
				return answer(200)
			}
			p := stubs(&log{}, first, first, first)
			in := &closing{Reader: tc.body}
			r := request(t, tc.method, "/x", nil)
			if tc.body != nil {
				r.Body = in
			}
			res, err := p.RoundTrip(r)
			if (err == nil) != tc.want {
				t.Fatal(err)
			}
			if err == nil {
				_ = res.Body.Close()
			}
			if tc.want && (len(tried) != 2 || tc.body != nil && got != "body") {
				t.Errorf("tried %v, body %q", tried, got)
			}
			if !tc.want && len(tried) != 1 {
				t.Errorf("tried %v", tried)
			}
			if tc.body != nil && in.closed != 1 {
				t.Errorf("the body was closed %d times", in.closed)
			}
		})
	}
}

// closing counts how often it is closed.
type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

// lazy answers before it reads the body, and reads and closes it later.
type lazy struct{ read chan io.ReadCloser }

func (l lazy) RoundTrip(r *http.Request) (*http.Response, error) {
	l.read <- r.Body
	return answer(200)
}
func (lazy) CloseIdleConnections() {}

// The body outlives a failed attempt also where the answer to the second one comes before the body was read.
func TestBodyAfterTheAnswer(t *testing.T) {
	refuses := stub(func(*http.Request) (*http.Response, error) { return nil, errRefused })
	p := stubs(&log{}, refuses, refuses)
	l := lazy{make(chan io.ReadCloser, 1)}
	p.members[1].main = l
	p.members[1].running.Store(1) // so that the one that refuses is asked first
	in := &closing{Reader: strings.NewReader("body")}
	r := request(t, "POST", "/", nil)
	r.Body = in
	res, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	body := <-l.read
	if got, err := io.ReadAll(body); string(got) != "body" || err != nil || in.closed != 0 {
		t.Errorf("%q, %v, closed %d times", got, err, in.closed)
	}
	if _ = body.Close(); in.closed != 1 {
		t.Errorf("closed %d times", in.closed)
	}
}

func TestRepeatedOnceOnly(t *testing.T) {
	tried := 0
	fails := func(*http.Request) (*http.Response, error) { tried++; return nil, errRefused }
	_, err := stubs(&log{}, fails, fails, fails).RoundTrip(request(t, "GET", "/", nil))
	var named *Error
	if !errors.As(err, &named) || tried != 2 || !strings.HasPrefix(named.Address, "m") {
		t.Errorf("%v after %d tries", err, tried)
	}
}

// What the client does is not the upstream's fault, and is not repeated.
func TestClientFails(t *testing.T) {
	for name, fail := range map[string]func(r *http.Request, cancel func()) error{
		"gone": func(_ *http.Request, cancel func()) error { cancel(); return errRefused },
		"its body breaks off": func(r *http.Request, _ func()) error {
			_, err := r.Body.Read(make([]byte, 1))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := &log{}
			tried := 0
			var cancel func()
			transport := func(r *http.Request) (*http.Response, error) { tried++; return nil, fail(r, cancel) }
			p := stubs(l, transport, transport)
			for range 3 * ejectAfter {
				ctx, stop := context.WithCancel(t.Context())
				cancel = stop
				r := request(t, "PUT", "/", io.NopCloser(&broken1{})).WithContext(ctx)
				if _, err := p.RoundTrip(r); err == nil {
					t.Error("no error")
				}
				stop()
			}
			if tried != 3*ejectAfter || len(l.kinds()) > 0 {
				t.Errorf("%d tries, %v", tried, l.kinds())
			}
		})
	}
}

// broken1 is a body that cannot be read.
type broken1 struct{}

func (*broken1) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestEjection(t *testing.T) {
	for name, fail := range map[string]stub{
		"refuses": func(*http.Request) (*http.Response, error) { return nil, errRefused },
		"is slow": func(*http.Request) (*http.Response, error) { return nil, errTimeout },
		"breaks":  func(*http.Request) (*http.Response, error) { return nil, errors.New("malformed") },
		"says 502": func(*http.Request) (*http.Response, error) {
			return answer(502)
		},
		"says 503": func(*http.Request) (*http.Response, error) { return answer(503) },
		"says 504": func(*http.Request) (*http.Response, error) { return answer(504) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{}
				asked, ill := 0, true
				p := stubs(l, func(r *http.Request) (*http.Response, error) {
					asked++
					if ill {
						return fail(r)
					}
					return answer(200)
				}, func(*http.Request) (*http.Response, error) { return answer(200) })
				rush := func() int {
					asked = 0
					for range 200 {
						drop(t, p)
					}
					return asked
				}
				if n := rush(); n != ejectAfter {
					t.Errorf("asked %d times until it was ejected", n)
				}
				if out := p.out(); len(out) != 1 || !strings.HasPrefix(out["m0"], "failures: ") {
					t.Errorf("out: %v", out)
				}
				// The pauses double up to the longest, each up to a tenth longer; one failure after each.
				for pause := firstPause; ; pause = min(2*pause, longestPause) {
					time.Sleep(pause - time.Second)
					if n := rush(); n != 0 {
						t.Errorf("asked %d times before %v", n, pause)
					}
					time.Sleep(pause/10 + time.Second)
					synctest.Wait()
					if pause == longestPause {
						break
					}
					if n := rush(); n != 1 {
						t.Errorf("asked %d times after %v", n, pause)
					}
				}
				ill = false
				if n := rush(); n < 50 || len(p.out()) != 0 {
					t.Errorf("asked %d times when it was well again; %v", n, p.out())
				}
				// It was well for long: then it begins anew.
				time.Sleep(longestPause + time.Second)
				ill = true
				if n := rush(); n != ejectAfter || p.members[0].pause != firstPause {
					t.Errorf("asked %d times, pause %v", n, p.members[0].pause)
				}
				kinds := l.kinds()
				if kinds[0] != "upstream_out failures" || kinds[1] != "upstream_in pause_over" || len(kinds)%2 != 1 {
					t.Errorf("events %v", kinds)
				}
				p.close()
			})
		})
	}
}

// Answers in between keep an address in.
func TestFailuresInARow(t *testing.T) {
	l := &log{}
	n := 0
	p := stubs(l, func(*http.Request) (*http.Response, error) {
		if n++; n%ejectAfter == 0 {
			return answer(500) // an answer as good as any
		}
		return nil, errTimeout
	}, func(*http.Request) (*http.Response, error) { return answer(200) })
	for range 500 {
		drop(t, p)
	}
	if kinds := l.kinds(); len(kinds) > 0 {
		t.Errorf("events %v", kinds)
	}
}

func TestNeverMoreThanHalf(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 3: 1, 4: 2, 5: 2} {
		synctest.Test(t, func(t *testing.T) {
			l := &log{}
			var transports []stub
			for range n {
				transports = append(transports, func(*http.Request) (*http.Response, error) { return nil, errRefused })
			}
			p := stubs(l, transports...)
			for range 500 {
				drop(t, p)
			}
			if got := len(p.out()); got != want || len(*p.live.Load()) != n-want {
				t.Errorf("%d of %d are left out, %d live", got, n, len(*p.live.Load()))
			}
			p.close()
		})
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &log{}
		var ill atomic.Int32 // a bit for each
		var checks atomic.Int32
		transport := func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/healthz" || r.URL.RawQuery != "deep=1" || r.Header.Get("User-Agent") != "cloakroom-health" {
				return answer(200)
			}
			checks.Add(1)
			switch bit := int32(1) << (r.URL.Host[1] - '0'); {
			case ill.Load()&bit == 0:
				return answer(204)
			case r.URL.Host == "m0":
				<-r.Context().Done() // no answer in time
				return nil, r.Context().Err()
			}
			return answer(302)
		}
		p := stubs(l, transport, transport)
		c := settings(func(c *config.Connection) { c.Health = &config.Health{Path: "/healthz?deep=1"} })
		p.stop = p.watch(*c.Health)
		live := func() int { return len(*p.live.Load()) }
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		wait(time.Minute)
		if n := checks.Load(); n < 10 || n > 14 || live() != 2 || len(l.kinds()) != 0 {
			t.Fatalf("%d checks, %d live, %v", n, live(), l.kinds())
		}
		ill.Store(1)
		wait(20 * time.Second)
		if live() != 2 {
			t.Error("left out after less than three checks")
		}
		wait(20 * time.Second)
		if live() != 1 || (*p.live.Load())[0].name != "m1" || !strings.Contains(p.out()["m0"], "deadline") {
			t.Errorf("%d live, out %v", live(), p.out())
		}
		ill.Store(3)
		wait(40 * time.Second)
		if live() != 2 || !strings.Contains(p.out()["m1"], "/healthz?deep=1 answers 302") {
			t.Errorf("%d live when none is well, out %v", live(), p.out())
		}
		ill.Store(0)
		wait(40 * time.Second)
		if live() != 2 || len(p.out()) != 0 {
			t.Errorf("%d live, out %v", live(), p.out())
		}
		if kinds := l.kinds(); len(kinds) != 4 || kinds[0] != "upstream_out health" || kinds[3] != "upstream_in health" {
			t.Errorf("events %v", kinds)
		}
		p.close()
		before := checks.Load()
		wait(time.Hour)
		if checks.Load() != before {
			t.Error("checks go on after the end")
		}
	})
}

// An address that is ill and ejected is used again when both are over.
func TestIllAndEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &log{}
		good := func(*http.Request) (*http.Response, error) { return answer(200) }
		p := stubs(l, good, good)
		m := p.members[0]
		p.eject(m, "refuses")
		p.checked(m, "answers 500")
		time.Sleep(2 * firstPause)
		synctest.Wait()
		if len(*p.live.Load()) != 1 {
			t.Error("used again while it is ill")
		}
		p.checked(m, "")
		if len(*p.live.Load()) != 2 || m.reason != "" {
			t.Error("not used again")
		}
		if kinds := fmt.Sprint(l.kinds()); kinds != "[upstream_out failures upstream_out health upstream_in health]" {
			t.Error(kinds)
		}
		p.close()
	})
}

func TestPoolsAreShared(t *testing.T) {
	s := NewSet(nil)
	t.Cleanup(s.Close)
	get := func(c config.Connection, addresses ...string) *Pool {
		t.Helper()
		p, err := s.Pool(addresses, c)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	health := func(path string) config.Connection {
		return settings(func(c *config.Connection) {
			c.Health = &config.Health{Path: path, Interval: config.Duration(time.Hour)}
		})
	}
	a := get(settings(nil), "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
	if get(settings(nil), "http://127.0.0.1:2/v2", "http://127.0.0.1:1/v2") != a {
		t.Error("the same addresses have two pools")
	}
	b := get(health("/a"), "http://127.0.0.1:1")
	if get(health("/a"), "http://127.0.0.1:1") != b {
		t.Error("the same health checks have two pools")
	}
	others := []*Pool{
		a, b, get(settings(nil), "http://127.0.0.1:1"), get(settings(nil), "h2c://127.0.0.1:1"), get(health("/b"), "http://127.0.0.1:1"),
		get(settings(func(c *config.Connection) { c.ResponseTimeout = new(config.Duration(0)) }), "http://127.0.0.1:1"),
		get(settings(func(c *config.Connection) { c.MaxIdle = 1 }), "http://127.0.0.1:1"),
	}
	for i, p := range others {
		if slices.Contains(others[:i], p) {
			t.Errorf("pool %d is another one's", i)
		}
	}
	if _, err := s.Pool([]string{"ftp://x"}, settings(nil)); err == nil {
		t.Error("no error")
	}
}

// One of two servers ends in the middle of traffic: no GET is lost, and of the POSTs only those that it was at.
func TestOneOfTwoDies(t *testing.T) {
	work := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "fine")
	}
	ln := listen(t, "tcp", "127.0.0.1:0")
	mortal := &http.Server{Handler: http.HandlerFunc(work), ReadHeaderTimeout: time.Minute}
	serve(t, ln, mortal)
	l := &log{}
	p := pool(t, l, settings(nil), plainServer(t, work), "http://"+ln.Addr().String())
	const workers, each = 8, 200
	var lost, lostPosts, sent atomic.Int32
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() {
			for range each {
				if sent.Add(1) == workers*each/3 {
					_ = mortal.Close()
				}
				r := request(t, "GET", "/", nil)
				if i%2 == 1 {
					r = request(t, "POST", "/", strings.NewReader("order"))
				}
				res, err := p.RoundTrip(r)
				if err != nil {
					if r.Method == "GET" {
						t.Error(err)
						lost.Add(1)
					}
					lostPosts.Add(1)
					continue
				}
				if b, err := io.ReadAll(res.Body); string(b) != "fine" || err != nil {
					// An answer that has begun cannot be repeated, but this one is written at once.
					lostPosts.Add(1)
				}
				_ = res.Body.Close()
			}
		})
	}
	running.Wait()
	if lost.Load() > 0 || lostPosts.Load() > workers {
		t.Errorf("%d GETs and %d others of %d lost", lost.Load(), lostPosts.Load(), workers*each)
	}
	if kinds := l.kinds(); len(kinds) == 0 || kinds[0] != "upstream_out failures" {
		t.Errorf("events %v", kinds)
	}
}

// Beyond max_connections requests wait, and each gets its turn; a client that goes does not wait on.
func TestMaxConnections(t *testing.T) {
	var running, most atomic.Int32
	began, release := make(chan struct{}, 10), make(chan struct{})
	address := plainServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		began <- struct{}{}
		<-release
		running.Add(-1)
		fmt.Fprint(w, "fine")
	})
	p := pool(t, nil, settings(func(c *config.Connection) { c.MaxConnections = 2 }), address)
	var work sync.WaitGroup
	for range 6 {
		work.Go(func() {
			if status, body := ask(t, p, "/"); status != 200 || body != "fine" {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	<-began
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.RoundTrip(request(t, "GET", "/", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	work.Wait()
	if most.Load() != 2 {
		t.Errorf("%d connections at once", most.Load())
	}
}
