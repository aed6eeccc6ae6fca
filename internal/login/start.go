package login

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/web"
)

// transaction is a hosted login in progress. It rests sealed in the browser's cookie; its id is the state.
type transaction struct {
	ID        string        `json:"-"`
	Provider  string        `json:"p"`
	Issuer    string        `json:"i"`
	Nonce     string        `json:"n"`
	Verifier  string        `json:"v"`
	ReturnTo  string        `json:"r"`
	Started   time.Time     `json:"t"`
	Mode      mode          `json:"m,omitempty"`
	Prompt    string        `json:"pr,omitempty"`
	ACRValues string        `json:"a,omitempty"`
	MaxAge    time.Duration `json:"ma,omitempty"`
	Again     bool          `json:"ag,omitempty"` // the person must log in anew
	// A login by form that goes on at the provider's page: request_uri and its end, and the name for another try.
	Pushed     string    `json:"pu,omitempty"`
	PushedEnds time.Time `json:"pe,omitzero"`
	Hint       string    `json:"hi,omitempty"`
	// The browser's session at the start: a Strict ticket is not sent to the callback.
	Handle  string `json:"h,omitempty"`
	OldIss  string `json:"oi,omitempty"`
	OldSub  string `json:"os,omitempty"`
	OldUser string `json:"ou,omitempty"`
}

// mode is how a login runs.
type mode string

const (
	normal mode = ""
	silent mode = "silent" // prompt=none, the whole tab
	iframe mode = "iframe" // prompt=none, in a frame of the app
)

// purposeLogin keeps login transactions apart from every other kind.
const purposeLogin = "login"

// ask is what a request to start a hosted login asks for.
type ask struct {
	provider  Provider
	returnTo  string
	mode      mode
	prompt    string
	loginHint string
	acrValues string
	maxAge    string
	uiLocales string
}

// askOf reads the query of GET /auth/login/redirect and /auth/login/silent.
func (h *Handler) askOf(r *http.Request) (ask, *web.Problem) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return ask{}, web.NewProblem(web.CodeInvalidRequest, "The query cannot be read.")
	}
	for name, values := range q {
		if len(values) > 1 || len(values[0]) > 2000 {
			return ask{}, web.NewProblem(web.CodeInvalidRequest, "Each parameter may be given once, with at most 2000 characters: "+strconv.Quote(clip(name))+".")
		}
	}
	p, ok := h.pick(q.Get("provider"), canRedirect)
	if !ok {
		return ask{}, web.NewProblem(web.CodeNotFound, "There is no such provider with a hosted login page.")
	}
	returnTo, problem := returnToOf(q.Get("return_to"))
	if problem != nil {
		return ask{}, problem
	}
	if problem := checkWanted(q.Get("acr_values"), q.Get("max_age")); problem != nil {
		return ask{}, problem
	}
	return ask{
		provider: p, returnTo: returnTo, prompt: q.Get("prompt"), loginHint: q.Get("login_hint"),
		acrValues: q.Get("acr_values"), maxAge: q.Get("max_age"), uiLocales: q.Get("ui_locales"),
	}, nil
}

// checkWanted checks what a login is to be (OIDC Core section 3.1.2.1).
func checkWanted(acrValues, maxAge string) *web.Problem {
	if len(acrValues) > 2000 {
		return web.NewProblem(web.CodeInvalidRequest, "acr_values may have at most 2000 characters.")
	}
	if n, err := strconv.Atoi(maxAge); maxAge != "" && (err != nil || n < 0 || n > 1<<30) {
		return web.NewProblem(web.CodeInvalidRequest, "max_age is a number of seconds.")
	}
	return nil
}

// returnToOf checks the return_to of an address that people are sent to; absent is "/".
func returnToOf(s string) (string, *web.Problem) {
	if s == "" {
		return "/", nil
	}
	if to, ok := web.ReturnTo(s); ok {
		return to, nil
	}
	return "", web.NewProblem(web.CodeInvalidReturnTo, "return_to is a path on this site: it starts with exactly one \"/\".")
}

// Redirect serves GET /auth/login/redirect: it starts a hosted login. Only a person's own navigation may: a
// cross-site one gets the login page with a button, so that no other site can start a login unseen.
func (h *Handler) Redirect(w http.ResponseWriter, r *http.Request) {
	start := startOf(h.Gate.Facts(r), r)
	if id := r.URL.Query().Get("transaction"); id != "" && start == startHere {
		h.resume(w, r, id)
		return
	}
	a, problem := h.askOf(r)
	switch {
	case problem != nil:
		h.refuse(w, r, problem)
	case start == startPrefetch:
		h.refuse(w, r, web.NewProblem(web.CodePrefetch, "Open this address when the person goes there.").After(time.Second))
	case start == startForeign:
		h.show(w, r, http.StatusOK, form{returnTo: a.returnTo})
	case start == startRefused:
		h.refuse(w, r, web.NewProblem(web.CodeCrossOrigin, "A login starts with a navigation of the whole tab on the app's own pages, not with a fetch or a frame."))
	default:
		h.begin(w, r, a)
	}
}

