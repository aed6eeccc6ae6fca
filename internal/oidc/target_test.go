package oidc

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestTargetForms: how each kind of provider is asked for a token for one API.
func TestTargetForms(t *testing.T) {
	orders := Target{Audience: "https://orders.example", Scope: "read write"}
	for _, c := range []struct {
		profile  string
		ask      func(*Provider, Target) error
		target   Target
		want     url.Values
		unwanted string
	}{
		{"generic", client, orders, url.Values{"grant_type": {"client_credentials"}, "resource": {"https://orders.example"}, "scope": {"read write"}}, "audience"},
		{"auth0", client, orders, url.Values{"grant_type": {"client_credentials"}, "audience": {"https://orders.example"}}, "resource"},
		{"entra", client, Target{Audience: "api://orders"}, url.Values{"scope": {"api://orders/.default"}}, "resource"},
		{"entra", client, orders, url.Values{"scope": {"read write"}}, "audience"},
		{"generic", client, Target{}, url.Values{"grant_type": {"client_credentials"}}, "scope"},
		{"keycloak", swap, Target{Audience: "orders"}, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"at-of-alice"}, "audience": {"orders"},
			"subject_token_type":   {"urn:ietf:params:oauth:token-type:access_token"},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		}, "scope"},
		{"entra", swap, Target{Scope: "api://orders/read"}, url.Values{
			"grant_type": {jwtBearer}, "assertion": {"at-of-alice"}, "requested_token_use": {"on_behalf_of"}, "scope": {"api://orders/read"},
		}, "subject_token"},
		{"generic", again, orders, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"rt-0"}, "resource": {"https://orders.example"}, "scope": {"read write"}}, "audience"},
		{"auth0", again, Target{Audience: "https://orders.example"}, url.Values{"audience": {"https://orders.example"}}, "scope"},
	} {
		f := newFake(t)
		f.token(200, f.tokens(fields{"id_token": nil, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}))
		if err := c.ask(f.provider(func(o *Config) { o.Profile = c.profile }), c.target); err != nil {
			t.Errorf("%s %v: %v", c.profile, c.target, err)
			continue
		}
		sent, _ := url.ParseQuery(f.to("/token")[0].body)
		for name, values := range c.want {
			if sent.Get(name) != values[0] {
				t.Errorf("%s %v: %s is %q, want %q", c.profile, c.target, name, sent.Get(name), values[0])
			}
		}
		if sent.Has(c.unwanted) {
			t.Errorf("%s %v: %s was sent", c.profile, c.target, c.unwanted)
		}
	}
}

func client(p *Provider, target Target) error {
	_, err := p.ClientToken(context.Background(), target)
	return err
}

func swap(p *Provider, target Target) error {
	_, err := p.ExchangeToken(context.Background(), "at-of-alice", target)
	return err
}

func again(p *Provider, target Target) error {
	_, err := p.Refresh(context.Background(), TokenSet{Refresh: "rt-0"}, target, Expect{})
	return err
}

// TestRefreshForTarget: the set keeps its own access token, gets the new refresh token, and the other one stands beside.
func TestRefreshForTarget(t *testing.T) {
	now := time.Now()
	orders, stock := Target{Audience: "https://orders.example"}, Target{Scope: "stock"}
	old := TokenSet{
		Access: "at-0", TokenType: "Bearer", Refresh: "rt-0", ID: "old", Scope: "openid", Obtained: now, Expires: now.Add(time.Hour), Generation: 7,
		Further: []AccessToken{
			{Target: orders, Value: "orders-0", Expires: now.Add(time.Minute)},
			{Target: stock, Value: "stock-0", Expires: now.Add(time.Minute)},
			{Target: Target{Audience: "gone"}, Value: "over", Expires: now.Add(-time.Minute)},
		},
	}
	f := newFake(t)
	p := f.provider(nil)
	f.token(200, f.tokens(fields{"access_token": "orders-1", "id_token": nil, "expires_in": 60}))
	x, err := p.Refresh(t.Context(), old, orders, Expect{})
	if err != nil {
		t.Fatal(err)
	}
	got := x.Tokens
	if got.Access != "at-0" || got.Scope != "openid" || !got.Expires.Equal(old.Expires) || got.Refresh != "rt-1" || got.ID != "old" || got.Generation != 8 {
		t.Error("the set's own tokens are not as they should be")
	}
	o, ok := got.For(orders)
	if !ok || o.Value != "orders-1" || o.Generation != 8 || time.Until(o.Expires) > time.Minute {
		t.Errorf("the token for orders: %v %d", ok, o.Generation)
	}
	if s, ok := got.For(stock); !ok || s.Value != "stock-0" {
		t.Error("the token for another target is gone")
	}
	if len(got.Further) != 2 || len(old.Further) != 3 || old.Further[0].Value != "orders-0" {
		t.Errorf("%d further tokens; or the old set was changed", len(got.Further))
	}

	// A refresh of the set itself keeps the others, and scope is never taken from another target's token.
	f.token(200, f.tokens(fields{"access_token": "at-1", "refresh_token": "rt-2", "id_token": nil, "scope": nil}))
	x, err = p.Refresh(t.Context(), got, Target{}, Expect{})
	if err != nil || x.Tokens.Access != "at-1" || len(x.Tokens.Further) != 2 || x.Tokens.Scope != "openid" {
		t.Error("a refresh of the set lost the others", err)
	}
	if o, _ := x.Tokens.For(orders); o.Value != "orders-1" {
		t.Error("the token for orders is gone")
	}
}

