package idp

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// app is somebody's back-channel logout address. Its answers are scripted; the last one stays.
func app(t *testing.T, answers ...int) (address string, got <-chan *http.Request) {
	t.Helper()
	came := make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		status := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		w.WriteHeader(status)
		came <- r
	}))
	t.Cleanup(server.Close)
	return server.URL + "/backchannel", came
}

// enter logs ann in at the hosted page and exchanges the code, so that the client has tokens of the session.
func enter(t *testing.T, server *httptest.Server) (browser *http.Client, sid string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	to := walk(t, server, browser, nil)
	status, m := ask(t, server, url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {redirectURI}, "code_verifier": {"verifier"}})
	if status != http.StatusOK {
		t.Fatalf("%d %v", status, m)
	}
	jws, err := jose.ParseSignedCompact(m["id_token"].(string), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ SID string }
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil || claims.SID == "" {
		t.Fatalf("%s: %v", jws.UnsafePayloadWithoutVerification(), err)
	}
	return browser, claims.SID
}

func leave(t *testing.T, server *httptest.Server, browser *http.Client) {
	t.Helper()
	res, err := browser.Get(server.URL + "/logout")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", res, err)
	}
	res.Body.Close()
}

// next waits for a value that is on its way.
func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

func TestLogoutTellsTheApps(t *testing.T) {
	address, came := app(t, http.StatusOK)
	outcomes := make(chan string, 10)
	p, server := start(t, func(c *Config) {
		c.Clients[0].BackchannelLogoutURI = address
		c.Clients = append(c.Clients, Client{ID: "uninvolved", BackchannelLogoutURI: address})
		c.Log = func(e Entry) {
			if e.Act == "backchannel_logout" {
				outcomes <- e.Outcome + " " + e.User
			}
		}
	})
	browser, sid := enter(t, server)
	leave(t, server, browser)
	r := next(t, came)
	if got := next(t, outcomes); got != "ok ann" {
		t.Errorf("logged %q", got)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || len(r.Cookies()) != 0 {
		t.Errorf("%s %v", r.Method, r.Header)
	}
	jws, err := jose.ParseSignedCompact(r.PostForm.Get("logout_token"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	body, err := jws.Verify(&p.key.PublicKey)
	if err != nil || jws.Signatures[0].Protected.ExtraHeaders["typ"] != "logout+jwt" {
		t.Errorf("%v %v", err, jws.Signatures[0].Protected)
	}
	var c struct {
		Iss, Aud, Sub, SID, JTI string
		Iat, Exp                int64
		Nonce                   *string
		Events                  map[string]struct{}
	}
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatal(err)
	}
	_, event := c.Events["http://schemas.openid.net/event/backchannel-logout"]
	if c.Iss != server.URL || c.Aud != "app" || c.SID != sid || c.Sub == "" || c.JTI == "" || c.Exp-c.Iat != 120 || c.Nonce != nil || !event {
		t.Errorf("%s", body)
	}
	leave(t, server, browser) // nobody is logged in any more
	select {
	case r := <-came:
		t.Errorf("told again: %v", r.PostForm)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestNoticesAreTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []int
		tries   int
		outcome string
	}{
		{"down for a moment", []int{503, 200}, 2, "ok ann"},
		{"refused", []int{400}, 1, "status 400 ann"},
		{"a redirect", []int{302}, 1, "status 302 ann"},
		{"down", []int{500}, 3, "status 500 ann"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			address, came := app(t, tc.answers...)
			outcomes := make(chan string, 10)
			_, server := start(t, func(c *Config) {
				c.Clients[0].BackchannelLogoutURI = address
				c.Log = func(e Entry) {
					if e.Act == "backchannel_logout" {
						outcomes <- e.Outcome + " " + e.User
					}
				}
			})
			browser, _ := enter(t, server)
			leave(t, server, browser)
			if got := next(t, outcomes); got != tc.outcome || len(came) != tc.tries {
				t.Errorf("%q after %d tries", got, len(came))
			}
			first := (<-came).PostForm.Get("logout_token")
			for range len(came) {
				if again := (<-came).PostForm.Get("logout_token"); again != first {
					t.Error("another token")
				}
			}
		})
	}
}

func TestNoticesAreBounded(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	outcomes := make(chan string, mostNotices)
	p, provider := start(t, func(c *Config) {
		c.Clients[0].BackchannelLogoutURI = server.URL
		c.Log = func(e Entry) {
			if e.Act == "backchannel_logout" {
				outcomes <- e.Outcome
			}
		}
	})
	_, sid := enter(t, provider)
	for range mostNotices + 1 {
		p.notifyAll(session{ID: sid})
	}
	if got := next(t, outcomes); !strings.HasPrefix(got, "dropped") {
		t.Errorf("%q", got)
	}
}
