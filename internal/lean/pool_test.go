package lean_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// pipes is an upstream in a synctest bubble.
type pipes struct {
	after  time.Duration // how long a dial takes
	fail   func(n int32) error
	serve  func(c net.Conn, br *bufio.Reader)
	dials  atomic.Int32
	now    atomic.Int32 // dials in progress
	most   atomic.Int32
	closed atomic.Int32
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	n := p.dials.Add(1)
	now := p.now.Add(1)
	defer p.now.Add(-1)
	for most := p.most.Load(); now > most && !p.most.CompareAndSwap(most, now); most = p.most.Load() {
	}
	select {
	case <-time.After(p.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.fail != nil {
		if err := p.fail(n); err != nil {
			return nil, err
		}
	}
	ours, theirs := net.Pipe()
	go func() {
		defer p.closed.Add(1)
		defer theirs.Close()
		p.serve(theirs, bufio.NewReader(theirs))
	}()
	return ours, nil
}

// slow answers after a while.
func slow(d time.Duration) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			time.Sleep(d)
			_, _ = io.WriteString(c, okHello)
		}
	}
}

func get(ctx context.Context, t *testing.T, rt http.RoundTripper) error {
	res, err := rt.RoundTrip(request(ctx, t, http.MethodGet, "upstream", nil))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return err
}

// A burst opens a few connections, and the others wait for those.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{after: 2 * time.Millisecond, serve: slow(time.Millisecond)}
		tr := lean.New(lean.Options{Dial: p.dial})
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if err := get(t.Context(), t, tr); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most, dials := p.most.Load(), p.dials.Load(); most > 16 || dials > 120 {
			t.Errorf("%d dials, %d at once", dials, most)
		}
		tr.CloseIdleConnections()
	})
}

// Where dials take long, nobody waits for others.
func TestBurstOverSlowDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{after: 2 * time.Second, serve: slow(0)}
		tr := lean.New(lean.Options{Dial: p.dial})
		start := time.Now()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if err := get(t.Context(), t, tr); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took, dials := time.Since(start), p.dials.Load(); took > 2100*time.Millisecond || dials > 200 {
			t.Errorf("took %v and %d dials", took, dials)
		}
		tr.CloseIdleConnections()
	})
}

// Each request that waits hears of a failed dial of its own.
func TestDialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := errors.New("mine")
		p := &pipes{fail: func(int32) error { return mine }}
		tr := lean.New(lean.Options{Dial: p.dial, MaxConns: 3})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := get(t.Context(), t, tr); !errors.Is(err, mine) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := p.dials.Load(); n != 50 {
			t.Errorf("%d dials", n)
		}
	})
}

// A dial whose request is gone serves the next one.
func TestDialOutlivesItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{after: time.Second, serve: slow(0)}
		tr := lean.New(lean.Options{Dial: p.dial})
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancel()
		if err := get(ctx, t, tr); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(200 * time.Millisecond)
		if err := get(t.Context(), t, tr); err != nil || p.dials.Load() != 1 {
			t.Errorf("%v after %d dials", err, p.dials.Load())
		}
		tr.CloseIdleConnections()
	})
}

// A dial that hangs does not hold up the next requests for long, and ends.
func TestDialHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: slow(0)}
		tr := lean.New(lean.Options{DialTimeout: 10 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
			if p.dials.Load() == 0 {
				p.dials.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return p.dial(ctx)
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := get(ctx, t, tr); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		start := time.Now()
		if err := get(t.Context(), t, tr); err != nil || time.Since(start) > 60*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		tr.CloseIdleConnections()
	})
}

// One connection, many requests: they have it in the order in which they came, and one that gives up loses no turn for
// the others.
func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: slow(time.Second)}
		tr := lean.New(lean.Options{Dial: p.dial, MaxConns: 1})
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				ctx := t.Context()
				if i == 2 || i == 4 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 1500*time.Millisecond)
					defer cancel()
				}
				err := get(ctx, t, tr)
				if i == 2 || i == 4 {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(i, err)
					}
					return
				}
				if err != nil {
					t.Error(i, err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(order, []int{0, 1, 3, 5}) || p.dials.Load() != 1 {
			t.Errorf("%v after %d dials", order, p.dials.Load())
		}
		tr.CloseIdleConnections()
	})
}