// TestSeveralResources: a login asks for all APIs, each token request for one of them (RFC 8707 section 2).
func TestSeveralResources(t *testing.T) {
	for profile, several := range map[string]bool{"generic": true, "keycloak": true, "auth0": false, "entra": false} {
		f := newFake(t)
		p := f.provider(func(c *Config) {
			c.Profile, c.Audience, c.Audiences = profile, "https://own.example", []string{"https://orders.example", "https://stock.example"}
		})
		address, err := p.AuthorizeURL(t.Context(), AuthRequest{RedirectURI: "https://app.example/cb", State: "s", Nonce: "n", Verifier: verifier})
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		asked := u.Query()[p.profile.audienceParameter()]
		if want := 1; several && len(asked) != 3 || !several && len(asked) != want || asked[0] != "https://own.example" || u.Query().Get("tenant") != "7" {
			t.Errorf("%s: the login asks for %q", profile, asked)
		}
		f.token(200, f.tokens(fields{"id_token": nil}))
		_, _ = exchange(t, p, Expect{})
		_, _ = p.Refresh(t.Context(), TokenSet{Refresh: "rt-0"}, Target{}, Expect{})
		for _, r := range f.to("/token") {
			form, _ := url.ParseQuery(r.body)
			if got := form["resource"]; several != (len(got) == 1 && got[0] == "https://own.example") {
				t.Errorf("%s %s: resource %q", profile, form.Get("grant_type"), got)
			}
		}
	}
}

// TestMintKeepsNoMore: what is asked for is one access token; a refresh token that comes along is let go, and nothing
// is printed.
func TestMintKeepsNoMore(t *testing.T) {
	f := newFake(t)
	f.token(200, f.tokens(fields{"scope": "read admin"}))
	token, err := f.provider(nil).ClientToken(t.Context(), Target{Scope: "read"})
	if err != nil || token.Value != "at-1" || token.Scope != "read admin" || token.Target.Scope != "read" {
		t.Fatal("not the token that came", err)
	}
	if !Exceeds(token.Scope, "read write") || Exceeds(token.Scope, "write admin read") || Exceeds("", "read") {
		t.Error("Exceeds does not compare scopes")
	}
	if s := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(s, "at-1") {
		t.Errorf("printed: %s", s)
	}
	if got := f.outcomes("client_credentials"); len(got) != 1 || got[0] != "ok" {
		t.Errorf("events %q", got)
	}
	for _, c := range []struct {
		status int
		body   any
		kind   Kind
	}{
		{400, fields{"error": "invalid_target"}, Misconfigured},
		{400, fields{"error": "access_denied"}, Definitive},
		{400, fields{"error": "interaction_required"}, StepUp},
		{200, fields{"access_token": "x", "token_type": "N_A"}, Rejected},
		{503, "busy", Ambiguous},
	} {
		f.token(c.status, c.body)
		_, err := f.provider(nil).ExchangeToken(t.Context(), "at-of-alice", Target{Audience: "orders"})
		if !IsKind(err, c.kind) || strings.Contains(fmt.Sprint(err), "at-of-alice") {
			t.Errorf("%v: %v, want %v", c.body, err, c.kind)
		}
	}
}
