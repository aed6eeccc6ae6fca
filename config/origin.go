package config

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// origin is scheme, host and port as a browser writes them.
type origin struct {
	host     string // without port
	hostPort string // the port only if it is not the scheme's own
	secure   bool
}

// fault is what is wrong with a value, before it has a place.
type fault struct{ problem, mend string }

// parseOrigin accepts exactly what a browser sends as Origin: anything else would never be equal to it.
func parseOrigin(s string) (origin, *fault) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return origin{}, &fault{"is no origin", "write scheme and host, like https://app.example.com"}
	case u.Scheme != "https" && u.Scheme != "http":
		return origin{}, &fault{"is neither https nor http", "write https://, or http:// on localhost"}
	case u.User != nil:
		return origin{}, &fault{"holds a user name or password", "write only scheme, host and port"}
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return origin{}, &fault{"is more than an origin", "leave out everything after the host and port, the slash too"}
	}
	host := u.Hostname()
	o := origin{host: host, hostPort: u.Host, secure: u.Scheme == "https"}
	switch {
	case !validHost(host) || !validPort(u):
		return origin{}, &fault{"has no valid host and port", "write the host in ASCII (international names as xn--…) and a port up to 65535"}
	case strings.ToLower(s) != s:
		return origin{}, &fault{"is not in lower case", "write it as the browser does, in lower case"}
	case u.Port() == defaultPort(u.Scheme):
		return origin{}, &fault{"names the scheme's own port", "leave the port out, as browsers do"}
	case !o.secure && !loopbackHost(host):
		return origin{}, &fault{"is plain http outside of this machine: anyone on the way could take the ticket", "write https://"}
	}
	return o, nil
}

// sameSite reports whether browsers count two origins as one site, as far as that can be told without the list of
// public suffixes: the same scheme, and the same host or a common parent domain of two labels.
func (o origin) sameSite(other origin) bool {
	if o.secure != other.secure {
		return false
	}
	if o.host == other.host || loopbackHost(o.host) && loopbackHost(other.host) {
		return true
	}
	if isAddress(o.host) || isAddress(other.host) {
		return false
	}
	a, b := strings.Split(o.host, "."), strings.Split(other.host, ".")
	return len(a) > 1 && len(b) > 1 && a[len(a)-1] == b[len(b)-1] && a[len(a)-2] == b[len(b)-2]
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// loopbackHost reports whether a host can only be this machine: localhost, *.localhost (RFC 6761), 127.0.0.0/8, ::1.
func loopbackHost(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// validHost reports whether host is an IP address without zone, or a DNS name in ASCII.
func validHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == ""
	}
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return !isHostRune(r) }) {
			return false
		}
	}
	return true
}

func isHostRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// validPort reports whether the port, if there is one, is a number that a listener can have.
func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0 && u.Port()[0] != '0'
}
