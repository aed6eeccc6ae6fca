package oidc

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const wellKnown = "/.well-known/openid-configuration"

// bomb is 100 MB of spaces that travel as 100 kB.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.Copy(z, io.LimitReader(spaces{}, 100<<20))
	z.Close()
	return b.Bytes()
})

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func zipped(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	w.Write(bomb())
}

func endless(w http.ResponseWriter, _ *http.Request) { io.Copy(w, spaces{}) }

// TestDiscoveryRefuses has a row for each document that must not be believed.
func TestDiscoveryRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m map[string]any)
		kind   Kind
	}{
		"issuer of another":           {func(m map[string]any) { m["issuer"] = "http://localhost.evil.example" }, Misconfigured},
		"issuer with a slash more":    {func(m map[string]any) { m["issuer"] = issuer + "/" }, Misconfigured},
		"no issuer":                   {func(m map[string]any) { delete(m, "issuer") }, Misconfigured},
		"ISSUER for issuer":           {func(m map[string]any) { delete(m, "issuer"); m["ISSUER"] = issuer }, Misconfigured},
		"no token endpoint":           {func(m map[string]any) { delete(m, "token_endpoint") }, Misconfigured},
		"no keys":                     {func(m map[string]any) { delete(m, "jwks_uri") }, Misconfigured},
		"no authorization endpoint":   {func(m map[string]any) { m["authorization_endpoint"] = "" }, Misconfigured},
		"token endpoint a number":     {func(m map[string]any) { m["token_endpoint"] = 1 }, Transient},
		"methods a word":              {func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = "x" }, Transient},
		"http off loopback":           {func(m map[string]any) { m["token_endpoint"] = "http://provider.example/token" }, Misconfigured},
		"http to a link-local host":   {func(m map[string]any) { m["jwks_uri"] = "http://169.254.169.254/jwks" }, Misconfigured},
		"http to a lookalike":         {func(m map[string]any) { m["jwks_uri"] = "http://localhost.evil.example/" }, Misconfigured},
		"another scheme":              {func(m map[string]any) { m["end_session_endpoint"] = "javascript:alert(1)" }, Misconfigured},
		"a file":                      {func(m map[string]any) { m["jwks_uri"] = "file:///etc/passwd" }, Misconfigured},
		"user name in an endpoint":    {func(m map[string]any) { m["token_endpoint"] = "https://a:b@provider.example/" }, Misconfigured},
		"fragment in an endpoint":     {func(m map[string]any) { m["revocation_endpoint"] = "https://provider.example/#x" }, Misconfigured},
		"endpoint without host":       {func(m map[string]any) { m["token_endpoint"] = "https:///token" }, Misconfigured},
		"relative endpoint":           {func(m map[string]any) { m["token_endpoint"] = "/token" }, Misconfigured},
		"an endpoint of 3 kB":         {func(m map[string]any) { m["token_endpoint"] = "https://p.example/" + strings.Repeat("x", 3000) }, Misconfigured},
		"line break in what we print": {func(m map[string]any) { m["issuer"] = "x\r\nSet-Cookie: a=b" }, Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c.change(f.meta)
			p := f.provider(nil)
			e := wantError(t, p.Discover(t.Context()), c.kind, "")
			if strings.ContainsAny(e.Error(), "\r\n") {
				t.Errorf("%q breaks the line", e.Error())
			}
			if p.Ready() == nil {
				t.Error("ready")
			}
			if _, err := p.Password(t.Context(), PasswordRequest{Username: "a", Password: "hunter2"}); err == nil || len(f.to("/token")) != 0 {
				t.Error("the password was sent")
			}
		})
	}
}

// TestDiscoveryOfHTTPS: behind an https issuer no endpoint may be plain, loopback or not.
func TestDiscoveryOfHTTPS(t *testing.T) {
	m := metadata{issuer: "https://p.example", authorization: "https://p.example/a", token: "https://other.example/t", jwks: "https://p.example/k"}
	if err := m.check("https://p.example"); err != nil {
		t.Error(err)
	}
	m.token = "http://localhost/t"
	wantError(t, m.check("https://p.example"), Misconfigured, "")
}

