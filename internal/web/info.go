package web

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Info is what is known of a request before anything is decided. One is made per request and filled as it passes;
// the request event is written from it.
type Info struct {
	ID     string     // request id, made by us
	Client netip.Addr // the client's address, behind the trusted proxies
	Scheme string     // http or https, as the client used it
	Host   string     // as the client used it, lower case

	Proxied bool // a trusted proxy said what the scheme was

	// Handoff is what a room hands to its own later step of the same request, where only the request goes along.
	Handoff any

	clientText string

	Route   string // filled when a route was matched
	Session string // filled with the session's handle
	Code    string // filled with a problem's code
	Cause   error  // filled with a problem's cause
}

// ClientText is the client's address as text.
func (i *Info) ClientText() string {
	if i.clientText == "" {
		i.clientText = i.Client.String()
	}
	return i.clientText
}

type infoKey struct{}

// WithInfo hands the info on with the request.
func WithInfo(r *http.Request, info *Info) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), infoKey{}, info))
}

// InfoOf returns the request's info, or nil outside of a Handler.
func InfoOf(r *http.Request) *Info { return InfoFrom(r.Context()) }

// InfoFrom returns the info that a context carries, or nil.
func InfoFrom(ctx context.Context) *Info {
	info, _ := ctx.Value(infoKey{}).(*Info)
	return info
}

// NewInfo reads address, scheme and host. Forwarding headers are believed only from trusted peers: nobody by
// default. From the right of X-Forwarded-For the first address that is not a trusted proxy is the client.
func NewInfo(r *http.Request, trusted []netip.Prefix) *Info {
	info := &Info{ID: requestID(), Scheme: "http", Host: strings.ToLower(r.Host), Client: peer(r.RemoteAddr)}
	if r.TLS != nil {
		info.Scheme = "https"
	}
	if len(trusted) == 0 || !contains(trusted, info.Client) {
		return info
	}
	hops, proto, host := forwarded(r.Header)
	if proto == "http" || proto == "https" {
		info.Scheme, info.Proxied = proto, true
	}
	if host != "" {
		info.Host = strings.ToLower(host)
	}
	for _, hop := range slices.Backward(hops) {
		addr, ok := parseHop(hop)
		if !ok {
			break
		}
		info.Client = addr
		if !contains(trusted, addr) {
			break
		}
	}
	return info
}

// forwarded returns the hops (left to right), scheme and host that the nearest proxy says: the X-Forwarded-*
// headers, or the last element of Forwarded (RFC 7239) when there are none.
func forwarded(h http.Header) (hops []string, proto, host string) {
	if v := h.Values("X-Forwarded-For"); len(v) > 0 || h.Get("X-Forwarded-Proto") != "" {
		for _, line := range v {
			hops = append(hops, strings.Split(line, ",")...)
		}
		return hops, strings.ToLower(last(h.Values("X-Forwarded-Proto"))), last(h.Values("X-Forwarded-Host"))
	}
	for _, line := range h.Values("Forwarded") {
		for element := range strings.SplitSeq(line, ",") {
			proto, host = "", ""
			for pair := range strings.SplitSeq(element, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
				value = strings.Trim(value, `"`)
				switch strings.ToLower(name) {
				case "for":
					hops = append(hops, value)
				case "proto":
					proto = strings.ToLower(value)
				case "host":
					host = value
				}
			}
		}
	}
	return hops, proto, host
}

func last(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	line := lines[len(lines)-1]
	if i := strings.LastIndexByte(line, ','); i >= 0 {
		line = line[i+1:]
	}
	return strings.TrimSpace(line)
}

func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap(), err == nil
}

func peer(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// requestID names a request in logs and problems. It opens nothing, so that it need not be hard to guess, only not to
// come twice.
func requestID() string {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())  //nolint:gosec // see above
	binary.LittleEndian.PutUint32(b[8:], rand.Uint32()) //nolint:gosec // see above
	var text [16]byte
	base64.RawURLEncoding.Encode(text[:], b[:])
	return string(text[:])
}
