package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// echo says how it was asked, in the order of a chat: it answers each line as soon as it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\n")
		line, _ := buf.ReadString('\n')
		rest, _ := io.ReadAll(buf) // until the other side has ended its direction
		fmt.Fprintf(conn, "echo %s%d", line, len(rest))
		return
	}
	if r.ProtoMajor == 1 {
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	w.Header().Set("Trailer", "Grpc-Status")
	fmt.Fprintf(w, "%s %s %s\n", r.Proto, r.Host, r.RequestURI)
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		fmt.Fprintln(w, lines.Text())
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("Grpc-Status", "0")
}

// schemes are servers of each kind, by what leads to them.
func schemes(t *testing.T) map[string]struct {
	address, proto, host string
	connection           config.Connection
} {
	t.Helper()
	unencrypted := new(http.Protocols)
	unencrypted.SetHTTP1(true)
	unencrypted.SetUnencryptedHTTP2(true)
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	ca := newAuthority(t)
	_, _, pair := ca.issue(t, "api.example.com")
	certFile, keyFile, _ := ca.issue(t, "cloakroom")
	secure := func(protocols *http.Protocols) string {
		ln := listen(t, "tcp", "127.0.0.1:0")
		pool := x509.NewCertPool()
		pool.AddCert(ca.cert)
		config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: []string{"h2", "http/1.1"}}
		if protocols == nil {
			config.NextProtos = nil
		}
		serve(t, tls.NewListener(ln, config), &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: time.Minute, Protocols: protocols, TLSConfig: config})
		return ln.Addr().String()
	}
	open := func(network, address string) string {
		ln := listen(t, network, address)
		serve(t, ln, &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: time.Minute, Protocols: unencrypted})
		return ln.Addr().String()
	}
	tcp, socket := open("tcp", "127.0.0.1:0"), open("unix", filepath.Join(t.TempDir(), "api.sock"))
	h2, h1 := secure(both), secure(nil)
	mutual := settings(func(c *config.Connection) {
		c.CAFile, c.CertFile, c.KeyFile, c.ServerName = ca.File, certFile, keyFile, "api.example.com"
	})
	return map[string]struct {
		address, proto, host string
		connection           config.Connection
	}{
		"http":                {"http://" + tcp, "HTTP/1.1", tcp, settings(nil)},
		"h2c":                 {"h2c://" + tcp, "HTTP/2.0", tcp, settings(nil)},
		"unix":                {"unix:" + socket, "HTTP/1.1", "localhost", settings(nil)},
		"unix+h2c":            {"unix+h2c:" + socket, "HTTP/2.0", "localhost", settings(nil)},
		"https with HTTP/2":   {"https://" + h2, "HTTP/2.0", h2, mutual},
		"https with HTTP/1.1": {"https://" + h1, "HTTP/1.1", h1, mutual},
		"standard http":       {"http://" + tcp, "HTTP/1.1", tcp, by("standard", settings(nil))},
		"standard unix":       {"unix:" + socket, "HTTP/1.1", "localhost", by("standard", settings(nil))},
		"lean https":          {"https://" + h2, "HTTP/1.1", h2, by("lean", mutual)},
	}
}

func by(transport string, c config.Connection) config.Connection { c.Transport = transport; return c }

func TestSchemes(t *testing.T) {
	for name, c := range schemes(t) {
		t.Run(name, func(t *testing.T) {
			p := pool(t, nil, c.connection, c.address)
			body, lines := io.Pipe()
			r := request(t, "POST", "/a%20b?c=%2f", body)
			r.URL.Opaque = "/a%20b|" // as the proxy writes it where net/url would escape
			go func() { fmt.Fprintln(lines, "first") }()
			res, err := p.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			answer := bufio.NewReader(res.Body)
			next := func(want string) {
				t.Helper()
				if got, err := answer.ReadString('\n'); got != want+"\n" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			next(c.proto + " " + c.host + " /a%20b|?c=%2f")
			next("first")
			fmt.Fprintln(lines, "second") // both directions at once
			next("second")
			_ = lines.Close()
			if rest, err := io.ReadAll(answer); err != nil || len(rest) > 0 || res.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("%q, %v, trailer %v", rest, err, res.Trailer)
			}
			if res.Request.URL.Host != c.host {
				t.Errorf("sent to %s", res.Request.URL.Host)
			}
		})
	}
}

