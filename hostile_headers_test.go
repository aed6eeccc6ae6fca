package cloakroom_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// planted is what a client plants where only Cloakroom may write.
const planted = "evil-canary"

// identity are the headers that tell an upstream who asks, from where, or what for.
var identity = []string{
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Forwarded-Method",
	"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
	"X-Forwarded-Client-Cert", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded", "Forwarded", "X-Original-Forwarded-For",
	"X-Real-IP", "X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Original-Host", "X-Rewrite-Url", "X-HTTP-Method", "X-HTTP-Method-Override",
	"X-Method-Override", "X-Auth-User", "X-Auth-Request-User", "X-Auth-Request-Access-Token", "X-Auth-Request-Groups", "X-User", "X-User-Id", "X-Username",
	"X-Email", "X-Groups", "X-Roles", "X-Remote-User", "Remote-User", "Remote-Groups", "Remote-Email", "X-WEBAUTH-USER", "X-SSL-Client-Verify",
	"SSL-Client-Verify", "X-Client-Cert", "X-Authenticated-Userid", "X-Amzn-Oidc-Identity", "X-Goog-Authenticated-User-Email", "X-Goog-IAP-JWT-Assertion",
	"X-MS-CLIENT-PRINCIPAL-NAME", "Cf-Access-Jwt-Assertion", "Tailscale-User-Login", "X-Pomerium-Jwt-Assertion", "X-Consumer-Username", "X-Cloakroom",
	"X-Cloakroom-Passive", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "X-Host", "Front-End-Https", "Proxy",
	"X-Envoy-Original-Path", "X-Middleware-Subrequest", "X-Forwarded-" + strings.Repeat("Very-", 14) + "Long", "Authorization", "DPoP", "Proxy-Authorization", "Cookie2",
}

// spellings are the ways to write a header so that something reads it as another.
func spellings(name string) []string {
	lines := []string{
		name + ": " + planted, strings.ToLower(name) + ":" + planted, strings.ToUpper(name) + ":\t" + planted,
		name + ": a\r\n" + name + ": " + planted, name + ": " + planted + "\r\nConnection: close, " + name, "Connection: " + name + "\r\n" + name + ": " + planted,
		name + " : " + planted, name + "\t: " + planted, " " + name + ": " + planted, "X-A: b\r\n " + name + ": " + planted, "X-A: b\r\n\t" + name + ": " + planted,
		name + ": a\r\n " + planted, name + ": " + planted + "\r", "\r" + name + ": " + planted, name + "\x00: " + planted, name + ": \x00" + planted, name + ":\v" + planted,
		name + "\xe9: " + planted, name + ": \xff" + planted, name + "\x0b: " + planted, "X-A: b\n" + name + ": " + planted, "X-A: b\r" + name + ": " + planted,
		"Trailer: " + name + "\r\n" + name + ": " + planted,
	}
	for _, c := range "_.!#$%&'*+^`|~" {
		if strings.Contains(name, "-") {
			lines = append(lines, strings.ReplaceAll(name, "-", string(c))+": "+planted, strings.Replace(name, "-", string(c), 1)+": "+planted)
		}
	}
	return lines
}

func TestHostileHeaders(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		forwarded, refused := 0, 0
		for _, target := range []string{"/admin/x", "/public/x"} {
			k := h.talker()
			for _, name := range identity {
				if target == "/public/x" && (name == "Authorization" || name == "DPoP") {
					continue // a route without a session leaves the client's own credentials alone
				}
				for _, line := range spellings(name) {
					res, _ := k.say("GET " + target + " HTTP/1.1\r\nHost: " + h.host + "\r\nCookie: " + h.ticket + "; theirs=1\r\nSec-Fetch-Site: same-origin\r\n" + line + "\r\n\r\n")
					got, bad := h.up.take()
					for _, raw := range append(got, bad...) {
						folded := strings.Contains(line, "X-A: b\r\n") || strings.Contains(line, "X-A: b\n") || strings.HasPrefix(line, " ")
						if strings.Contains(raw, planted) && (!folded || !plainFold(raw)) {
							t.Errorf("%q reached the upstream: %q", line, raw)
						}
						if strings.Contains(raw, h.ticket) || len(bad) > 0 {
							t.Errorf("%q: %q", line, raw)
						}
					}
					switch {
					case res == nil:
						t.Errorf("%q: no answer", line)
					case len(got) == 1 && res.StatusCode == 200:
						forwarded++
					case len(got) == 0 && slices.Contains(refusals, res.StatusCode):
						refused++
					default:
						t.Errorf("%q: %d, %d requests reached the upstream", line, res.StatusCode, len(got))
					}
				}
			}
		}
		if forwarded < 1000 || refused < 1000 {
			t.Errorf("%d forwarded, %d refused: this tests nothing", forwarded, refused)
		}
		t.Logf("%d forwarded, %d refused", forwarded, refused)
	})
}

