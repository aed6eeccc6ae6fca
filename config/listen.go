package config

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// TLS names the certificate of the public listener.
type TLS struct {
	// The certificate and its chain, as a PEM file.
	//
	// Required.
	CertFile string `yaml:"cert_file" rule:"required"`

	// The private key that belongs to the certificate, as a PEM file.
	//
	// Required.
	KeyFile string `yaml:"key_file" rule:"required"`
}

func (t TLS) check(a at) {
	if t.CertFile == "" {
		a.key("cert_file").say("is missing", "name the PEM file of the certificate")
	}
	if t.KeyFile == "" {
		a.key("key_file").say("is missing", "name the PEM file of the private key")
	}
	if t.CertFile == "" || t.KeyFile == "" {
		return
	}
	_, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	var file *fs.PathError
	switch {
	case errors.As(err, &file) && file.Path == t.CertFile:
		a.key("cert_file").say("cannot be read", "name a PEM file that this user may read")
	case errors.As(err, &file):
		a.key("key_file").say("cannot be read", "name a PEM file that this user may read")
	case err != nil:
		a.say("holds no certificate with its key", "give two PEM files that belong together")
	}
}

// Admin is the operator's listener: `/healthz`, `/readyz`, and `/api/` for sessions and keys (docs/admin.md).
type Admin struct {
	// The address of the operator's listener, `host:port`; `""` means none. It must not be reachable by the public:
	// an address outside of loopback needs a token.
	//
	// Default: `127.0.0.1:9080`; a program that embeds Cloakroom serves `Handler.Admin()` itself
	Listen string `yaml:"listen"`

	// What requests to `/api/` present as bearer token, at least 16 characters. `/healthz` and `/readyz` are open without
	// it.
	//
	// Default: one is made at start and kept in a 0600 file, beside the database of a `file:` store (`PATH.admin-token`),
	// else beside this file; a program that embeds Cloakroom has no `/api/` without one
	Token Secret `yaml:"token"`

	// The host names by which the operator's listener is reached, without port, besides addresses and `localhost`. A
	// request to `/api/` by any other name gets 421, so that no web page can make a name of its own lead there.
	//
	// Default: `[]`
	Hosts []string `yaml:"hosts"`
}

// minToken is how long a bearer token is that nobody guesses.
const minToken = 16

func (s Admin) check(a at, public string) {
	if !s.Token.Empty() && len(s.Token.Reveal()) < minToken {
		a.key("token").say("is short enough to be guessed", "write at least 16 characters by chance, or leave it out")
	}
	for i, host := range s.Hosts {
		if !validHost(host) {
			a.key("hosts").item(i).say("is no host name", "write a name without scheme and port, like admin.example.com")
		}
	}
	if s.Listen == "" {
		return
	}
	checkListen(a.key("listen"), s.Listen)
	host, port, ok := splitListen(s.Listen)
	if !ok {
		return
	}
	if publicHost, publicPort, ok := splitListen(public); ok && port != 0 && port == publicPort && overlaps(host, publicHost) {
		a.key("listen").say("is the public listener's address, too", "give it a port of its own")
	}
	if !loopbackHost(host) && s.Token.Empty() {
		a.key("listen").say("can be reached from outside without a token", "listen on 127.0.0.1 or set admin.token")
	}
}

func checkListen(a at, address string) {
	if address == "" {
		return
	}
	if _, _, ok := splitListen(address); !ok {
		a.say("is no address to listen on", "write host:port or :port")
	}
}

// splitListen takes an address to listen on apart. The host may be empty.
func splitListen(address string) (host string, port int, ok bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, false
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host != "" && !validHost(host) {
		return "", 0, false
	}
	return strings.ToLower(host), int(number), true
}

// overlaps reports whether two listeners on these hosts would take the same port from each other.
func overlaps(a, b string) bool {
	return everyAddress(a) || everyAddress(b) || a == b || loopbackHost(a) && loopbackHost(b)
}

func everyAddress(host string) bool {
	if host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// reaches reports whether a request to host:port on this machine would come to the listener itself.
func reaches(listen, host string, port int) bool {
	at, atPort, ok := splitListen(listen)
	if !ok || port != atPort {
		return false
	}
	if everyAddress(at) {
		return loopbackHost(host) || everyAddress(host)
	}
	return at == host || loopbackHost(at) && loopbackHost(host)
}
