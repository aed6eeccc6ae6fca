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
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// BenchmarkProxy compares the processor time of a ReverseProxy over net/http's Transport, tuned, with that over ours, in
// turns, since a machine is faster now and slower then. The upstream and the client are processes of their own, so that
// they do not count. "ratio" is the median over the turns.
//
//	go test -run '^$' -bench Proxy -benchtime 25x ./internal/lean
func BenchmarkProxy(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	upstream := helper(b, "upstream")
	address := strings.TrimPrefix(upstream, "http://")
	transports := []http.RoundTripper{
		&http.Transport{
			MaxIdleConnsPerHost: 512, DisableCompression: true, WriteBufferSize: 8 << 10, ReadBufferSize: 8 << 10,
			IdleConnTimeout: 90 * time.Second, ResponseHeaderTimeout: time.Minute, ExpectContinueTimeout: time.Second,
		},
		lean.New(lean.Options{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
			MaxIdle: 512, IdleTimeout: 90 * time.Second, ResponseHeaderTimeout: time.Minute, ExpectContinueTimeout: time.Second,
		}),
	}
	for _, how := range []string{"get", "post"} {
		b.Run(how, func(b *testing.B) { compare(b, upstream, how, transports) })
	}
}

func compare(b *testing.B, upstream, how string, transports []http.RoundTripper) {
	const requests = 3000
	var proxies []*httptest.Server
	for _, rt := range transports {
		proxies = append(proxies, proxyOver(b, upstream, rt))
		load(b, proxies[len(proxies)-1].URL, how, requests)
	}
	var ratios, each [2][]float64
	for b.Loop() {
		var cost, mallocs [2]float64
		for i, proxy := range proxies {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpu()
			load(b, proxy.URL, how, requests)
			cost[i] = float64(cpu()-start) / requests / 1e3
			runtime.ReadMemStats(&after)
			mallocs[i] = float64(after.Mallocs-before.Mallocs) / requests
			each[i] = append(each[i], cost[i])
		}
		ratios[0] = append(ratios[0], cost[1]/cost[0])
		ratios[1] = append(ratios[1], mallocs[1]/mallocs[0])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios[0]), "cpu-ratio")
	b.ReportMetric(median(ratios[1]), "alloc-ratio")
	b.ReportMetric(median(each[0]), "net/http-us")
	b.ReportMetric(median(each[1]), "lean-us")
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func proxyOver(b *testing.B, upstream string, rt http.RoundTripper) *httptest.Server {
	b.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: rt,
		BufferPool: &buffers{make(chan []byte, 256)}, ErrorLog: log.New(io.Discard, "", 0),
	})
	b.Cleanup(proxy.Close)
	return proxy
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