// plainFold reports whether the planted value stands in the value of the harmless field that a folded or bare line
// belongs to, and in no line of its own.
func plainFold(raw string) bool {
	for line := range strings.SplitSeq(raw, "\r\n") {
		if strings.Contains(line, planted) && !strings.HasPrefix(line, "X-A: b ") {
			return false
		}
	}
	return true
}

// TestHostileFraming sends what two servers could cut into requests in two ways. Whatever is answered, the upstream
// sees at most the one request that was meant.
func TestHostileFraming(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		smuggled := "GET /admin/smuggled HTTP/1.1\r\nHost: " + h.host + "\r\n\r\n"
		post := func(headers, body string) string {
			return "POST /public/x HTTP/1.1\r\nHost: " + h.host + "\r\n" + headers + "\r\n" + body
		}
		cl := fmt.Sprint(len("0\r\n\r\n" + smuggled))
		requests := map[string]string{}
		for _, te := range []string{
			"xchunked", "chunked, identity", "identity, chunked", "identity", "chunked, chunked", "gzip, chunked", "chunked;q=1", `"chunked"`, "chunked\x00", "chunked\x0b",
			"\x0bchunked", "chunked\r", "CHUNKED ", "\tchunked", "chunked,", ",chunked", "", "chunKed\xe9",
		} {
			for _, length := range []string{"", "Content-Length: " + cl + "\r\n", "Content-Length: 4\r\n"} {
				requests[fmt.Sprintf("te %q %q", te, length)] = post(length+"Transfer-Encoding: "+te+"\r\n", "0\r\n\r\n"+smuggled)
				requests[fmt.Sprintf("te after %q %q", te, length)] = post("Transfer-Encoding: "+te+"\r\n"+length, "0\r\n\r\n"+smuggled)
				requests[fmt.Sprintf("te twice %q %q", te, length)] = post("Transfer-Encoding: chunked\r\n"+length+"Transfer-Encoding: "+te+"\r\n", "0\r\n\r\n"+smuggled)
				requests[fmt.Sprintf("te spaced %q %q", te, length)] = post("Transfer-Encoding : "+te+"\r\n"+length, "0\r\n\r\n"+smuggled)
				requests[fmt.Sprintf("te underscore %q %q", te, length)] = post("Transfer_Encoding: "+te+"\r\n"+length, "0\r\n\r\n"+smuggled)
				requests[fmt.Sprintf("te folded %q %q", te, length)] = post("Transfer-Encoding:\r\n "+te+"\r\n"+length, "0\r\n\r\n"+smuggled)
			}
		}
		for _, length := range []string{
			"+4", "-4", "4, 4", "4,5", "4\r\nContent-Length: 5", "4\r\nContent-Length: 4", "0x4", "4 ", " 4", "4;", "4.0", "4e0", "٤", "99999999999999999999", "4\x00", "4\x0b", "", "4_", "04", "\x0b4",
			"4\r\nContent_Length: 99", "4\r\nContent-Length : 5",
		} {
			requests["length "+length] = post("Content-Length: "+length+"\r\n", "abcd"+smuggled)
		}
		for _, chunk := range []string{
			"4;x=y\r\nabcd\r\n0\r\n\r\n", "4 ;x\r\nabcd\r\n0\r\n\r\n", "4;\n\r\nabcd\r\n0\r\n\r\n", "4\nabcd\n0\n\n", "4\r\nabcdX\r\n0\r\n\r\n", "4\r\nabcd0\r\n\r\n", "+4\r\nabcd\r\n0\r\n\r\n",
			"0x4\r\nabcd\r\n0\r\n\r\n", "4_\r\nabcd\r\n0\r\n\r\n", "-4\r\nabcd\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFFF\r\nabcd\r\n0\r\n\r\n", "00000000000000004\r\nabcd\r\n0\r\n\r\n", "4\r\nabcd\r\n0\r\nX: y\r\n\r\n",
			"4\r\nabcd\r\n0\nX: y\n\n", "4\r\nabcd\r\n 0\r\n\r\n", "4\r\nabcd\r\n0 \r\n\r\n", "4;x=\"\r\n\"\r\nabcd\r\n0\r\n\r\n", "\r\n4\r\nabcd\r\n0\r\n\r\n", "4\r\r\nabcd\r\n0\r\n\r\n",
		} {
			requests["chunk "+chunk] = post("Transfer-Encoding: chunked\r\n", chunk+smuggled)
		}
		for _, host := range []string{
			"\r\nHost: evil.example", "", "@evil.example", ":80", "/admin", "?x", "#x", ".", " evil.example", "\x00", "\xff", ",evil.example", "\t.evil.example", "\r\nHost: " + h.host,
			"\r\n evil.example", "%00.evil.example", ":99999", "\\@evil.example",
		} {
			requests["host "+host] = "GET /public/x HTTP/1.1\r\nHost: " + h.host + host + "\r\n\r\n"
			requests["host before "+host] = "GET /public/x HTTP/1.1\r\nHost: evil.example" + host + "\r\nHost: " + h.host + "\r\n\r\n"
		}
		for _, first := range []string{
			"GET  /public/x HTTP/1.1", "GET /public/x  HTTP/1.1", "GET\t/public/x HTTP/1.1", "GET /public/x HTTP/1.1 ", " GET /public/x HTTP/1.1", "GET /public/x HTTP/1.0", "GET /public/x HTTP/0.9",
			"GET /public/x", "GET /public/x HTTP/2.0", "GET /public/x HTTP/1.2", "GET /public/x http/1.1", "GET /public/x HTTP/1.10", "G\x00T /public/x HTTP/1.1", "G(T /public/x HTTP/1.1", "GET /public/x HTTP/+1.1",
			"get /public/x HTTP/1.1", "CONNECT /public/x HTTP/1.1", "CONNECT " + h.host + " HTTP/1.1", "TRACE /public/x HTTP/1.1", "PRI * HTTP/2.0", "\r\nGET /public/x HTTP/1.1", "GET /public/x HTTP/1.1\r",
			"GET /public/x\x00 HTTP/1.1", "G\xc3\x89T /public/x HTTP/1.1", strings.Repeat("A", 100) + " /public/x HTTP/1.1",
		} {
			requests["line "+first] = first + "\r\nHost: " + h.host + "\r\n\r\n"
		}
		many := strings.Builder{}
		for i := range 1000 {
			fmt.Fprintf(&many, "X-%d: y\r\n", i)
		}
		for name, headers := range map[string]string{
			"h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "upgrade unasked": "Upgrade: websocket\r\n", "upgrade x": "Connection: Upgrade\r\nUpgrade: x\r\n",
			"upgrade two": "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", "many": many.String(), "one of 30 kB": "X-A: " + strings.Repeat("a", 30<<10) + "\r\n",
			"one of 64 kB": "X-A: " + strings.Repeat("a", 64<<10) + "\r\n", "expect": "Expect: evil\r\n", "expect 100": "Expect: 100-continue\r\n", "no colon": "X-A\r\n", "no name": ": x\r\n",
			"connection everything": "Connection: Host, Content-Length, Transfer-Encoding, Cookie, X-Forwarded-For, Authorization, Te, :path\r\n", "te": "TE: trailers, chunked\r\n",
		} {
			requests["header "+name] = "GET /public/x HTTP/1.1\r\nHost: " + h.host + "\r\n" + headers + "\r\n"
		}
		var wg sync.WaitGroup
		slots := make(chan struct{}, 64)
		for name, raw := range requests {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				for _, status := range h.shout(raw) {
					if status >= 500 && status != 501 && status != 505 {
						t.Errorf("%s: %d", name, status)
					}
				}
			})
		}
		wg.Wait()
		got, bad := h.up.take()
		if len(bad) > 0 {
			t.Errorf("the upstream was sent what is no request: %q", bad)
		}
		forwarded := 0
		for _, one := range got {
			head, _, _ := strings.Cut(one, "\r\n\r\n")
			first, _, _ := strings.Cut(head, "\r\n")
			if strings.Contains(first, "/admin/") || strings.Contains(head, "evil.example") {
				t.Errorf("%q reached the upstream", one)
			}
			for line := range strings.SplitSeq(strings.ToLower(head), "\r\n") {
				name, value, _ := strings.Cut(line, ":")
				if name == "upgrade" || name == "http2-settings" || strings.ReplaceAll(name, "_", "-") == "transfer-encoding" && (name != "transfer-encoding" || value != " chunked") || name == "content_length" {
					t.Errorf("%q: %q", line, one)
				}
			}
			forwarded++
		}
		if forwarded < 10 {
			t.Errorf("%d forwarded: this tests nothing", forwarded)
		}
		t.Logf("%d shapes, %d forwarded", len(requests), forwarded)
		if res, _ := h.talker().say("GET /public/x HTTP/1.1\r\nHost: " + h.host + "\r\n\r\n"); res == nil || res.StatusCode != 200 {
			t.Error("the server does not serve any more")
		}
	})
}

