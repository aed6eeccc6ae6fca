package login

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// finished is what stays of a transaction, in its cookie, until its ten minutes are over: a callback that is
// loaded again (reload, restored tab, back button) goes where the login went.
type finished struct {
	ReturnTo string `json:"r"`
}

const purposeFinished = "finished"

// answer is what the provider sent the browser back with.
type answer struct{ state, code, iss, failure string }

// Callback serves GET /auth/callback and /auth/callback/{provider}: it ends a hosted login.
//
// The address of a page that is shown here holds a code, so it goes into no Referer (RFC 9700 section 4.2.4).
func (h *Handler) Callback(w http.ResponseWriter, r *http.Request, provider string) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	a, ok := answerOf(r)
	if !ok {
		h.broken(w, r, "/", errors.New("the callback's parameters are missing, doubled or too long"))
		return
	}
	tx := transaction{}
	if !h.Transactions.Get(r, a.state, purposeLogin, &tx) {
		h.again(w, r, a.state)
		return
	}
	tx.ID = a.state
	p, err := h.match(tx, a, provider)
	if err != nil {
		h.Transactions.Cookies.ClearTransaction(w, tx.ID)
		h.failed(w, r, tx, err)
		return
	}
	h.once(w, r, p, tx, a)
}

// answerOf reads the callback's query. A parameter that comes twice is somebody's trick.
func answerOf(r *http.Request) (answer, bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return answer{}, false
	}
	for _, name := range []string{"state", "code", "iss", "error"} {
		if v := q[name]; len(v) > 1 || len(v) == 1 && len(v[0]) > 4096 {
			return answer{}, false
		}
	}
	a := answer{state: q.Get("state"), code: q.Get("code"), iss: q.Get("iss"), failure: q.Get("error")}
	return a, web.ValidID(a.state) && (a.code == "") != (a.failure == "")
}

// match checks that the answer belongs to the transaction: in time, from the same provider (RFC 9207), at that
// provider's address.
func (h *Handler) match(tx transaction, a answer, provider string) (Provider, error) {
	if time.Since(tx.Started) > web.TransactionLife {
		return Provider{}, errors.New("the login took longer than ten minutes")
	}
	p, ok := h.pick(tx.Provider, canRedirect)
	if !ok || p.Client.Issuer() != tx.Issuer {
		return Provider{}, errors.New("the provider of this login is not configured any more")
	}
	if len(h.Providers) > 1 && provider != tx.Provider || len(h.Providers) == 1 && provider != "" {
		return Provider{}, errors.New("the answer came to another provider's callback address")
	}
	return p, p.Client.CheckIss(a.iss)
}

// result is a callback that runs or just ran. A second load of the same address waits for the first one's result
// and answers with it: the first one's answer may never have reached the browser.
type result struct {
	done   chan struct{}
	answer func(http.ResponseWriter, *http.Request)
}

// resultLife is how long a result can be asked for again in this process.
const resultLife = time.Minute

// once runs the exchange for the first load of a callback, and lets all others wait for it.
func (h *Handler) once(w http.ResponseWriter, r *http.Request, p Provider, tx transaction, a answer) {
	h.mu.Lock()
	res, running := h.results[tx.ID]
	if !running {
		res = &result{done: make(chan struct{})}
		h.results[tx.ID] = res
	}
	h.mu.Unlock()
	if !running {
		res.answer = h.end(r, p, tx, a)
		close(res.done)
		time.AfterFunc(resultLife, func() {
			h.mu.Lock()
			delete(h.results, tx.ID)
			h.mu.Unlock()
		})
	}
	select {
	case <-res.done:
		res.answer(w, r)
	case <-r.Context().Done():
	}
}

// end marks the transaction spent, asks the provider, and returns how to answer.
func (h *Handler) end(r *http.Request, p Provider, tx transaction, a answer) func(http.ResponseWriter, *http.Request) {
	ctx, cancel := detached(r)
	defer cancel()
	first, err := h.Store.Once(ctx, "transaction:"+h.origin+":"+tx.ID, tx.Started.Add(2*web.TransactionLife))
	switch {
	case err != nil:
		return func(w http.ResponseWriter, r *http.Request) {
			h.refuse(w, r, web.NewProblem(web.CodeStoreUnavailable, "Try again in a moment.").After(5*time.Second).Because(err))
		}
	case !first: // spent by another process, or before a restart
		return func(w http.ResponseWriter, r *http.Request) { h.again(w, r, tx.ID) }
	case a.failure != "":
		return h.declined(tx, a.failure)
	}
	expect := oidc.Expect{Nonce: tx.Nonce, MaxAge: tx.MaxAge, ACRValues: tx.ACRValues}
	if tx.Again { // max_age=0 asks for a login that is newer than the question (OIDC Core section 3.1.2.1)
		expect.MaxAge = max(time.Since(tx.Started), time.Second)
	}
	exchange, err := p.Client.Exchange(ctx, a.code, tx.Verifier, h.redirectURI(p), expect)
	if err != nil {
		return func(w http.ResponseWriter, r *http.Request) {
			h.Transactions.Cookies.ClearTransaction(w, tx.ID)
			h.failed(w, r, tx, err)
		}
	}
	return h.finish(r, p, tx, exchange)
}

