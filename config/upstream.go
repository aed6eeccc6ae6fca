package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Connection is how the addresses of an upstream are connected to. Routes with the same addresses and the same
// settings share their connections.
type Connection struct {
	// What sends the requests: `lean` = a client of ours for HTTP/1.1 alone that costs less per request; `standard` = Go's
	// own HTTP client, for HTTP/1.1 and HTTP/2; `auto` = `lean` to addresses with `http:` or `unix:`, `standard` to all
	// others, and to all on Windows. docs/upstreams.md says more.
	//
	// Default: `auto`
	Transport string `yaml:"transport" words:"auto lean standard"`

	// How long connecting to an address may take. After that the request is tried at another address, or answered 504.
	//
	// Default: `5s`
	ConnectTimeout Duration `yaml:"connect_timeout" rule:"set"`

	// How long the TLS handshake may take on top of that.
	//
	// Default: `5s`
	TLSTimeout Duration `yaml:"tls_timeout" rule:"set"`

	// How long the upstream may take from the end of the request to the first byte of its answer; `0s` is any time. After
	// that the answer is 504. The rest of the answer may take as long as it likes.
	//
	// Default: `60s`
	ResponseTimeout *Duration `yaml:"response_timeout"`

	// How long a connection that nobody uses is kept. The upstream's own limit should be longer: otherwise a request may
	// meet a connection that is just being closed, and one that cannot be repeated is lost.
	//
	// Default: `90s`
	IdleTimeout Duration `yaml:"idle_timeout" rule:"set"`

	// How many connections that nobody uses are kept, to each address. Fewer than requests run at a time at the busiest
	// moments means that many of them open a connection of their own.
	//
	// Default: `512`
	MaxIdle Count `yaml:"max_idle" rule:"set"`

	// How many connections to each address there may be; `0` is any number. Requests beyond that wait for one, as long as
	// their client does. With HTTP/2 many requests share a connection.
	//
	// Default: `0`
	MaxConnections Count `yaml:"max_connections"`

	// The authorities that may have signed the upstream's certificate, as a PEM file. They take the place of the system's.
	// Read at start.
	//
	// Default: `""`, those of the system
	CAFile string `yaml:"ca_file"`

	// The certificate, with its chain, that we show to the upstream (mTLS), as a PEM file. Read at start.
	//
	// Default: `""`, none
	CertFile string `yaml:"cert_file"`

	// The private key that belongs to the certificate, as a PEM file.
	//
	// Default: `""`
	KeyFile string `yaml:"key_file"`

	// The name that the upstream's certificate must have, and that is asked for in the handshake (SNI). The certificate is
	// always verified; there is no setting that skips it.
	//
	// Default: `""`, the host of the address
	ServerName string `yaml:"server_name"`

	// A request that asks each address whether it is well.
	//
	// Default: none; an address is known to be ill by the requests that fail there
	Health *Health `yaml:"health"`
}

// Health is how the addresses of an upstream are asked whether they are well. Any answer from 200 to 299 says so.
type Health struct {
	// The path to GET, with its query if it has one.
	//
	// Required.
	Path string `yaml:"path" rule:"required"`

	// How often each address is asked.
	//
	// Default: `10s`
	Interval Duration `yaml:"interval" rule:"set"`

	// How long the answer may take, connecting included. At most as long as the interval.
	//
	// Default: `2s`
	Timeout Duration `yaml:"timeout" rule:"set"`

	// How many times in a row an address must fail to be left out. When all addresses fail, all are used.
	//
	// Default: `3`
	UnhealthyAfter Count `yaml:"unhealthy_after" rule:"set"`

	// How many times in a row it must answer well to be used again.
	//
	// Default: `2`
	HealthyAfter Count `yaml:"healthy_after" rule:"set"`
}

// Addresses are the addresses of the route's upstream, none for files.
func (r Route) Addresses() []string {
	if r.Upstream != "" {
		return append([]string{r.Upstream}, r.Upstreams...)
	}
	return r.Upstreams
}

// forRoute is a copy with its defaults: always one where there is an upstream, none where none was written otherwise.
func (c *Connection) forRoute(upstream bool) *Connection {
	if c == nil && !upstream {
		return nil
	}
	return new(c.WithDefaults())
}

// WithDefaults is a copy in which everything left out has its default. It may be called on nil.
func (c *Connection) WithDefaults() Connection {
	var full Connection
	if c != nil {
		full = *c
	}
	orDefault(&full.Transport, "auto")
	orDefault(&full.ConnectTimeout, Duration(5*time.Second))
	orDefault(&full.TLSTimeout, Duration(5*time.Second))
	full.ResponseTimeout = clonePointer(full.ResponseTimeout)
	orDefault(&full.ResponseTimeout, new(Duration(60*time.Second)))
	orDefault(&full.IdleTimeout, Duration(90*time.Second))
	orDefault(&full.MaxIdle, 512)
	if full.Health = clonePointer(full.Health); full.Health != nil {
		orDefault(&full.Health.Interval, Duration(10*time.Second))
		orDefault(&full.Health.Timeout, min(full.Health.Interval, Duration(2*time.Second)))
		orDefault(&full.Health.UnhealthyAfter, 3)
		orDefault(&full.Health.HealthyAfter, 2)
	}
	return full
}

