package idp

import (
	_ "embed"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed hosted.html
var hostedHTML string

//go:embed style.css
var styleCSS string

var hosted = template.Must(template.New("hosted").Parse(hostedHTML))

// cookieName is the provider's own session cookie. Cookies do not know ports, so the port is in the name.
func (p *Provider) cookieName() string {
	u, err := url.Parse(p.Issuer)
	if err != nil {
		return "demo-idp"
	}
	return "demo-idp-" + u.Port()
}

const sessionLife = 8 * time.Hour

// cookie is the session cookie. Over https it goes along in frames of other sites, too, as silent login needs.
func (p *Provider) cookie(value string, maxAge int) *http.Cookie {
	c := &http.Cookie{Name: p.cookieName(), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: maxAge}
	if strings.HasPrefix(p.Issuer, "https:") {
		c.Secure, c.SameSite = true, http.SameSiteNoneMode
	}
	return c
}

// authorize is the authorization endpoint: a redirect back if the person is logged in here, else the login page.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c, ok := p.client(q.Get("client_id"))
	if !ok || !slices.Contains(c.RedirectURIs, q.Get("redirect_uri")) {
		p.page(w, http.StatusBadRequest, view{Problem: "This app or its address is not registered here."})
		return
	}
	if code := requestFault(q); code != "" {
		p.back(w, r, q, url.Values{"error": {code}})
		return
	}
	s, loggedIn := p.current(r)
	if max, err := strconv.Atoi(q.Get("max_age")); err == nil && time.Since(s.Since) > time.Duration(max)*time.Second {
		loggedIn = false
	}
	switch {
	case loggedIn && q.Get("prompt") != "login":
		p.approve(w, r, q, s)
	case q.Get("prompt") == "none":
		p.log("authorize", "login_required", "")
		p.back(w, r, q, url.Values{"error": {"login_required"}})
	default:
		p.page(w, http.StatusOK, view{Query: r.URL.RawQuery, Username: q.Get("login_hint")})
	}
}

func requestFault(q url.Values) string {
	switch {
	case q.Get("response_type") != "code":
		return "unsupported_response_type"
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		return "invalid_request"
	case !contains(strings.Fields(q.Get("scope")), "openid"):
		return "invalid_scope"
	}
	return ""
}

// signIn is the login page's form.
func (p *Provider) signIn(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form cannot be read.", http.StatusBadRequest)
		return
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "This form is sent from here only.", http.StatusForbidden)
		return
	}
	raw := r.PostForm.Get("query")
	q, err := url.ParseQuery(raw)
	c, ok := p.client(q.Get("client_id"))
	if err != nil || !ok || !slices.Contains(c.RedirectURIs, q.Get("redirect_uri")) || requestFault(q) != "" {
		p.page(w, http.StatusBadRequest, view{Problem: "Start again at the app."})
		return
	}
	name := r.PostForm.Get("username")
	u, ok := p.user(name, r.PostForm.Get("password"))
	switch {
	case !ok:
		p.log("hosted_login", "wrong password", "")
		p.page(w, http.StatusUnauthorized, view{Query: raw, Username: name, Problem: "Wrong user name or password."})
		return
	case u.Locked:
		p.log("hosted_login", "blocked", u.Username)
		p.page(w, http.StatusForbidden, view{Query: raw, Username: name, Problem: "This account is blocked."})
		return
	}
	value := secret("")
	s := session{Subject: u.subject(), ID: secret("")[:22], Since: time.Now(), Ends: time.Now().Add(sessionLife)}
	p.mu.Lock()
	p.state.Sessions[hash(value)] = s
	err = p.save()
	p.mu.Unlock()
	if err != nil {
		http.Error(w, "The provider cannot write its state.", http.StatusInternalServerError)
		return
	}
	http.SetCookie(w, p.cookie(value, int(sessionLife/time.Second)))
	p.log("hosted_login", "ok", u.Username)
	p.approve(w, r, q, s)
}

// current is the browser's session here.
func (p *Provider) current(r *http.Request) (session, bool) {
	c, err := r.Cookie(p.cookieName())
	if err != nil {
		return session{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.state.Sessions[hash(c.Value)]
	return s, ok && time.Now().Before(s.Ends)
}

// approve goes back with a code.
func (p *Provider) approve(w http.ResponseWriter, r *http.Request, q url.Values, s session) {
	value := secret("code_")
	p.witness("authorization code", value)
	p.mu.Lock()
	p.state.Codes[hash(value)] = code{
		Client: q.Get("client_id"), RedirectURI: q.Get("redirect_uri"), Challenge: q.Get("code_challenge"), Nonce: q.Get("nonce"),
		Scope: q.Get("scope"), Subject: s.Subject, SID: s.ID, Since: s.Since, Ends: time.Now().Add(codeLife),
	}
	err := p.save()
	p.mu.Unlock()
	if err != nil {
		p.back(w, r, q, url.Values{"error": {"server_error"}})
		return
	}
	u, _ := p.find(s.Subject)
	p.log("authorize", "ok", u.Username)
	p.back(w, r, q, url.Values{"code": {value}})
}

// back sends the browser to the app, with state and iss (RFC 9207).
func (p *Provider) back(w http.ResponseWriter, r *http.Request, q, answer url.Values) {
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "The redirect URI cannot be read.", http.StatusBadRequest)
		return
	}
	all := u.Query()
	maps.Copy(all, answer)
	all.Set("state", q.Get("state"))
	all.Set("iss", p.Issuer)
	u.RawQuery = all.Encode()
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, u.String(), http.StatusSeeOther) //nolint:gosec // checked against the registration
}

// logout ends the browser's session here (OIDC RP-Initiated Logout 1.0), tells the apps, and goes to a registered
// address.
func (p *Provider) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(p.cookieName()); err == nil {
		p.mu.Lock()
		ended, known := p.state.Sessions[hash(c.Value)]
		delete(p.state.Sessions, hash(c.Value))
		err = p.save()
		p.mu.Unlock()
		if err != nil {
			http.Error(w, "The provider cannot write its state.", http.StatusInternalServerError)
			return
		}
		if known {
			p.notifyAll(ended)
		}
	}
	http.SetCookie(w, p.cookie("", -1))
	p.log("logout", "ok", "")
	q := r.URL.Query()
	c, ok := p.client(q.Get("client_id"))
	to := q.Get("post_logout_redirect_uri")
	if !ok || !slices.Contains(c.PostLogoutRedirectURIs, to) {
		p.page(w, http.StatusOK, view{Problem: "You are logged out."})
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // checked against the registration
}

// view is what the hosted page shows. Without a Query it is only a message.
type view struct{ Query, Username, Problem string }

func (p *Provider) page(w http.ResponseWriter, status int, v view) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = hosted.Execute(w, v)
}

func style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write([]byte(styleCSS))
}