// resume goes on at the provider's page with a login that began in the form. One whose request_uri is over begins anew.
func (h *Handler) resume(w http.ResponseWriter, r *http.Request, id string) {
	var tx transaction
	if !h.Transactions.Get(r, id, purposeLogin, &tx) || tx.Pushed == "" {
		h.refuse(w, r, web.NewProblem(web.CodeLoginExpired, "Start the login again.").Login("/auth/login"))
		return
	}
	p, ok := h.pick(tx.Provider, canRedirect)
	if !ok {
		h.refuse(w, r, web.NewProblem(web.CodeLoginExpired, "Start the login again.").Login(loginPath(tx.ReturnTo)))
		return
	}
	if time.Now().After(tx.PushedEnds) {
		h.begin(w, r, ask{provider: p, returnTo: tx.ReturnTo, loginHint: tx.Hint})
		return
	}
	url, err := p.Client.PushedURL(r.Context(), tx.Pushed, id)
	if err != nil {
		h.unavailable(w, r, ask{provider: p, returnTo: tx.ReturnTo}, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	http.Redirect(w, r, url, http.StatusFound) //nolint:gosec // the provider's own address, with an id that was checked
}

// Silent serves GET /auth/login/silent: is there a session at the provider? It never shows anything.
func (h *Handler) Silent(w http.ResponseWriter, r *http.Request) {
	f := h.Gate.Facts(r)
	a, problem := h.askOf(r)
	if problem != nil {
		h.refuse(w, r, problem)
		return
	}
	a.prompt, a.mode = "none", silent
	framed := f.Dest == "iframe" || f.Dest == "frame"
	start := startOf(f, r)
	if framed && f.Site == "same-origin" && f.Mode == "navigate" {
		a.mode, start = iframe, startHere
	}
	switch start {
	case startHere:
		h.begin(w, r, a)
	case startPrefetch:
		h.refuse(w, r, web.NewProblem(web.CodePrefetch, "Open this address when the person goes there.").After(time.Second))
	default:
		h.refuse(w, r, web.NewProblem(web.CodeCrossOrigin, "A silent login starts on the app's own pages: as a navigation of the tab, or in an iframe."))
	}
}

// start says who began a request to log in.
type start int

const (
	startHere     start = iota // the person, or a page of the app
	startForeign               // a navigation that another site began
	startPrefetch              // the browser, ahead of time
	startRefused               // a fetch, a frame, an image, ...
)

func startOf(f gate.Facts, r *http.Request) start {
	switch {
	case r.Header.Get("Sec-Purpose") != "" || r.Header.Get("Purpose") == "prefetch":
		return startPrefetch
	case f.Method != http.MethodGet, f.Origin != "" && f.Site == "":
		return startRefused
	case f.Mode != "" && f.Mode != "navigate", f.Dest != "" && f.Dest != "document":
		return startRefused
	case f.Site == "" || f.Site == "same-origin" || f.Site == "none":
		return startHere
	}
	return startForeign
}

// begin makes the transaction and goes to the provider.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, a ask) {
	tx := transaction{
		ID: web.NewID(), Provider: a.provider.Config.Name, Issuer: a.provider.Client.Issuer(),
		Nonce: random(), Verifier: random(), ReturnTo: a.returnTo, Started: time.Now().UTC(),
		Mode: a.mode, Prompt: a.prompt, ACRValues: a.acrValues,
	}
	if n, err := strconv.Atoi(a.maxAge); err == nil {
		tx.MaxAge, tx.Again = time.Duration(n)*time.Second, n == 0
	}
	request := oidc.AuthRequest{
		RedirectURI: h.redirectURI(a.provider), State: tx.ID, Nonce: tx.Nonce, Verifier: tx.Verifier,
		Prompt: a.prompt, LoginHint: a.loginHint, ACRValues: a.acrValues, MaxAge: a.maxAge, UILocales: a.uiLocales,
	}
	if live := h.current(r); live != nil {
		s := live.Session()
		tx.Handle, tx.OldIss, tx.OldSub, tx.OldUser = s.Handle, s.Issuer, s.Subject, gate.NameOf(s)
	}
	url, err := a.provider.Client.AuthorizeURL(r.Context(), request)
	if err != nil {
		h.unavailable(w, r, a, err)
		return
	}
	site := http.SameSiteLaxMode
	if a.mode == iframe {
		site = http.SameSiteNoneMode
	}
	h.Transactions.Room(w, r)
	if err := h.Transactions.Put(w, tx.ID, purposeLogin, site, tx); err != nil {
		h.refuse(w, r, web.NewProblem(web.CodeInvalidRequest, "return_to is too long.").Because(err))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	http.Redirect(w, r, url, http.StatusFound)
}

// unavailable is the answer when the provider cannot be asked. A silent login in a frame says "no" to its parent.
func (h *Handler) unavailable(w http.ResponseWriter, r *http.Request, a ask, err error) {
	if a.mode == iframe {
		h.Pages.Silent(w, r, false)
		return
	}
	h.refuse(w, r, providerDown(err))
}

// random makes a nonce or a verifier: 32 random bytes as 43 characters of the set that RFC 7636 section 4.1 allows.
func random() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "")
	}
	return s
}
