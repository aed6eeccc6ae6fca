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

var hosted = template.Must(template.New("hosted").Funcs(template.FuncMap{"label": label}).Parse(hostedHTML))

// label is a factor in words.
func label(f Factor) string {
	switch f.Type {
	case "sms":
		return "Text message to " + f.Name
	case "voice":
		return "Call to " + f.Name
	case "email":
		return "E-mail to " + f.Name
	case "push":
		return "Confirm on " + f.Name
	case "recovery_code":
		return "Recovery code"
	}
	return f.Name
}

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
func (p *Provider) authorize(c *call) {
	q, known := p.requested(c.r.URL.Query())
	client, ok := p.client(q.Get("client_id"))
	if !known || !ok || !slices.Contains(client.RedirectURIs, q.Get("redirect_uri")) {
		p.page(c.w, http.StatusBadRequest, view{Problem: "This app or its address is not registered here, or the request is too old."})
		return
	}
	if code := requestFault(q); code != "" {
		p.back(c, q, url.Values{"error": {code}})
		return
	}
	s, loggedIn := p.current(c.r)
	if limit, err := strconv.Atoi(q.Get("max_age")); err == nil && p.now().Sub(s.Since) > time.Duration(limit)*time.Second {
		loggedIn = false
	}
	silent := q.Get("prompt") == "none"
	switch {
	case loggedIn && q.Get("prompt") != "login":
		p.resume(c, q, s)
	case silent:
		c.log("authorize", "login_required", "")
		p.back(c, q, url.Values{"error": {"login_required"}})
	default:
		p.page(c.w, http.StatusOK, view{Query: q.Encode(), Username: q.Get("login_hint")})
	}
}

// resume is single sign-on: the person was here before. What they did not show then is asked for now.
func (p *Provider) resume(c *call, q url.Values, s session) {
	u, ok := p.find(s.Subject)
	a := &attempt{Client: q.Get("client_id"), Subject: s.Subject, AMR: slices.Clone(s.AMR), Since: s.Since, Settled: []verdict{needsCaptcha}}
	if len(s.AMR) > 1 {
		a.Settled = append(a.Settled, needsFactor)
	}
	v := isLocked
	if ok {
		v = p.wanted(a, u, q)
	}
	if v == "" {
		p.approve(c, q, s)
		return
	}
	if q.Get("prompt") == "none" {
		code := "interaction_required"
		if v == needsConsent {
			code = "consent_required"
		}
		c.log("authorize", code, u.Username)
		p.back(c, q, url.Values{"error": {code}})
		return
	}
	p.mu.Lock()
	step := p.begin("login step", "step_", a)
	shown := p.ask(a, v)
	p.unlock()
	p.turn(c, q, turned{a: a, step: step, user: u, stage: v, problem: shown})
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

// current is the browser's session here.
func (p *Provider) current(r *http.Request) (session, bool) {
	c, err := r.Cookie(p.cookieName())
	if err != nil {
		return session{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.state.Sessions[hash(c.Value)]
	return s, ok && p.now().Before(s.Ends)
}

// enter begins a session in this browser, and goes back with a code.
func (p *Provider) enter(c *call, q url.Values, a *attempt) {
	value := secret("")
	p.mu.Lock()
	s := session{Subject: a.Subject, ID: secret("")[:22], Since: a.Since, Ends: p.now().Add(sessionLife), AMR: a.AMR}
	if old, err := c.r.Cookie(p.cookieName()); err == nil {
		if was, ok := p.state.Sessions[hash(old.Value)]; ok && was.Subject == a.Subject {
			s.ID = was.ID // one more factor in the same session
			delete(p.state.Sessions, hash(old.Value))
		}
	}
	p.state.Sessions[hash(value)] = s
	p.forget(a)
	err := p.save()
	p.mu.Unlock()
	if err != nil {
		http.Error(c.w, unwritten.description, http.StatusInternalServerError)
		return
	}
	http.SetCookie(c.w, p.cookie(value, int(sessionLife/time.Second)))
	u, _ := p.find(s.Subject)
	c.log("hosted_login", "ok", u.Username)
	p.approve(c, q, s)
}

// approve goes back with a code.
func (p *Provider) approve(c *call, q url.Values, s session) {
	value := secret("code_")
	p.witness("authorization code", value)
	p.mu.Lock()
	p.state.Codes[hash(value)] = code{
		Client: q.Get("client_id"), RedirectURI: q.Get("redirect_uri"), Challenge: q.Get("code_challenge"), Nonce: q.Get("nonce"),
		Scope: q.Get("scope"), Subject: s.Subject, SID: s.ID, Since: s.Since, Ends: p.now().Add(codeLife), AMR: s.AMR,
	}
	err := p.save()
	p.mu.Unlock()
	if err != nil {
		p.back(c, q, url.Values{"error": {"server_error"}})
		return
	}
	u, _ := p.find(s.Subject)
	c.log("authorize", "ok", u.Username)
	p.back(c, q, url.Values{"code": {value}})
}

// back sends the browser to the app, with state, and with iss where the dialect's provider does (RFC 9207).
func (p *Provider) back(c *call, q, answer url.Values) {
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(c.w, "The redirect URI cannot be read.", http.StatusBadRequest)
		return
	}
	all := u.Query()
	maps.Copy(all, answer)
	all.Set("state", q.Get("state"))
	if p.dialect.issuerBack {
		all.Set("iss", p.Issuer)
	}
	u.RawQuery = all.Encode()
	c.w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(c.w, c.r, u.String(), http.StatusSeeOther)
}

// view is what the hosted page shows. Without a Query it is only a message.
type view struct {
	Query, Username, Problem string
	Action                   string   // where the form goes
	Stage                    string   // "" = user name and password
	Step                     string   // stands for what was shown so far
	Factors                  []Factor // to choose from
	Factor                   Factor   // the chosen one
	Secret, Recovery         string   // of an authenticator app that is enrolled; a recovery code to write down
	URI                      template.URL
}

func (p *Provider) page(w http.ResponseWriter, status int, v view) {
	v.Action = p.at.authorize
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = hosted.Execute(w, v)
}

func style(c *call) {
	c.w.Header().Set("Content-Type", "text/css; charset=utf-8")
	c.w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = c.w.Write([]byte(styleCSS))
}