// A connection that breaks makes room for another.
func TestMaxConnsAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: func(_ net.Conn, br *bufio.Reader) { _, _ = readHead(br) }}
		tr := lean.New(lean.Options{Dial: p.dial, MaxConns: 2})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := get(t.Context(), t, tr); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := p.dials.Load(); n != 20 {
			t.Errorf("%d dials", n)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: slow(time.Second)}
		tr := lean.New(lean.Options{Dial: p.dial, IdleTimeout: 10 * time.Second, MaxIdle: 2})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := get(t.Context(), t, tr); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if n := p.closed.Load(); n != 1 {
			t.Errorf("%d closed: more than two are kept", n)
		}
		for range 5 { // keeps one in use, the last one that was used
			time.Sleep(3 * time.Second)
			if err := get(t.Context(), t, tr); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if n := p.closed.Load(); n != 2 || p.dials.Load() != 3 {
			t.Errorf("%d closed, %d dials", n, p.dials.Load())
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := p.closed.Load(); n != 3 {
			t.Errorf("%d closed", n)
		}
	})
}

func TestCloseIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: slow(time.Second)}
		tr := lean.New(lean.Options{Dial: p.dial})
		if err := get(t.Context(), t, tr); err != nil {
			t.Fatal(err)
		}
		tr.CloseIdleConnections()
		synctest.Wait()
		if n := p.closed.Load(); n != 1 {
			t.Errorf("%d closed", n)
		}
		done := make(chan error)
		go func() { done <- get(t.Context(), t, tr) }()
		synctest.Wait()
		tr.CloseIdleConnections() // one in use is closed later
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := p.closed.Load(); n != 2 {
			t.Errorf("%d closed", n)
		}
	})
}

// A read that has a time-out for the header leaves none for the body.
func TestHeaderTimeoutEndsWithTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: func(c net.Conn, br *bufio.Reader) {
			for {
				if _, err := readHead(br); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
				time.Sleep(time.Minute)
				_, _ = io.WriteString(c, "hello")
			}
		}}
		tr := lean.New(lean.Options{Dial: p.dial, ResponseHeaderTimeout: time.Second})
		for range 2 {
			if err := get(t.Context(), t, tr); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if p.dials.Load() != 1 {
			t.Errorf("%d dials", p.dials.Load())
		}
		tr.CloseIdleConnections()
	})
}

// A connection that comes just when its request gives up is for the next one.
func TestGivesUpWhenServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 {
			p := &pipes{serve: slow(0)}
			tr := lean.New(lean.Options{Dial: p.dial, MaxConns: 1})
			first, err := tr.RoundTrip(request(t.Context(), t, http.MethodGet, "upstream", nil))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- get(ctx, t, tr) }()
			synctest.Wait() // it waits for the only connection
			cancel()
			_, _ = io.Copy(io.Discard, first.Body) // and is given it before it has seen the end
			first.Body.Close()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := get(t.Context(), t, tr); err != nil {
				t.Error(err)
			}
			tr.CloseIdleConnections()
		}
	})
}

// Many dials that hang and that nobody waits for any more hold up nobody, even if they take all the room.
func TestManyDialsHang(t *testing.T) {
	for _, most := range []int{0, 20, 40} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{serve: slow(0)}
			var up atomic.Bool
			tr := lean.New(lean.Options{MaxConns: most, DialTimeout: 10 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
				if !up.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return p.dial(ctx)
			}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() { _ = get(ctx, t, tr) })
			}
			wg.Wait()
			up.Store(true)
			start := time.Now()
			if err := get(t.Context(), t, tr); err != nil || time.Since(start) > 60*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			tr.CloseIdleConnections()
		})
	}
}

// The same while a request waits that is as old as those dials.
func TestRecoversForWhoIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: slow(0)}
		var up atomic.Bool
		tr := lean.New(lean.Options{DialTimeout: 10 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
			if !up.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return p.dial(ctx)
		}})
		var patient, others sync.WaitGroup
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for i := range 40 {
			if i == 0 {
				patient.Go(func() {
					if err := get(t.Context(), t, tr); err != nil || time.Since(start) > 1100*time.Millisecond {
						t.Errorf("%v after %v", err, time.Since(start))
					}
				})
				continue
			}
			others.Go(func() { _ = get(ctx, t, tr) })
		}
		others.Wait()
		up.Store(true)
		if err := get(t.Context(), t, tr); err != nil || time.Since(start) > 1100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		patient.Wait()
		tr.CloseIdleConnections()
	})
}

// A request hears of no failure that was over before its own dial: of one that began before it.
func TestForeignDialFails(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{serve: slow(0), after: time.Millisecond}
			var n atomic.Int32
			tr := k.make("upstream", lean.Options{Dial: func(ctx context.Context) (net.Conn, error) {
				if n.Add(1) == 1 {
					time.Sleep(time.Second)
					return nil, errors.New("down")
				}
				return p.dial(ctx)
			}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_ = get(ctx, t, tr)
			time.Sleep(980 * time.Millisecond)
			if err := get(t.Context(), t, tr); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			tr.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		})
	})
}