// finish turns an exchange into a session. Another user than the one who is logged in is never swapped silently.
func (h *Handler) finish(r *http.Request, p Provider, tx transaction, x oidc.Exchange) func(http.ResponseWriter, *http.Request) {
	ctx, cancel := detached(r)
	defer cancel()
	if tx.Handle != "" && (tx.OldIss != x.Claims.Issuer || tx.OldSub != x.Claims.Subject) {
		if _, alive := h.Sessions.Alive(ctx, tx.Handle); alive {
			return h.otherUser(r, p, tx, x)
		}
	}
	ticket, live, err := h.Sessions.Create(ctx, from(r, session.Login{
		Provider: p.Config.Name, Method: "redirect", Exchange: x, ReplacesHandle: tx.Handle,
	}))
	if err != nil {
		return func(w http.ResponseWriter, r *http.Request) {
			h.Transactions.Cookies.ClearTransaction(w, tx.ID)
			h.refuse(w, r, notKept(err))
		}
	}
	h.audit(r, event.Audit{Kind: event.Login, Provider: p.Config.Name, Session: live.Session().Handle, Reason: "redirect"})
	return func(w http.ResponseWriter, r *http.Request) {
		h.handOver(w, ticket, false)
		h.leave(w, r, tx, true)
	}
}

// leave ends the transaction and goes where it was to lead.
func (h *Handler) leave(w http.ResponseWriter, r *http.Request, tx transaction, authenticated bool) {
	if err := h.Transactions.Put(w, tx.ID, purposeFinished, http.SameSiteLaxMode, finished{ReturnTo: tx.ReturnTo}); err != nil {
		h.Transactions.Cookies.ClearTransaction(w, tx.ID)
	}
	if tx.Mode == iframe {
		h.Pages.Silent(w, r, authenticated)
		return
	}
	h.goTo(w, r, tx.ReturnTo, http.StatusFound)
}

func (h *Handler) goTo(w http.ResponseWriter, r *http.Request, path string, status int) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	http.Redirect(w, r, path, status)
}

// again answers a callback whose transaction is over or unknown here: to where the login went if this browser
// finished it, to the app if it is logged in anyway, else the page with "try again".
func (h *Handler) again(w http.ResponseWriter, r *http.Request, id string) {
	var f finished
	if h.Transactions.Get(r, id, purposeFinished, &f) {
		h.goTo(w, r, f.ReturnTo, http.StatusFound)
		return
	}
	if h.current(r) != nil {
		h.goTo(w, r, "/", http.StatusFound)
		return
	}
	h.broken(w, r, "/", errors.New("no login with this state is in progress in this browser"))
}

// declined answers an error of the provider. Silent logins and prompt=none simply report "not logged in".
func (h *Handler) declined(tx transaction, code string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		if tx.Mode != normal || tx.Prompt == "none" {
			h.leave(w, r, tx, false)
			return
		}
		h.Transactions.Cookies.ClearTransaction(w, tx.ID)
		h.failed(w, r, tx, errors.New("the provider declined: "+asciiWord(code)))
	}
}

// failed says that a login did not succeed. The provider's words go to the log at most.
func (h *Handler) failed(w http.ResponseWriter, r *http.Request, tx transaction, err error) {
	h.audit(r, event.Audit{Kind: event.LoginFailed, Provider: tx.Provider, Reason: "redirect", Detail: err.Error()})
	if tx.Mode == iframe {
		h.Pages.Silent(w, r, false)
		return
	}
	h.broken(w, r, tx.ReturnTo, err)
}

// broken shows the page with "try again". It is a person's address, so it is HTML for everyone.
func (h *Handler) broken(w http.ResponseWriter, r *http.Request, returnTo string, cause error) {
	problem := web.NewProblem(web.CodeLoginFailed, "The login could not be completed. Please try again.").Because(cause)
	if oidc.IsKind(cause, oidc.Transient) || oidc.IsKind(cause, oidc.Ambiguous) {
		problem = web.NewProblem(web.CodeLoginFailed, "The login service did not answer. Please try again in a moment.").Because(cause)
	}
	h.Gate.Page(w, r, problem.Login(loginPath(returnTo)))
}

// loginPath is the login page's address with a return_to.
func loginPath(returnTo string) string {
	if returnTo == "" || returnTo == "/" {
		return "/auth/login"
	}
	return "/auth/login?return_to=" + url.QueryEscape(returnTo)
}

// asciiWord cuts an OAuth error code to the characters one may have (RFC 6749 section 4.1.2.1), for the log.
func asciiWord(s string) string {
	out := make([]byte, 0, 64)
	for i := 0; i < len(s) && len(out) < 64; i++ {
		if c := s[i]; c == '_' || c == '-' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			out = append(out, c)
		}
	}
	return string(out)
}
