package idp

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// leave ends the browser's session here and tells the apps. It reports whether the state was written.
func (p *Provider) leave(c *call) bool {
	if cookie, err := c.r.Cookie(p.cookieName()); err == nil {
		p.mu.Lock()
		ended, known := p.state.Sessions[hash(cookie.Value)]
		delete(p.state.Sessions, hash(cookie.Value))
		err = p.save()
		p.mu.Unlock()
		if err != nil {
			http.Error(c.w, unwritten.description, http.StatusInternalServerError)
			return false
		}
		if known {
			p.notifyAll(ended)
		}
	}
	http.SetCookie(c.w, p.cookie("", -1))
	c.log("logout", "ok", "")
	return true
}

// logout is OIDC RP-Initiated Logout 1.0: it goes to a registered address of the client that client_id or the hint
// names.
func (p *Provider) logout(c *call) {
	if !p.leave(c) {
		return
	}
	q := c.r.URL.Query()
	id := q.Get("client_id")
	if id == "" {
		id = p.audienceOf(q.Get("id_token_hint"))
	}
	client, ok := p.client(id)
	to := q.Get("post_logout_redirect_uri")
	if !ok || !slices.Contains(client.PostLogoutRedirectURIs, to) {
		p.page(c.w, http.StatusOK, view{Problem: "You are logged out."})
		return
	}
	if state := q.Get("state"); state != "" {
		to = withQuery(to, "state", state)
	}
	p.redirect(c, to)
}

// audienceOf reads whom an ID token of ours was for, however old it is.
func (p *Provider) audienceOf(token string) string {
	claims := p.ours(token)
	aud, _ := claims["aud"].(string)
	return aud
}

// ours checks that a JWT was signed here.
func (p *Provider) ours(token string) (claims map[string]any) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range append(slices.Clone(p.old), p.key) {
		if body, err := jws.Verify(&key.PublicKey); err == nil {
			return members(body)
		}
	}
	return nil
}

// redirect redirects to an address of a registration.
func (p *Provider) redirect(c *call, to string) {
	http.Redirect(c.w, c.r, to, http.StatusSeeOther)
}

// returned goes to an address of a list, or says that it is none.
func (p *Provider) returned(c *call, list []string, to string) {
	if !slices.Contains(list, to) {
		p.page(c.w, http.StatusBadRequest, view{Problem: "You are logged out, but the address to go to is not registered here."})
		return
	}
	p.redirect(c, to)
}

// everywhere are the logout addresses of all clients.
func (p *Provider) everywhere() []string {
	var all []string
	for _, c := range p.Clients {
		all = append(all, c.PostLogoutRedirectURIs...)
	}
	return all
}

// withQuery adds a parameter to an address.
func withQuery(to, name, value string) string {
	u, err := url.Parse(to)
	if err != nil {
		return to
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}
