package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/idp"
)

// process is a running `cloakroom serve`.
type process struct {
	*exec.Cmd
	mu    sync.Mutex
	lines []string
	addr  map[string]string // listener -> address
	ready chan struct{}
}

// serveProcess starts the command and waits until it listens or ends.
func serveProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], args...), addr: map[string]string{}, ready: make(chan struct{})}
	p.Env = append(os.Environ(), "CLOAKROOM_RUN_MAIN=1")
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _, _ = p.Process.Wait() })
	go p.read(stderr)
	select {
	case <-p.ready:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not start")
	}
	return p
}

func (p *process) read(stderr io.Reader) {
	scanner := bufio.NewScanner(stderr)
	open := true
	for scanner.Scan() {
		var line struct {
			Msg, Listener, Address string
		}
		_ = json.Unmarshal(scanner.Bytes(), &line)
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		if line.Msg == "listening" {
			p.addr[line.Listener] = line.Address
		}
		both := len(p.addr) == 2
		p.mu.Unlock()
		if both && open {
			open = false
			close(p.ready)
		}
	}
	if open {
		close(p.ready)
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// world is a provider, an API and a configuration file.
type world struct {
	url, file, dir, issuer string
}

func newWorld(t *testing.T, extra, url string) world {
	t.Helper()
	dir := t.TempDir()
	var p *idp.Provider
	op := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	t.Cleanup(op.Close)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer at_") {
			w.WriteHeader(401)
			return
		}
		fmt.Fprint(w, "fine")
	}))
	t.Cleanup(api.Close)
	var err error
	p, err = idp.New(idp.Config{
		Issuer: op.URL, Clients: []idp.Client{{ID: "app", Secret: "canary-client-secret", RedirectURIs: []string{url + "/auth/callback"}}},
		Users: []idp.User{{Username: "ann", Password: "canary-password", Name: "Ann"}}, AccessTokenLife: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := world{url: url, issuer: op.URL, dir: dir, file: filepath.Join(dir, "cloakroom.yaml")}
	w.write(t, fmt.Sprintf(`
%s
admin: {listen: "127.0.0.1:0"}
store: file:sessions.db
limits: {per_account: 1000/1s, per_address: 1000/1s}
frontends:
  - url: %s
    providers:
      - {issuer: %q, client_id: app, client_secret: canary-client-secret, password_login: true}
    routes:
      - {path: /api/, upstream: %q}
`, extra, url, op.URL, api.URL))
	return w
}

func (w world) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// login returns the Cookie header of a new session.
func login(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequest("POST", url+"/auth/login", strings.NewReader(`{"username":"ann","password":"canary-password"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Cloakroom", "1")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || len(res.Cookies()) != 2 { // the ticket, and that this browser is known now
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("login: %d %s", res.StatusCode, b)
	}
	c := res.Cookies()[0]
	return c.Name + "=" + c.Value
}

func call(t *testing.T, client *http.Client, url, cookie string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), "GET", url+"/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", cookie)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// TestKillAndRestart: kill -9 during traffic; after the restart every session that was given out still works. A second
// process on the same file says that it is in use. The log holds no secret.
func TestKillAndRestart(t *testing.T) {
	port := freePort(t)
	w := newWorld(t, fmt.Sprintf("listen: 127.0.0.1:%s", port), "http://127.0.0.1:"+port)
	first := serveProcess(t, "serve", "--config", w.file)
	var cookies []string
	for range 30 {
		cookies = append(cookies, login(t, http.DefaultClient, w.url))
	}
	second := exec.Command(os.Args[0], "serve", "--config", w.file)
	second.Env = append(os.Environ(), "CLOAKROOM_RUN_MAIN=1")
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by another") || strings.Contains(string(out), "goroutine") {
		t.Errorf("a second process: %v %s", err, out)
	}
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for _, c := range cookies[:4] {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					call(t, http.DefaultClient, w.url, c)
				}
			}
		})
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = first.Process.Wait()
	close(stop)
	traffic.Wait()
	again := serveProcess(t, "serve", "--config", w.file)
	for i, c := range cookies {
		if status := call(t, http.DefaultClient, w.url, c); status != 200 {
			t.Errorf("session %d: %d", i, status)
		}
	}
	if err := again.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("draining: %v", err)
	}
	for _, secret := range append([]string{"canary-password", "canary-client-secret", "at_", "rt_"}, cookies...) {
		if strings.Contains(first.output()+again.output(), secret) {
			t.Errorf("the log holds %.20q", secret)
		}
	}
}

// TestTLS serves https itself: prefixed Secure cookies, HSTS, health on the admin listener.
func TestTLS(t *testing.T) {
	port := freePort(t)
	dir := t.TempDir()
	pool := certificate(t, dir)
	url := "https://localhost:" + port
	w := newWorld(t, fmt.Sprintf("listen: 127.0.0.1:%s\ntls: {cert_file: %q, key_file: %q}", port, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")), url)
	p := serveProcess(t, "serve", "--config", w.file)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	cookie := login(t, client, url)
	name, value, _ := strings.Cut(cookie, "=")
	if name != "__Host-Http-cloakroom" || len(value) != 43 {
		t.Errorf("%s with %d characters", name, len(value))
	}
	if status := call(t, client, url, cookie); status != 200 {
		t.Errorf("the API: %d", status)
	}
	res, err := client.Get(url + "/auth/login")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %v", res.Proto, res.Header)
	}
	p.mu.Lock()
	admin := p.addr["admin"]
	p.mu.Unlock()
	for path, want := range map[string]string{"/healthz": `"ok"`, "/readyz": `"ok"`} {
		res, err := http.Get("http://" + admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

// certificate writes a throw-away certificate for localhost.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// TestDemoRuns starts the demo, logs in, calls the API, restarts it and is still logged in.
func TestDemoRuns(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	url := "http://127.0.0.1:" + port
	var cookie string
	for round := range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan int)
		var out, errs strings.Builder
		go func() {
			done <- run(ctx, []string{"demo", "--listen", "127.0.0.1:" + port, "--state", dir}, &out, &errs)
		}()
		waitFor(t, url+"/")
		if round == 0 {
			req, err := http.NewRequest("POST", url+"/auth/login", strings.NewReader(`{"username":"alice","password":"wonderland"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Origin", url)
			res, err := http.DefaultClient.Do(req)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("login: %v %v", res, err)
			}
			res.Body.Close()
			cookie = res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
		}
		req, err := http.NewRequest("GET", url+"/api/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", cookie)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("round %d: %v %v", round, res, err)
		} else {
			res.Body.Close()
		}
		cancel()
		if code := <-done; code != 0 || !strings.Contains(out.String(), "wonderland") {
			t.Errorf("exit %d, %s %s", code, out.String(), errs.String())
		}
		http.DefaultClient.CloseIdleConnections()
	}
	var errs strings.Builder
	if code := run(context.Background(), []string{"demo", "--listen", "0.0.0.0:1"}, io.Discard, &errs); code != exitUsage || !strings.Contains(errs.String(), "loopback") {
		t.Errorf("on a public address: %d %s", code, errs.String())
	}
}

// waitFor waits until an address answers.
func waitFor(t *testing.T, url string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		res, err := http.Get(url)
		if err == nil {
			res.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}
