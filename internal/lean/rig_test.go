package lean_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// kit is one of the two transports that the conformance suite compares.
type kit struct {
	name string
	make func(address string, o lean.Options) http.RoundTripper
}

func (k kit) lean() bool { return k.name == "lean" }

var kits = []kit{
	{"net/http", func(address string, o lean.Options) http.RoundTripper {
		return &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: 16, MaxConnsPerHost: o.MaxConns,
			ResponseHeaderTimeout: o.ResponseHeaderTimeout, ExpectContinueTimeout: o.ExpectContinueTimeout,
			MaxResponseHeaderBytes: int64(o.MaxHeaderBytes), IdleConnTimeout: o.IdleTimeout,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				if o.Dial != nil {
					return o.Dial(ctx)
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			},
		}
	}},
	{"lean", func(address string, o lean.Options) http.RoundTripper {
		if o.Dial == nil {
			o.Dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) }
		}
		return lean.New(o)
	}},
}

func both(t *testing.T, run func(t *testing.T, k kit)) {
	t.Helper()
	for _, k := range kits {
		t.Run(k.name, func(t *testing.T) { run(t, k) })
	}
}

// upstream is a server by hand: serve gets each connection.
type upstream struct {
	address string
	conns   atomic.Int32 // accepted so far
}

func newUpstream(t *testing.T, serve func(c net.Conn, br *bufio.Reader)) *upstream {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	u := &upstream{address: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u.conns.Add(1)
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return u
}

// readHead reads the header of a request as it is on the wire.
func readHead(br *bufio.Reader) (string, error) {
	var all strings.Builder
	for {
		line, err := br.ReadString('\n')
		all.WriteString(line)
		if err != nil || line == "\r\n" {
			return all.String(), err
		}
	}
}

// answers returns what serves each request of a connection with the same bytes.
func answers(raw string, closes bool) func(c net.Conn, br *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			if _, err := io.WriteString(c, raw); err != nil || closes {
				return
			}
		}
	}
}

func request(ctx context.Context, t testing.TB, method, address string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// outcome makes a request and says what came of it.
func outcome(t *testing.T, rt http.RoundTripper, method, address string) string {
	t.Helper()
	res, err := rt.RoundTrip(request(within(t), t, method, address, nil))
	if err != nil {
		return "refused"
	}
	return answerOf(res)
}

func answerOf(res *http.Response) string {
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	out := fmt.Sprintf("%s %s %d %q", res.Proto, res.Status, res.ContentLength, body)
	if len(res.Header) > 0 {
		out += fmt.Sprint(" ", res.Header)
	}
	if len(res.TransferEncoding) > 0 {
		out += fmt.Sprint(" ", res.TransferEncoding)
	}
	if len(res.Trailer) > 0 {
		out += fmt.Sprint(" trailer ", res.Trailer)
	}
	if res.Close {
		out += " close"
	}
	if err != nil {
		out += " cut off"
	}
	return out
}

// within is a context long enough for the slowest machine, so that what hangs is seen as such.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until what is asked for holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