// A request that changes the protocol goes over HTTP/1.1, and its directions end one by one.
func TestUpgrade(t *testing.T) {
	for name, c := range schemes(t) {
		for _, addresses := range [][]string{{c.address}, {c.address, "unix:/nowhere"}} {
			t.Run(fmt.Sprintf("%s of %d", name, len(addresses)), func(t *testing.T) {
				p := pool(t, nil, c.connection, addresses...)
				r := request(t, "GET", "/", nil)
				r.Header["Connection"], r.Header["Upgrade"] = []string{"Upgrade"}, []string{"test"}
				res, err := p.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				conn, ok := res.Body.(interface {
					io.ReadWriteCloser
					CloseWrite() error
				})
				if !ok || res.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("%d %T", res.StatusCode, res.Body)
				}
				fmt.Fprint(conn, "hello\nmore")
				if err := conn.CloseWrite(); err != nil {
					t.Error(err)
				}
				if got, err := io.ReadAll(conn); string(got) != "echo hello\n4" {
					t.Errorf("%q, %v", got, err)
				}
				_, _ = conn.Close(), conn.Close()
				for _, m := range p.members {
					if n := m.running.Load(); n != 0 {
						t.Errorf("%d still run", n)
					}
				}
			})
		}
	}
}

func TestTLSRefuses(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, _, pair := ca.issue(t, "api.example.com")
	certFile, keyFile, _ := ca.issue(t, "cloakroom")
	strangeCert, strangeKey, _ := other.issue(t, "stranger")
	known := x509.NewCertPool()
	known.AddCert(ca.cert)
	ln := listen(t, "tcp", "127.0.0.1:0")
	config12 := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known, MaxVersion: tls.VersionTLS12}
	serve(t, tls.NewListener(ln, config12), &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: time.Minute, ErrorLog: quiet()})
	good := config.Connection{CAFile: ca.File, CertFile: certFile, KeyFile: keyFile, ServerName: "api.example.com"}
	for _, tc := range []struct {
		name   string
		change func(*config.Connection)
		want   string
	}{
		{"good", func(*config.Connection) {}, ""},
		{"an authority that is not ours", func(c *config.Connection) { c.CAFile = other.File }, "unknown authority"},
		{"the system's authorities", func(c *config.Connection) { c.CAFile = "" }, "unknown authority"},
		{"another name", func(c *config.Connection) { c.ServerName = "other.example.com" }, "valid for api.example.com"},
		{"the address as name", func(c *config.Connection) { c.ServerName = "" }, "127.0.0.1"},
		{"without a certificate of ours", func(c *config.Connection) { c.CertFile, c.KeyFile = "", "" }, "remote error"},
		{"with a stranger's", func(c *config.Connection) { c.CertFile, c.KeyFile = strangeCert, strangeKey }, "certificate"},
	} {
		c := good
		tc.change(&c)
		address := "https://" + ln.Addr().String()
		_, err := pool(t, nil, (&c).WithDefaults(), address).RoundTrip(request(t, "GET", "/", nil))
		probed := Probe(t.Context(), address, (&c).WithDefaults())
		if tc.want == "" {
			if err != nil || probed != nil {
				t.Errorf("%s: %v, %v", tc.name, err, probed)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "upstream "+address+": TLS: ") {
			t.Errorf("%s: %v", tc.name, err)
		}
		if _, ok := errors.AsType[*notSent](err); !ok || probed == nil {
			t.Errorf("%s: not known as unsent: %v; probe %v", tc.name, err, probed)
		}
	}
	for name, change := range map[string]func(*config.Connection){
		"ca":   func(c *config.Connection) { c.CAFile = "/nowhere" },
		"form": func(c *config.Connection) { c.CAFile = keyFile },
		"cert": func(c *config.Connection) { c.CertFile = "/nowhere" },
	} {
		c := good
		change(&c)
		if _, err := NewSet(nil).Pool([]string{"https://x"}, (&c).WithDefaults()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// isTimeout reports whether the proxy would answer 504.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// stubDial puts a dial in the place of the network's.
func stubDial(target string, c config.Connection, do dial) *member {
	u, err := config.ParseUpstream(target)
	if err != nil {
		panic(err)
	}
	security, err := newSecurity(c)
	if err != nil {
		panic(err)
	}
	d := newDialer(u, c, security)
	d.open = do
	m := &member{target: u, name: u.String(), scheme: "http"}
	m.main, m.upgrade = d.standard(c, http1), d.standard(c, http1)
	if u.TLS {
		m.scheme = "https"
	}
	return m
}

func TestTimeouts(t *testing.T) {
	silent := func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		return here, nil
	}
	for _, tc := range []struct {
		name    string
		address string
		do      dial
		want    time.Duration
		unsent  bool
	}{
		{"connecting", "http://api.example.com", func(ctx context.Context, network, address string) (net.Conn, error) {
			limited, cancel := context.WithTimeout(ctx, 3*time.Second) // as net.Dialer does with its Timeout
			defer cancel()
			<-limited.Done()
			return nil, &net.OpError{Op: "dial", Net: network, Err: limited.Err()}
		}, 3 * time.Second, true},
		{"TLS", "https://api.example.com", silent, 4 * time.Second, true},
		{"the first byte", "http://api.example.com", silent, 7 * time.Second, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := stubDial(tc.address, settings(func(c *config.Connection) {
					c.ConnectTimeout, c.TLSTimeout, c.ResponseTimeout = config.Duration(3*time.Second), config.Duration(4*time.Second), new(config.Duration(7*time.Second))
				}), tc.do)
				began := time.Now()
				p := &Pool{members: []*member{m}, stop: func() {}}
				_, err := p.RoundTrip(request(t, "GET", "/", nil))
				if took := time.Since(began); took != tc.want || !isTimeout(err) || !strings.HasPrefix(err.Error(), "upstream "+tc.address) {
					t.Errorf("%v after %v", err, took)
				}
				if _, ok := errors.AsType[*notSent](err); ok != tc.unsent {
					t.Errorf("unsent: %v", ok)
				}
				p.close()
				synctest.Wait()
			})
		})
	}
}