// UpstreamURL is an address of an upstream, taken apart.
type UpstreamURL struct {
	// Network and Address are what to dial: "tcp" with host:port, or "unix" with the socket's path.
	Network, Address string
	// Host is what the upstream sees as Host: host and port as they were written, "localhost" for a socket.
	Host string
	// Path comes before the path of every request, escaped as it was written, without a slash at its end.
	Path string
	// TLS and HTTP2 (without TLS) are how it is spoken to.
	TLS, HTTP2 bool
}

// String is the address as it may be configured, without its path.
func (u UpstreamURL) String() string {
	switch {
	case u.Network == "unix" && u.HTTP2:
		return "unix+h2c:" + u.Address
	case u.Network == "unix":
		return "unix:" + u.Address
	case u.TLS:
		return "https://" + u.Host
	case u.HTTP2:
		return "h2c://" + u.Host
	}
	return "http://" + u.Host
}

// Hostname is the host without its port.
func (u UpstreamURL) Hostname() string {
	if u.Network == "unix" {
		return u.Host
	}
	return (&url.URL{Host: u.Host}).Hostname()
}

// maxSocketPath is what fits into a Unix socket's address on Linux.
const maxSocketPath = 107

// ParseUpstream takes an address of an upstream apart. The error quotes nothing of it.
func ParseUpstream(address string) (UpstreamURL, error) {
	u, f := parseUpstream(address)
	if f != nil {
		return UpstreamURL{}, errors.New("the upstream's address " + f.problem)
	}
	return u, nil
}

func parseUpstream(address string) (UpstreamURL, *fault) {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" || !slices.Contains([]string{"http", "https", "h2c", "unix", "unix+h2c"}, u.Scheme) {
		return UpstreamURL{}, &fault{"is no http, https, h2c, unix or unix+h2c URL", "write it like http://127.0.0.1:3000 or unix:/run/api.sock"}
	}
	socket := strings.HasPrefix(u.Scheme, "unix")
	switch {
	case u.User != nil:
		return UpstreamURL{}, &fault{"holds a user name or password", "leave it out: nothing would send it"}
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return UpstreamURL{}, &fault{"has a query or fragment", "write only scheme, host, port and path"}
	case socket && (u.Host != "" || len(u.Path) < 2 || len(u.Path) > maxSocketPath || strings.ContainsFunc(u.Path, isControl)):
		return UpstreamURL{}, &fault{"has no valid path of a socket", "write its whole path, at most 107 bytes, like unix:/run/api.sock"}
	case socket:
		return UpstreamURL{Network: "unix", Address: u.Path, Host: "localhost", HTTP2: u.Scheme == "unix+h2c"}, nil
	case !validHost(u.Hostname()) || !validPort(u):
		return UpstreamURL{}, &fault{"has no valid host and port", "write it like http://127.0.0.1:3000"}
	}
	port := u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	found := UpstreamURL{Network: "tcp", Host: u.Host, Path: strings.TrimSuffix(u.EscapedPath(), "/"), TLS: u.Scheme == "https", HTTP2: u.Scheme == "h2c"}
	found.Address = strings.ToLower(u.Hostname()) + ":" + port
	if strings.Contains(u.Hostname(), ":") {
		found.Address = "[" + strings.ToLower(u.Hostname()) + "]:" + port
	}
	return found, nil
}

// checkUpstreams checks the addresses, and what is said about connecting to them.
func (r Route) checkUpstreams(a at, c Config) {
	if r.Upstream != "" {
		u := checkUpstream(a.key("upstream"), r.Upstream, c)
		r.Connection.check(a.key("connection"), u)
		return
	}
	var all []UpstreamURL
	for i, address := range r.Upstreams {
		item := a.key("upstreams").item(i)
		found := checkUpstream(item, address, c)
		for _, u := range found {
			switch {
			case slices.ContainsFunc(all, func(o UpstreamURL) bool { return o.Network == u.Network && o.Address == u.Address }):
				item.say("is an earlier address, too", "write each address once")
			case len(all) > 0 && all[0].Path != u.Path:
				item.say("has another path than the first address", "give all addresses of a route the same path: they are one service")
			}
		}
		all = append(all, found...)
	}
	r.Connection.check(a.key("connection"), all)
}

// checkUpstream refuses what is not an address, or is our own. It returns the address if it is one.
func checkUpstream(a at, upstream string, c Config) []UpstreamURL {
	u, f := parseUpstream(upstream)
	if f != nil {
		a.say(f.problem, f.mend)
		return nil
	}
	if u.Network == "unix" {
		if own, ok := c.Verify.Socket(); ok && own == u.Address {
			a.say("is the verify listener, which would become public", "name another address")
		}
		return []UpstreamURL{u}
	}
	host := strings.ToLower(u.Hostname())
	port := u.Address[strings.LastIndexByte(u.Address, ':')+1:]
	number, _ := strconv.Atoi(port) // validPort has read it
	switch {
	case reaches(c.Admin.Listen, host, number):
		a.say("is the admin listener, which would become public", "name another address")
	case reaches(c.Verify.Listen, host, number):
		a.say("is the verify listener, which would become public", "name another address")
	case reaches(c.Listen, host, number) || slices.ContainsFunc(c.Frontends, func(f Frontend) bool { return f.Secure() == u.TLS && isHost(f, host, port) }):
		a.say("is Cloakroom itself: a request would go in circles", "name the address of the API")
	}
	return []UpstreamURL{u}
}

