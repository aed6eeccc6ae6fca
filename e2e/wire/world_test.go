package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that should happen at once. Nothing here measures speed by it.
const patience = 30 * time.Second

// child is a process of the command, with what it wrote.
type child struct {
	cmd    *exec.Cmd
	out    buffer
	exited chan struct{}
	err    error // how it ended, once exited is closed
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs the command until ready says so.
func start(dir string, ready func() bool, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(command, args...), exited: make(chan struct{})}
	c.cmd.Dir = dir
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a time-out of the tests leaves nothing behind
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.exited) }()
	for end := time.Now().Add(patience); !ready(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-c.exited:
			return nil, fmt.Errorf("%s ended: %w\n%s", args[0], c.err, c.out.String())
		default:
		}
		if time.Now().After(end) {
			c.stop()
			return nil, fmt.Errorf("%s does not start\n%s", args[0], tail(c.out.String(), 4000))
		}
	}
	return c, nil
}

func (c *child) stop() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// memory is what is resident of the process, in bytes.
func (c *child) memory() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// watchMemory samples until the function that it returns is called, which tells by how much the memory grew at most.
func (c *child) watchMemory(t *testing.T) func() int64 {
	t.Helper()
	before, err := c.memory()
	if err != nil {
		t.Fatal(err)
	}
	most, done, stopped := before, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.Tick(100 * time.Millisecond); ; {
			select {
			case <-done:
				return
			case <-tick:
				if now, err := c.memory(); err == nil {
					most = max(most, now)
				}
			}
		}
	}()
	return func() int64 {
		close(done)
		<-stopped
		return most - before
	}
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// provider is `cloakroom idp`.
type provider struct {
	*child
	issuer string
}

func startProvider(dir string) (*provider, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &provider{issuer: "http://127.0.0.1:" + port}
	discovery, err := http.NewRequest("GET", p.issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	ready := func() bool { return answers(http.DefaultClient, discovery) }
	p.child, err = start(dir, ready, "idp", "--listen", "127.0.0.1:"+port, "--control", "127.0.0.1:0", "--client-id", "app", "--client-secret", "secret-of-the-wire-tests", "--access-token-life", "2h")
	return p, err
}

func answers(client *http.Client, req *http.Request) bool {
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == 200
}

// owner asks the provider whose token this is.
func (p *provider) owner(bearer string) (string, error) {
	req, err := http.NewRequest("GET", p.issuer+"/userinfo", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", bearer)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var claims struct {
		Username string `json:"preferred_username"`
		Email    string `json:"email"`
	}
	if err := json.NewDecoder(res.Body).Decode(&claims); err != nil || res.StatusCode != 200 {
		return "", fmt.Errorf("userinfo: %s %w", res.Status, err)
	}
	return claims.Email, nil
}

// authority signs certificates for localhost.
type authority struct {
	pool     *x509.CertPool
	pem      []byte
	cert     tls.Certificate // for localhost and 127.0.0.1
	certFile string
	keyFile  string
	caFile   string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	from, to := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	fatal(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	fatal(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	fatal(err)
	dir := t.TempDir()
	a := authority{pool: x509.NewCertPool(), certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), caFile: filepath.Join(dir, "ca.pem")}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	a.cert, err = tls.X509KeyPair(certPEM, keyPEM)
	fatal(err)
	a.pool.AppendCertsFromPEM(a.pem)
	for file, text := range map[string][]byte{a.certFile: certPEM, a.keyFile: keyPEM, a.caFile: a.pem} {
		fatal(os.WriteFile(file, text, 0o600))
	}
	return a
}

// front is `cloakroom serve` with a person who is logged in.
type front struct {
	*child
	url, host string
	tls       *tls.Config // nil = it speaks without TLS
	cookie    string      // the Cookie header of the session
}

// kind is how a front's listener speaks.
type kind int

const (
	plain kind = iota
	secure
)

func (k kind) String() string { return [...]string{"plain", "tls"}[k] }

// startFront runs Cloakroom with these routes, each a line of YAML.
func startFront(t *testing.T, k kind, a authority, routes ...string) *front {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	f := &front{host: "localhost:" + port}
	f.url = "http://" + f.host
	var certificate string
	if k == secure {
		f.url = "https://" + f.host
		f.tls = &tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS12}
		certificate = fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", a.certFile, a.keyFile)
	}
	dir := t.TempDir()
	config := fmt.Sprintf(`listen: 127.0.0.1:%s
%sadmin: {listen: "127.0.0.1:0"}
store: file:sessions.db
frontends:
  - url: %s
    providers:
      - {issuer: %q, client_id: app, client_secret: secret-of-the-wire-tests, password_login: true}
    routes:
`, port, certificate, f.url, people.issuer)
	for _, route := range routes {
		config += "      - " + route + "\n"
	}
	file := filepath.Join(dir, "cloakroom.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	client := f.client(false)
	defer client.CloseIdleConnections()
	f.child, err = start(dir, func() bool { return answers(client, f.request("GET", "/auth/session", nil)) }, "serve", "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.stop()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", f.url, tail(f.out.String(), 4000))
		}
	})
	f.login(t, client)
	return f
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// client speaks HTTP/2 or HTTP/1.1 to the front, over connections of its own.
func (f *front) client(h2 bool) *http.Client {
	var p http.Protocols
	switch {
	case !h2:
		p.SetHTTP1(true)
	case f.tls == nil:
		p.SetUnencryptedHTTP2(true)
	default:
		p.SetHTTP2(true)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: f.tls.Clone(), Protocols: &p, DisableCompression: true}}
}

