package cloakroom_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

const mfaClass = "urn:demo:mfa"

// stepUpRig has a route that wants a second factor, and one that wants a fresh login.
func stepUpRig(t *testing.T) *form {
	t.Helper()
	return newDialectRig(t, "generic", func(c *config.Config) {
		api := c.Frontends[0].Routes[0].Upstream
		c.Frontends[0].Routes = append([]config.Route{
			{Path: "/api/pay/", Upstream: api, Require: &config.Require{ACR: mfaClass}},
			{Path: "/api/fresh/", Upstream: api, Require: &config.Require{MaxAge: config.Duration(time.Hour)}},
			{Path: "/pages/pay/", Upstream: api, Pages: true, Require: &config.Require{ACR: mfaClass}},
		}, c.Frontends[0].Routes...)
	}).form()
}

// A call that needs a stronger login gets one typed answer with what is needed; the login that it names is that strong,
// and then the call works.
func TestRouteWantsAStrongerLogin(t *testing.T) {
	t.Parallel()
	f := stepUpRig(t)
	f.log("refresh").want(200, "done") // has a second factor, and is not asked for it
	if a := f.fetch("GET", "/api/fresh/x"); a.StatusCode != 200 {
		t.Errorf("a fresh login: %d %s", a.StatusCode, a.body)
	}
	a := f.fetch("GET", "/api/pay/x")
	f.last = a
	f.want(401, "step_up_required")
	if f.member("step", "status") != "redirect" || f.member("step", "acr_values") != mfaClass || f.member("step", "url") != f.member("login_url") {
		t.Fatalf("%s", a.body)
	}
	if !f.authenticated() {
		t.Fatal("a step-up is no logout")
	}
	begin := f.navigate(f.member("login_url").(string) + "&return_to=/pages/pay/x")
	if to := begin.Header.Get("Location"); begin.StatusCode != 302 || !strings.Contains(to, "acr_values=urn%3Ademo%3Amfa") {
		t.Fatalf("%d %s", begin.StatusCode, to)
	}
	back := f.atProvider(begin.Header.Get("Location"), "refresh", "open-sesame")
	if a := f.arrive(back); a.StatusCode != 302 || a.Header.Get("Location") != "/pages/pay/x" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := f.fetch("GET", "/api/pay/x"); a.StatusCode != 200 {
		t.Errorf("after the step-up: %d %s", a.StatusCode, a.body)
	}
	f.logWith("alice", "wonderland", nil).want(200, "done")
	// A person on the way to a page is led there at once.
	if a := f.navigate("/pages/pay/x"); a.StatusCode != 302 || a.Header.Get("Location") != "/auth/login?acr_values=urn%3Ademo%3Amfa&return_to=%2Fpages%2Fpay%2Fx" {
		t.Errorf("%d %s", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestStrongerLoginIsVerified(t *testing.T) {
	t.Parallel()
	f := stepUpRig(t)
	f.d.idp.SetClaims(map[string]any{"acr": "urn:demo:pwd"}) // the provider does not keep its word
	begin := f.navigate("/auth/login?acr_values=" + mfaClass)
	back := f.atProvider(begin.Header.Get("Location"), "refresh", "open-sesame")
	if a := f.arrive(back); a.StatusCode != 400 || f.authenticated() {
		t.Errorf("a weaker login than asked for: %d %s", a.StatusCode, a.body)
	}
}

// An upstream's own challenge (RFC 9470) becomes the same answer.
func TestUpstreamWantsAStrongerLogin(t *testing.T) {
	t.Parallel()
	f := stepUpRig(t)
	f.logWith("alice", "wonderland", nil).done()
	f.api.handler = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_user_authentication", acr_values="gold", max_age="60"`)
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(401)
		_, _ = w.Write([]byte("secret detail of the upstream"))
	}
	f.last = f.fetch("POST", "/api/x")
	f.want(401, "step_up_required")
	if f.member("step", "acr_values") != "gold" || f.member("step", "max_age") != 60.0 || f.last.Header.Get("WWW-Authenticate") != "" || strings.Contains(f.last.body, "secret") {
		t.Errorf("%s %v", f.last.body, f.last.Header)
	}
	if f.member("login_url") != "/auth/login?acr_values=gold&max_age=60" {
		t.Errorf("%s", f.last.body)
	}
	if !f.authenticated() {
		t.Error("logged out")
	}
}
