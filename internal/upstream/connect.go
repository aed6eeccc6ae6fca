package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/lean"
)

// transport is what sends requests over connections that it keeps.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// keepAlive is how often TCP looks whether the other side is still there. HTTP/2 asks by itself, as soon as nothing was
// heard for pingAfter, and gives the connection up after pingTime.
const (
	keepAlive = 30 * time.Second
	pingAfter = 15 * time.Second
	pingTime  = 15 * time.Second
)

// notSent is why no connection was made: nothing of the request was written anywhere.
type notSent struct{ cause error }

func (e *notSent) Error() string { return e.cause.Error() }
func (e *notSent) Unwrap() error { return e.cause }

// dialer makes the connections to one address.
type dialer struct {
	open      dial
	target    config.UpstreamURL
	handshake time.Duration
	security  *tls.Config
}

// plain connects.
func (d *dialer) plain(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := d.open(ctx, d.target.Network, d.target.Address)
	if err != nil {
		return nil, &notSent{err}
	}
	return conn, nil
}

// secured returns what connects with TLS and one of these protocols.
func (d *dialer) secured(protocols ...string) dial {
	c := d.security.Clone()
	c.NextProtos = protocols
	if c.ServerName == "" {
		c.ServerName = d.target.Hostname()
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		raw, err := d.plain(ctx, "", "")
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, c)
		limited, cancel := context.WithTimeout(ctx, d.handshake)
		defer cancel()
		if err := conn.HandshakeContext(limited); err != nil {
			_ = raw.Close()
			return nil, &notSent{fmt.Errorf("TLS: %w", err)}
		}
		return conn, nil
	}
}

// newSecurity reads what TLS needs.
func newSecurity(c config.Connection) (*tls.Config, error) {
	security := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		security.RootCAs = x509.NewCertPool()
		if !security.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca_file: no certificate of an authority in it")
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: %w", err)
		}
		security.Certificates = []tls.Certificate{pair}
	}
	return security, nil
}

func newMember(target config.UpstreamURL, c config.Connection, security *tls.Config) *member {
	m := &member{target: target, name: target.String(), scheme: "http"}
	if target.TLS {
		m.scheme = "https"
	}
	d := newDialer(target, c, security)
	leanly := c.Transport == "lean"
	if c.Transport == "auto" {
		leanly = lean.SeesClosed && !target.TLS && !target.HTTP2
	}
	if leanly {
		m.main = d.lean(c)
		m.upgrade = m.main
		return m
	}
	d.open = paced(d.open) // the lean transport paces itself
	switch {
	case target.TLS:
		m.main, m.upgrade = d.standard(c, both), d.standard(c, http1)
	case target.HTTP2:
		m.main, m.upgrade = d.standard(c, http2), d.standard(c, http1)
	default:
		m.main = d.standard(c, http1)
		m.upgrade = m.main
	}
	return m
}

func newDialer(target config.UpstreamURL, c config.Connection, security *tls.Config) *dialer {
	tcp := &net.Dialer{Timeout: c.ConnectTimeout.Std(), KeepAlive: keepAlive}
	return &dialer{open: tcp.DialContext, target: target, handshake: c.TLSTimeout.Std(), security: security}
}

// protocols are what a transport may speak.
type protocols int

const (
	http1 protocols = iota // HTTP/1.1 alone
	http2                  // HTTP/2 alone, without TLS
	both                   // HTTP/2 or HTTP/1.1, as the TLS handshake decides
)

// standard is Go's own transport. It dials by itself, so that TLS failures are known as such.
func (d *dialer) standard(c config.Connection, speak protocols) *http.Transport {
	t := &http.Transport{
		DialContext: d.plain, ResponseHeaderTimeout: c.ResponseTimeout.Std(), ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost: int(c.MaxIdle), MaxConnsPerHost: int(c.MaxConnections), IdleConnTimeout: c.IdleTimeout.Std(),
		DisableCompression: true, MaxResponseHeaderBytes: 256 << 10, WriteBufferSize: 8 << 10, ReadBufferSize: 8 << 10,
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTime},
	}
	alpn := []string{"http/1.1"}
	switch speak {
	case http1:
		t.Protocols.SetHTTP1(true)
	case http2:
		t.Protocols.SetUnencryptedHTTP2(true)
	case both:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
		alpn = []string{"h2", "http/1.1"}
	}
	if d.target.TLS {
		t.DialTLSContext = d.secured(alpn...)
	}
	return t
}

// lean is the transport of ours, for HTTP/1.1.
func (d *dialer) lean(c config.Connection) *lean.Transport {
	connect := d.plain
	if d.target.TLS {
		connect = d.secured("http/1.1")
	}
	return lean.New(lean.Options{
		Dial:        func(ctx context.Context) (net.Conn, error) { return connect(ctx, "", "") },
		DialTimeout: c.ConnectTimeout.Std() + c.TLSTimeout.Std(), ResponseHeaderTimeout: c.ResponseTimeout.Std(),
		ExpectContinueTimeout: time.Second, IdleTimeout: c.IdleTimeout.Std(), MaxIdle: int(c.MaxIdle), MaxConns: int(c.MaxConnections),
	})
}

// Probe connects to an address, with the TLS handshake, and hangs up.
func Probe(ctx context.Context, address string, c config.Connection) error {
	target, err := config.ParseUpstream(address)
	if err != nil {
		return err
	}
	security, err := newSecurity(c)
	if err != nil {
		return err
	}
	d := newDialer(target, c, security)
	connect := d.plain
	if target.TLS {
		connect = d.secured("h2", "http/1.1")
	}
	conn, err := connect(ctx, "", "")
	if err != nil {
		return err
	}
	return conn.Close()
}