// shout writes bytes on a connection of their own and gives the statuses of what is answered to them before the client
// goes away.
func (h *hostileRig) shout(raw string) []int {
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Error(err)
		return nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = io.WriteString(c, raw)
	var statuses []int
	for r := bufio.NewReader(c); ; {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

// TestHostileTrailers: nothing that is taken out of a header comes back behind the body.
func TestHostileTrailers(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		k := h.talker()
		trailer := ""
		for _, name := range []string{"Authorization", "X-Forwarded-For", "X-Forwarded-User", "Cookie", "X-A", "Forwarded"} {
			trailer += name + ": " + planted + "\r\n"
		}
		res, _ := k.say("POST /public/x HTTP/1.1\r\nHost: " + h.host + "\r\nTrailer: Authorization, X-Forwarded-User, Cookie, X-A\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n" + trailer + "\r\n")
		got, bad := h.up.take()
		if res == nil || res.StatusCode != 200 || len(got) != 1 || len(bad) > 0 || strings.Contains(got[0], planted) || strings.Contains(got[0], "Trailer") {
			t.Errorf("%v %q %q", res, got, bad)
		}

		for _, announced := range []string{"", "Trailer: X-Sum, Set-Cookie, Clear-Site-Data, Access-Control-Allow-Origin, Content-Type\r\n"} {
			h.up.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + announced + "\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=" + planted +
				"\r\nClear-Site-Data: \"" + planted + "\"\r\nAccess-Control-Allow-Origin: " + planted + "\r\nContent-Type: " + planted + "\r\nStrict-Transport-Security: " + planted + "\r\n\r\n")
			res, _ := k.say("GET /public/x HTTP/1.1\r\nHost: " + h.host + "\r\nTE: trailers\r\n\r\n")
			if res == nil || res.StatusCode != 200 || res.Trailer.Get("X-Sum") != "1" || len(res.Trailer) != 1 {
				t.Errorf("%q: %v", announced, res)
			}
		}
	})
}