// isHost reports whether host and port are where browsers find the frontend.
func isHost(f Frontend, host, port string) bool {
	u, err := url.Parse(f.URL)
	if err != nil || u.Hostname() != host {
		return false
	}
	return u.Port() == port || u.Port() == "" && port == defaultPort(u.Scheme)
}

const (
	maxConnectTime  = 5 * time.Minute
	maxIdleTime     = 24 * time.Hour
	maxHealthCounts = 100
)

func (c *Connection) check(a at, addresses []UpstreamURL) {
	for _, d := range []struct {
		name  string
		value Duration
		most  time.Duration
	}{{"connect_timeout", c.ConnectTimeout, maxConnectTime}, {"tls_timeout", c.TLSTimeout, maxConnectTime}, {"idle_timeout", c.IdleTimeout, maxIdleTime}} {
		if d.value <= 0 || d.value.Std() > d.most {
			a.key(d.name).say("is not above zero, or above "+Duration(d.most).String(), "write a duration like 5s")
		}
	}
	switch {
	case *c.ResponseTimeout < 0:
		a.key("response_timeout").say("is below zero", "write a duration like 60s, or 0s for any time")
	case c.MaxIdle < 0:
		a.key("max_idle").say("is below zero", "write a number like 512")
	case c.MaxConnections < 0:
		a.key("max_connections").say("is below zero", "write a number, or 0 for any")
	}
	if c.Transport == "lean" && slices.ContainsFunc(addresses, func(u UpstreamURL) bool { return u.HTTP2 }) {
		a.key("transport").say("is lean, which does not speak HTTP/2, but an address is h2c", "write standard, or leave it out")
	}
	c.checkTLS(a, slices.ContainsFunc(addresses, func(u UpstreamURL) bool { return u.TLS }) || len(addresses) == 0)
	c.Health.check(a.key("health"))
}

func (c *Connection) checkTLS(a at, secure bool) {
	for _, f := range []struct{ name, value string }{
		{"ca_file", c.CAFile}, {"cert_file", c.CertFile}, {"key_file", c.KeyFile}, {"server_name", c.ServerName},
	} {
		if f.value != "" && !secure {
			a.key(f.name).say("is for TLS, but no address of this route is https", "write https://, or leave it out")
			return
		}
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		switch {
		case err != nil:
			a.key("ca_file").say("cannot be read", "name a PEM file that this user may read")
		case !x509.NewCertPool().AppendCertsFromPEM(pem):
			a.key("ca_file").say("holds no certificate of an authority", "name the PEM file of the upstream's authority")
		}
	}
	if c.ServerName != "" && !validHost(c.ServerName) {
		a.key("server_name").say("is no name that a certificate has", "write a host name without scheme and port, like api.example.com")
	}
	switch {
	case c.CertFile == "" && c.KeyFile == "":
		return
	case c.CertFile == "":
		a.key("key_file").say("stands without cert_file", "name the PEM file of the certificate, too")
		return
	case c.KeyFile == "":
		a.key("cert_file").say("stands without key_file", "name the PEM file of the private key, too")
		return
	}
	_, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	var file *fs.PathError
	switch {
	case errors.As(err, &file) && file.Path == c.CertFile:
		a.key("cert_file").say("cannot be read", "name a PEM file that this user may read")
	case errors.As(err, &file):
		a.key("key_file").say("cannot be read", "name a PEM file that this user may read")
	case err != nil:
		a.key("cert_file").say("holds no certificate that belongs to key_file", "give two PEM files that belong together")
	}
}

func (h *Health) check(a at) {
	if h == nil {
		return
	}
	switch {
	case h.Path == "":
		a.key("path").say("is missing", "write the path that says whether the service is well, like /healthz")
	case h.Path[0] != '/' || strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' || r == '\\' }):
		a.key("path").say("is no path to ask for", "write it escaped and from the root, like /healthz")
	}
	switch {
	case h.Interval.Std() < time.Second || h.Interval.Std() > time.Hour:
		a.key("interval").say("is below a second or above an hour", "write a duration like 10s")
	case h.Timeout <= 0 || h.Timeout > h.Interval:
		a.key("timeout").say("is not above zero, or above the interval", "write a duration like 2s")
	}
	for _, n := range []struct {
		name  string
		value Count
	}{{"unhealthy_after", h.UnhealthyAfter}, {"healthy_after", h.HealthyAfter}} {
		if n.value < 1 || n.value > maxHealthCounts {
			a.key(n.name).say("is not a number from 1 to 100", "write how many checks in a row it takes, like 3")
		}
	}
}