// brokenAnswers are what no document is.
var brokenAnswers = map[string]http.HandlerFunc{
	"redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	},
	"moved for ever": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
	},
	"HTML":         func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
	"500":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
	"404":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
	"nothing":      func(http.ResponseWriter, *http.Request) {},
	"a list":       func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "[]") },
	"a name twice": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"issuer":"a","issuer":"b"}`) },
	"half":         func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"issuer":`) },
	"more":         func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{}{}`) },
	"endless":      endless,
	"gzip bomb":    zipped,
	"cut off": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, `{}`)
	},
}

func TestDiscoveryBroken(t *testing.T) {
	for name, h := range brokenAnswers {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.answer(wellKnown, h)
			wantError(t, f.provider(nil).Discover(t.Context()), Transient, "")
			if len(f.to("/elsewhere")) != 0 {
				t.Error("followed a redirect")
			}
		})
	}
}

// TestOtherClientFollowsNothing: whatever client we are given, a redirect is not followed.
func TestOtherClientFollowsNothing(t *testing.T) {
	f := newFake(t)
	f.answer("/token", brokenAnswers["redirect"])
	p := f.provider(func(c *Config) { c.HTTP = &http.Client{Transport: f.client.Transport} })
	_, err := exchange(t, p, Expect{})
	wantError(t, err, Ambiguous, "")
	if len(f.to("/elsewhere")) != 0 {
		t.Error("the secret went elsewhere")
	}
}

// TestDiscoveryLife: nothing is asked before there is need, all who wait share one request, a good answer serves an
// hour, and then an old one while a new one is fetched.
func TestDiscoveryLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer(wellKnown, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second) // fake time
			writeJSON(w, 200, f.meta)
		})
		p := f.provider(nil)
		asked := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := len(f.to(wellKnown)); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		}
		if p.Ready() != nil {
			t.Error("not ready before anything was asked")
		}
		asked(0)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := p.Discover(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		asked(1)
		time.Sleep(59 * time.Minute)
		p.Discover(t.Context())
		asked(1)
		time.Sleep(time.Minute)
		if began := time.Now(); p.Discover(t.Context()) != nil || time.Since(began) != 0 {
			t.Error("old metadata did not serve at once")
		}
		time.Sleep(2 * time.Second)
		asked(2)
		f.close()
	})
}

// TestDiscoveryBackoff: a provider that is down is asked seldom, found when it is back, and what was known serves on
// when it goes down again.
func TestDiscoveryBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		down, tries := true, 0
		f.dial = func() error {
			if down {
				tries++
				return errors.New("connection refused")
			}
			return nil
		}
		p := f.provider(nil)
		for range 600 { // a minute of impatience
			e := wantError(t, p.Discover(t.Context()), Transient, "")
			if e.RetryAfter <= 0 || e.RetryAfter > 30*time.Second {
				t.Fatalf("retry after %v", e.RetryAfter)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if tries != 6 { // at 0, 1, 3, 7, 15, 31 s
			t.Errorf("tried %d times", tries)
		}
		if p.Ready() == nil {
			t.Error("ready while down")
		}
		down = false
		time.Sleep(30 * time.Second)
		if err := p.Discover(t.Context()); err != nil || p.Ready() != nil {
			t.Error("not found when it was back", err)
		}
		f.close()
		down = true
		time.Sleep(100 * time.Hour)
		p.Discover(t.Context())
		synctest.Wait()
		if err := p.Discover(t.Context()); err != nil || p.Ready() == nil {
			t.Error("old metadata did not serve", err)
		}
	})
}

// TestDiscoveryHangs: those who wait may go away; a hanging provider holds nobody for ever.
func TestDiscoveryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer(wellKnown, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		p := f.provider(nil)
		began := time.Now()
		wantError(t, p.Discover(t.Context()), Transient, "")
		if d := time.Since(began); d != fetchTime {
			t.Errorf("waited %v", d)
		}
		time.Sleep(time.Minute)
		began = time.Now()
		if p.EndSessionURL(Logout{}) != "" || time.Since(began) != metaWait {
			t.Errorf("waited %v", time.Since(began))
		}
		time.Sleep(time.Minute)
	})
}

// TestClientAuthChoice: as configured, else as offered, basic first; never guessed.
func TestClientAuthChoice(t *testing.T) {
	for _, c := range []struct {
		configured string
		offered    any
		want       string
	}{
		{"", nil, clientSecretBasic},
		{"", []string{clientSecretPost, clientSecretBasic}, clientSecretBasic},
		{"", []string{"private_key_jwt", clientSecretPost}, clientSecretPost},
		{"", []string{"private_key_jwt", "none"}, ""},
		{"", []string{}, ""},
		{clientSecretPost, []string{clientSecretBasic}, clientSecretPost},
		{clientSecretBasic, nil, clientSecretBasic},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			f := newFake(t)
			if c.offered != nil {
				f.meta["token_endpoint_auth_methods_supported"] = c.offered
			}
			_, err := exchange(t, f.provider(func(o *Config) { o.ClientAuth = c.configured }), Expect{})
			sent := f.to("/token")
			if c.want == "" {
				wantError(t, err, Misconfigured, "client_auth")
				if len(sent) != 0 {
					t.Error("sent something")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			basic, post := sent[0].header.Get("Authorization") != "", strings.Contains(sent[0].body, "client_secret=")
			if basic == post || basic != (c.want == clientSecretBasic) {
				t.Errorf("basic %v, post %v, want %s", basic, post, c.want)
			}
		})
	}
}

// FuzzMetadata: whatever a document says, what is believed has our issuer and safe endpoints.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"http://localhost","authorization_endpoint":"http://localhost/a","token_endpoint":"https://x/t","jwks_uri":"http://127.0.0.1/k"}`))
	f.Add([]byte(`{"issuer":"http://localhost","token_endpoint":"http://[::1%25x]/","jwks_uri":"\u0000"}`))
	f.Add([]byte(`{"token_endpoint_auth_methods_supported":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseMetadata(body)
		if err != nil || m.check(issuer) != nil {
			return
		}
		for _, e := range []string{m.authorization, m.token, m.jwks} {
			if !strings.HasPrefix(strings.ToLower(e), "http") {
				t.Errorf("endpoint %q", e)
			}
			if _, err := http.NewRequest("POST", e, nil); err != nil {
				t.Errorf("no request can be made for %q", e)
			}
		}
		quiet(m, nil).EndSessionURL(Logout{IDTokenHint: "x"})
	})
}
