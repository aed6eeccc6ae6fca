//go:build unix

package lean_test

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// BenchmarkProxy compares the processor time of a ReverseProxy over net/http's Transport, tuned, with that over ours.
// The upstream and the client are processes of their own, so that they do not count. "cpu-us/op" is the robust figure.
//
//	go test -run '^$' -bench Proxy -benchtime 50000x -count 3 ./internal/lean
func BenchmarkProxy(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	upstream := helper(b, "upstream")
	address := strings.TrimPrefix(upstream, "http://")
	transports := []struct {
		name string
		rt   http.RoundTripper
	}{
		{"net/http", &http.Transport{
			MaxIdleConnsPerHost: 512, DisableCompression: true, WriteBufferSize: 8 << 10, ReadBufferSize: 8 << 10,
			IdleConnTimeout: 90 * time.Second, ResponseHeaderTimeout: time.Minute, ExpectContinueTimeout: time.Second,
		}},
		{"lean", lean.New(lean.Options{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
			MaxIdle: 512, IdleTimeout: 90 * time.Second, ResponseHeaderTimeout: time.Minute, ExpectContinueTimeout: time.Second,
		})},
	}
	for _, how := range []string{"get", "post"} {
		for _, tr := range transports {
			b.Run(how+"/"+tr.name, func(b *testing.B) { benchmarkProxy(b, upstream, how, tr.rt) })
		}
	}
}

func benchmarkProxy(b *testing.B, upstream, how string, rt http.RoundTripper) {
	target, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	pool := &buffers{make(chan []byte, 256)}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: rt, BufferPool: pool,
		ErrorLog: log.New(io.Discard, "", 0),
	})
	defer proxy.Close()
	load(b, proxy.URL, how, 2000)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	load(b, proxy.URL, how, b.N)
	b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-us/op")
}

type buffers struct{ free chan []byte }

func (p *buffers) Get() []byte {
	select {
	case b := <-p.free:
		return b
	default:
		return make([]byte, 32<<10)
	}
}

func (p *buffers) Put(b []byte) {
	select {
	case p.free <- b:
	default:
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load has a client of its own process make n requests, 64 at a time.
func load(b *testing.B, address, how string, n int) {
	b.Helper()
	cmd := helperCommand(b.Context(), "client", address, how, time.Duration(n).String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
}

func helperCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "LEAN_HELPER="+strings.Join(args, " "))
	return cmd
}

// helper starts an upstream and returns its address.
func helper(b *testing.B, role string) string {
	b.Helper()
	cmd := helperCommand(b.Context(), role)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var line [256]byte
	n, err := out.Read(line[:])
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(line[:n]))
}

func TestMain(m *testing.M) {
	role := strings.Fields(os.Getenv("LEAN_HELPER"))
	switch {
	case len(role) == 0:
		os.Exit(m.Run())
	case role[0] == "upstream":
		serveUpstream()
	case role[0] == "client":
		n, err := time.ParseDuration(role[3])
		if err != nil {
			log.Fatal(err)
		}
		runClient(role[1], role[2], int(n))
	}
}

func serveUpstream() {
	text := []byte(rand.Text() + strings.Repeat("x", 1000))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Request-Id", "abcdef")
		_, _ = w.Write(text)
	}))
	_, _ = os.Stdout.WriteString(srv.URL + "\n")
	select {}
}

func runClient(address, how string, n int) {
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	work, done := make(chan struct{}), make(chan error)
	for range 64 {
		go func() {
			for range work {
				req, err := http.NewRequest(http.MethodGet, address+"/api/items?page=1", http.NoBody)
				if how == "post" {
					req, err = http.NewRequest(http.MethodPost, address+"/api/items", strings.NewReader(`{"name":"`+strings.Repeat("y", 300)+`"}`))
				}
				if err != nil {
					done <- err
					return
				}
				req.Header.Set("Accept", "application/json")
				req.Header.Set("Accept-Language", "de-DE,de;q=0.9,en;q=0.8")
				req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
				req.Header.Set("Sec-Fetch-Mode", "cors")
				req.Header.Set("Sec-Fetch-Site", "same-origin")
				res, err := tr.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err != nil || res.StatusCode != http.StatusOK {
					log.Fatal(err, res)
				}
			}
			done <- nil
		}()
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	for range 64 {
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
}