// The real dialer gives up, too: a listener whose backlog is full does not answer.
func TestConnectTimeout(t *testing.T) {
	address, ok := fullListener(t)
	if !ok {
		t.Skip("this system takes connections without end")
	}
	p := pool(t, nil, settings(func(c *config.Connection) { c.ConnectTimeout = config.Duration(100 * time.Millisecond) }), "http://"+address)
	if _, err := p.RoundTrip(request(t, "GET", "/", nil)); !isTimeout(err) {
		t.Error(err)
	}
}

// An HTTP/2 connection whose other side has gone silent is noticed and given up.
func TestDeadHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := settings(func(c *config.Connection) { c.ResponseTimeout = new(config.Duration(0)) })
		m := stubDial("h2c://api.example.com", c, nil)
		d := newDialer(m.target, c, nil)
		d.open = func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		}
		m.main = d.standard(c, http2)
		p := &Pool{members: []*member{m}, stop: func() {}}
		began := time.Now()
		_, err := p.RoundTrip(request(t, "GET", "/", nil))
		if took := time.Since(began); err == nil || took != pingAfter+pingTime {
			t.Errorf("%v after %v", err, took)
		}
		p.close()
		synctest.Wait()
	})
}

// Over either transport: what was not sent goes to another address, what broke is known as broken, time-outs as such.
func TestFailuresAreKnown(t *testing.T) {
	closes := listen(t, "tcp", "127.0.0.1:0")
	silent := listen(t, "tcp", "127.0.0.1:0")
	t.Cleanup(func() { _, _ = closes.Close(), silent.Close() })
	go func() {
		for {
			conn, err := closes.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1<<10))
			_ = conn.Close()
		}
	}()
	good := plainServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	for _, c := range []config.Connection{by("lean", settings(nil)), by("standard", settings(nil))} {
		c.ResponseTimeout = new(config.Duration(100 * time.Millisecond))
		_, err := pool(t, nil, c, "unix:/nowhere/api.sock").RoundTrip(request(t, "GET", "/", nil))
		if _, ok := errors.AsType[*notSent](err); !ok {
			t.Errorf("%s: not known as unsent: %v", c.Transport, err)
		}
		_, err = pool(t, nil, c, "http://"+closes.Addr().String()).RoundTrip(request(t, "POST", "/", nil))
		if _, ok := errors.AsType[*notSent](err); ok || err == nil || !broken(err) {
			t.Errorf("%s: not known as broken: %v", c.Transport, err)
		}
		if _, err = pool(t, nil, c, "http://"+silent.Addr().String()).RoundTrip(request(t, "GET", "/", nil)); !isTimeout(err) || broken(err) {
			t.Errorf("%s: not known as a time-out: %v", c.Transport, err)
		}
		c.ResponseTimeout = new(config.Duration(time.Minute))
		two := pool(t, nil, c, "unix:/nowhere/api.sock", good)
		for i := range 50 {
			r := request(t, "POST", "/", strings.NewReader("order"))
			if i%2 == 0 { // a transport looks whether there is a body, but not before it can send it
				r.Method, r.ContentLength = "DELETE", -1
			}
			res, err := two.RoundTrip(r)
			if err != nil {
				t.Fatalf("%s: %v", c.Transport, err)
			}
			if b, _ := io.ReadAll(res.Body); string(b) != "order" {
				t.Errorf("%s: %q", c.Transport, b)
			}
			_ = res.Body.Close()
		}
	}
}