// request is one that the app's own page could have sent.
func (f *front) request(method, path string, body io.Reader) *http.Request {
	req, err := http.NewRequest(method, f.url+path, body)
	if err != nil {
		panic(err) // a mistake in the test
	}
	req.Header.Set("Cookie", f.cookie)
	req.Header.Set("X-Cloakroom", "1")
	return req
}

// login logs alice in by the form.
func (f *front) login(t *testing.T, client *http.Client) {
	t.Helper()
	req := f.request("POST", "/auth/login", strings.NewReader(`{"username":"alice","password":"wonderland"}`))
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("login: %s %s", res.Status, b)
	}
	var pairs []string
	for _, c := range res.Cookies() {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	f.cookie = strings.Join(pairs, "; ")
}

// logout ends the session.
func (f *front) logout(t *testing.T) {
	t.Helper()
	client := f.client(false)
	defer client.CloseIdleConnections()
	res, err := client.Do(f.request("POST", "/auth/logout", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Fatalf("logout: %s", res.Status)
	}
}

// serveUpstream serves an API on loopback: "http", "h2c", "https" (with ALPN), or "standard" (http by Go's own client). It
// returns its address and what its route says of the connection.
func serveUpstream(t *testing.T, scheme string, a authority, h http.Handler) (address, connection string) {
	t.Helper()
	switch scheme {
	case "standard":
		scheme, connection = "http", ", connection: {transport: standard}"
	case "https":
		connection = fmt.Sprintf(", connection: {ca_file: %q}", a.caFile)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetHTTP1(scheme != "h2c")
	p.SetHTTP2(scheme == "https")
	p.SetUnencryptedHTTP2(scheme == "h2c")
	s := &http.Server{Handler: h, Protocols: &p, ReadHeaderTimeout: patience}
	if scheme == "https" {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{a.cert}, MinVersion: tls.VersionTLS12}
		go func() { _ = s.ServeTLS(ln, "", "") }()
	} else {
		go func() { _ = s.Serve(ln) }()
	}
	t.Cleanup(func() { _ = s.Close() })
	return scheme + "://" + ln.Addr().String(), connection
}

// receive waits for something on c.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing within %s", what, patience)
		panic("unreachable")
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
