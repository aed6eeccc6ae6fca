package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	stdlog "log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
)

// settings are the defaults with a change.
func settings(change func(*config.Connection)) config.Connection {
	c := (*config.Connection)(nil).WithDefaults()
	if change != nil {
		change(&c)
	}
	return (&c).WithDefaults()
}

// log collects events.
type log struct {
	mu     sync.Mutex
	events []*event.Audit
}

func (l *log) sink(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e.(*event.Audit))
}

func (l *log) kinds() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kinds []string
	for _, e := range l.events {
		kinds = append(kinds, e.Kind+" "+e.Reason)
	}
	return kinds
}

func pool(t testing.TB, l *log, c config.Connection, addresses ...string) *Pool {
	t.Helper()
	var sink event.Sink
	if l != nil {
		sink = l.sink
	}
	s := NewSet(sink)
	t.Cleanup(s.Close)
	p, err := s.Pool(addresses, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve serves on a listener until the test ends.
func serve(t testing.TB, ln net.Listener, server *http.Server) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// plainServer is an HTTP/1.1 server on loopback.
func plainServer(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ln := listen(t, "tcp", "127.0.0.1:0")
	serve(t, ln, &http.Server{Handler: h, ReadHeaderTimeout: time.Minute})
	return "http://" + ln.Addr().String()
}

func request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask sends a GET and returns status and body.
func ask(t testing.TB, rt http.RoundTripper, path string) (int, string) {
	t.Helper()
	res, err := rt.RoundTrip(request(t, "GET", path, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	File string // its certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}, nil, a)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.File = cert, filepath.Join(t.TempDir(), "ca.pem")
	write(t, a.File, "CERTIFICATE", der)
	return a
}

// issue makes a certificate for a name, as files and as a value.
func (a *authority) issue(t testing.TB, name string) (certFile, keyFile string, pair tls.Certificate) {
	t.Helper()
	key := newKey(t)
	der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key, a)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, "CERTIFICATE", der)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, keyFile, "PRIVATE KEY", raw)
	if pair, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, pair
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate for a key; for the authority's own without one.
func sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey, a *authority) []byte {
	t.Helper()
	parent := a.cert
	if key == nil {
		parent, key = template, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// quiet is a server's log that nobody reads.
func quiet() *stdlog.Logger { return stdlog.New(io.Discard, "", 0) }