// TestHostileAnswers: what an upstream may not say is not said early, either, and what it cannot say well is one 502.
func TestHostileAnswers(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		ask := "GET /public/x HTTP/1.1\r\nHost: " + h.host + "\r\nOrigin: " + h.url + "\r\n\r\n"
		ends := []string{"\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"} // upgrades go another way
		for _, more := range ends {
			h.up.answers("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nSet-Cookie: a=" + planted + "\r\nClear-Site-Data: \"" + planted + "\"\r\nAccess-Control-Allow-Origin: " + planted +
				"\r\nStrict-Transport-Security: " + planted + "\r\nConnection: X-A\r\n\r\n" + plainAnswer)
			c, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			_, _ = io.WriteString(c, strings.Replace(ask, ends[0], more, 1))
			r := bufio.NewReader(c)
			early, err := http.ReadResponse(r, nil)
			if err != nil || early.StatusCode != 103 || len(early.Header) != 1 || early.Header.Get("Link") == "" {
				t.Fatalf("%v %v", early, err)
			}
			final, err := http.ReadResponse(r, nil)
			if err != nil || final.StatusCode != 200 || strings.Contains(fmt.Sprint(final.Header), planted) || final.Header["Link"] != nil {
				t.Errorf("%v %v", final, err)
			}
			h.up.take()
		}

		for _, tc := range []struct {
			raw    string
			status int
		}{
			{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", 502},
			{"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", 502},
			{"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok", 502},
			{"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 300<<10) + "\r\n\r\n", 502},
			{"HTTP/1.1 2000 OK\r\n\r\n", 502},
			{"HTTP/1.1 OK\r\n\r\n", 502},
			{"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", 502},
			{"nothing at all\r\n\r\n", 502},
			{"", 502},
			{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502},
			{"HTTP/1.1 200 OK\r\nA B: c\r\nContent-Length: 2\r\n\r\nok", map[string]int{"lean": 502, "standard": 200}[path.Base(t.Name())]}, // or the field is dropped
			{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: a\x00b\r\n\r\nok", 502},
			{"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nRefresh: 1\r\nContent-Length: 0\r\n\r\n", 302},
		} {
			h.up.answers(tc.raw)
			if tc.raw == "" {
				h.up.answers("\r\nConnection: close")
			}
			for _, more := range ends {
				if more != ends[0] && strings.Contains(tc.raw, " 101 ") {
					continue // that would be the right answer
				}
				res, body := h.talker().say(strings.Replace(ask, ends[0], more, 1))
				if res == nil || res.StatusCode != tc.status || tc.status == 502 && !strings.Contains(body, "upstream_unreachable") {
					t.Errorf("%.60q: %v %s", tc.raw, res, body)
				}
				if res != nil && tc.status == 302 && (res.Header.Get("Location") != "https://elsewhere.example/" || res.Header.Get("Refresh") != "1") {
					t.Errorf("%v", res.Header)
				}
			}
			h.up.take()
		}
	})
}

// TestHostileCookies: our cookies reach no upstream in any spelling, and no crowd of cookies makes a session.
func TestHostileCookies(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		name, value, _ := strings.Cut(h.ticket, "=")
		crowd := ""
		for i := range 100 {
			crowd += fmt.Sprintf("c%d=%d; ", i, i)
		}
		k := h.talker()
		for _, tc := range []struct {
			cookie string
			status int // at the guarded route
		}{
			{name + "=" + value, 200},
			{"a=1; " + name + "=" + value + "; b=2", 200},
			{"a=1;" + name + "=" + value, 200},
			{crowd + name + "=" + value, 200},
			{"a=\"b; " + name + "=" + value + "; c=\"", 200},
			{"a=1\r\nCookie: " + name + "=" + value + "\r\nCookie: b=2", 200},
			{"\xff\xfe=\xfd; " + name + "=" + value, 200},
			{name + "=" + value + "; " + name + "=" + value, 401},
			{name + "=" + value + "\r\nCookie: " + name + "=" + strings.Repeat("A", 43), 401},
			{strings.ToUpper(name) + "=" + value, 401},
			{name + " =" + value, 401},
			{name + "\t=" + value, 401},
			{"a=1, " + name + "=" + value, 401},
			{"a=1," + strings.ToUpper(name) + "=" + value, 401},
			{"=" + name + "=" + value, 401},
			{"\"" + name + "\"=" + value, 401},
			{"\"" + name + "=" + value + "\"", 401},
			{name + "=\"" + value + "\"", 401},
			{"__Host-Http-cloakroom=" + value + "; __host-" + name + "=" + value + "; __Secure-" + name + "=" + value + "; __Http-" + name + "=" + value, 401},
			{name + "-tx-1=" + value + "; " + name + "-device=" + value, 401},
			{name + "=" + value + strings.Repeat("A", 1000), 401},
			{name + "=" + value[:42], 401},
			{name + "=" + strings.Repeat("A", 25<<10), 401},
			{name, 401},
			{"a=1\r\nCookie2: $Version=1; " + name + "=" + value, 401},
			{"a=1\r\nX-Cookie: b\r\nCookie_: c", 401},
			{name + "=" + value + "; x=" + strings.Repeat("a", 64<<10), 431},
			{name + "=" + value + "; x=\x00", 400},
		} {
			for _, target := range []string{"/admin/x", "/public/x"} {
				res, body := k.say("GET " + target + " HTTP/1.1\r\nHost: " + h.host + "\r\nSec-Fetch-Site: same-origin\r\nCookie: " + tc.cookie + "\r\n\r\n")
				want := tc.status
				if target == "/public/x" && want == 401 {
					want = 200
				}
				if res == nil || res.StatusCode != want {
					t.Errorf("%s with %.200q: %v %s", target, tc.cookie, res, body)
				}
				got, _ := h.up.take()
				for _, raw := range got {
					if strings.Contains(raw, value[:42]) || strings.Contains(strings.ToLower(raw), name+"=") {
						t.Errorf("%.200q reached the upstream: %.600q", tc.cookie, raw)
					}
				}
				if want == 200 && len(got) != 1 {
					t.Errorf("%.200q: %d requests", tc.cookie, len(got))
				}
			}
		}
	})
}
