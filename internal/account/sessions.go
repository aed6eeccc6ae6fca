package account

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// A person's own sessions: those of this frontend with the same provider, client and subject as the session that
// asks. Of any other session nothing is told, not even that it exists.

// sessionsPath is where they are listed.
const sessionsPath = "/auth/sessions"

const (
	defaultLimit = 50
	maxLimit     = 100
)

// listed is one session in the answer to GET /auth/sessions. Times are RFC 3339, UTC.
type listed struct {
	ID         string    `json:"id"`
	CreatedAt  time.Time `json:"created_at"`
	LastActive time.Time `json:"last_active_at"`
	AuthTime   time.Time `json:"auth_time"`
	ExpiresAt  time.Time `json:"expires_at"`
	Device     string    `json:"device"`
	Address    string    `json:"address"`
	Provider   string    `json:"provider"`
	Current    bool      `json:"current"`
}

// listing is the answer.
type listing struct {
	Sessions []listed `json:"sessions"`
	Next     string   `json:"next,omitempty"`
}

// List serves GET /auth/sessions, to people as a page.
func (h *Handler) List(w http.ResponseWriter, r *http.Request) {
	f := h.Gate.Facts(r)
	pass, refusal := h.Gate.Decide(r.Context(), f, gate.Requirement{Session: gate.Required, Action: true, Pages: true, Quiet: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	limit, problem := limitOf(r.URL.Query().Get("limit"))
	if problem != nil {
		h.Gate.Refuse(w, r, &gate.Refusal{Problem: problem})
		return
	}
	entries, next, err := h.own(r.Context(), pass.Live, r.URL.Query().Get("after"), limit)
	if err != nil {
		h.refuseList(w, r, err)
		return
	}
	gate.Vary(w)
	if f.HTML {
		h.showSessions(w, r, pass.Live, entries, next)
		return
	}
	answer := listing{Sessions: make([]listed, len(entries)), Next: next}
	current := pass.Live.Session().Handle
	for i, e := range entries {
		s := e.Session
		answer.Sessions[i] = listed{
			ID: s.Handle, CreatedAt: whole(s.Created), LastActive: whole(e.LastActive), AuthTime: whole(s.AuthTime),
			ExpiresAt: whole(e.Ends), Device: s.Device, Address: s.Address, Provider: s.Provider, Current: s.Handle == current,
		}
	}
	web.WriteJSON(w, http.StatusOK, answer)
}

func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func limitOf(s string) (int, *web.Problem) {
	if s == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, web.NewProblem(web.CodeInvalidRequest, fmt.Sprintf("limit is a number from 1 to %d.", maxLimit))
	}
	return min(n, maxLimit), nil
}

// own is one page of a person's sessions: the one that asks first, on the first page and beyond the limit; then the
// others, those of a page by their activity. Which page one is on is the store's affair: an order of all would have to
// read all.
func (h *Handler) own(ctx context.Context, l *session.Live, after string, limit int) ([]session.Entry, string, error) {
	var entries []session.Entry
	place, ok := h.openCursor(l.Session(), after)
	if !ok {
		return nil, "", session.ErrCursor
	}
	if after == "" {
		entries = append(entries, session.EntryOf(l))
	}
	found, next, err := h.Sessions.List(ctx, whose(l), place, limit)
	if err != nil {
		return nil, "", err
	}
	found = slices.DeleteFunc(found, func(e session.Entry) bool { return e.Session.Handle == l.Session().Handle })
	slices.SortStableFunc(found, func(a, b session.Entry) int { return b.LastActive.Compare(a.LastActive) })
	if next != "" {
		next = h.sealCursor(l.Session(), next)
	}
	return append(entries, found...), next, nil
}

// whose are the sessions of the same person.
func whose(l *session.Live) session.Who {
	return session.Who{Provider: l.Session().Provider, Subject: l.Session().Subject}
}

// mine reports whether both sessions are of the same person, as a list would say.
func mine(l *session.Live, other *session.Session) bool {
	s := l.Session()
	return s.Provider == other.Provider && s.Issuer == other.Issuer && s.ClientID == other.ClientID && s.Subject == other.Subject
}

// A cursor is sealed: a store's places are its own affair, and it gets back only those that it gave.
func (h *Handler) cursor(s *session.Session) seal.Context {
	return seal.Context{Purpose: "sessions", Frontend: h.Origin, ID: s.Issuer + " " + s.Subject, Field: "cursor"}
}

func (h *Handler) sealCursor(s *session.Session, place string) string {
	return base64.RawURLEncoding.EncodeToString(h.Transactions.Ring.Seal(h.cursor(s), []byte(place)))
}

func (h *Handler) openCursor(s *session.Session, cursor string) (place string, ok bool) {
	if cursor == "" {
		return "", true
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return "", false
	}
	plain, err := h.Transactions.Ring.Open(h.cursor(s), sealed)
	return string(plain), err == nil
}

func (h *Handler) refuseList(w http.ResponseWriter, r *http.Request, err error) {
	problem := web.NewProblem(web.CodeInvalidRequest, "after is not a next that a list gave. Begin again without it.")
	if !errors.Is(err, session.ErrCursor) {
		problem = web.NewProblem(web.CodeStoreUnavailable, "You are still logged in. Try again in a moment.").After(5 * time.Second)
	}
	h.Gate.Refuse(w, r, &gate.Refusal{Problem: problem.Because(err)})
}

// EndOne serves DELETE /auth/sessions/{id}.
func (h *Handler) EndOne(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.Required, Action: true, Quiet: true})
	if refusal == nil {
		refusal = h.endOne(w, r, pass.Live, strings.TrimPrefix(r.URL.Path, sessionsPath+"/"))
	}
	h.done(w, r, refusal)
}

// EndOthers serves DELETE /auth/sessions.
func (h *Handler) EndOthers(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.Required, Action: true, Quiet: true})
	if refusal == nil {
		refusal = h.endOthers(r, pass.Live)
	}
	h.done(w, r, refusal)
}

func (h *Handler) done(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	gate.Vary(w)
	w.WriteHeader(http.StatusNoContent)
}

// EndByForm serves POST /auth/sessions: the page's forms, which cannot send DELETE. Whatever became of it, the page
// tells how things stand now; without a session, the login.
func (h *Handler) EndByForm(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.Required, Action: true, Quiet: true})
	if refusal != nil {
		if refusal.Problem.LoginURL != "" {
			refusal.Login = refusal.Problem.LoginURL + "?return_to=" + url.QueryEscape(sessionsPath)
		}
		h.Gate.Refuse(w, r, refusal)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	if err := r.ParseForm(); err != nil {
		h.Gate.Refuse(w, r, &gate.Refusal{Problem: web.NewProblem(web.CodeInvalidRequest, "The form cannot be read.").Because(err)})
		return
	}
	switch what := r.PostForm.Get("end"); what {
	case "others":
		refusal = h.endOthers(r, pass.Live)
	default:
		refusal = h.endOne(w, r, pass.Live, what)
	}
	if refusal != nil && refusal.Problem.Code != web.CodeNotFound { // one that is gone already is what was wanted
		h.Gate.Refuse(w, r, refusal)
		return
	}
	http.Redirect(w, r, sessionsPath, http.StatusSeeOther)
}

// endOne ends a session of the same person.
func (h *Handler) endOne(w http.ResponseWriter, r *http.Request, l *session.Live, handle string) *gate.Refusal {
	ctx, cancel := detached(r)
	defer cancel()
	e, err := h.Sessions.Show(ctx, handle)
	if errors.Is(err, session.ErrEnded) || err == nil && !mine(l, e.Session) {
		return &gate.Refusal{Problem: web.NewProblem(web.CodeNotFound, "You have no such session.")}
	}
	if err == nil {
		err = h.Sessions.EndHandle(ctx, handle, session.ReasonUser)
	}
	if err != nil {
		return notEnded(err)
	}
	h.audit(r, event.Audit{Kind: event.UserEnd, Session: l.Session().Handle, Provider: e.Session.Provider, Detail: handle})
	if handle == l.Session().Handle {
		h.Transactions.Cookies.ClearTicket(w)
	}
	return nil
}

// endOthers ends all sessions of the person but this one.
func (h *Handler) endOthers(r *http.Request, l *session.Live) *gate.Refusal {
	ctx, cancel := detached(r)
	defer cancel()
	s := l.Session()
	n, err := h.Sessions.EndAll(ctx, whose(l), s.Handle, session.ReasonUser)
	if err != nil {
		return notEnded(err)
	}
	h.audit(r, event.Audit{Kind: event.UserEnd, Session: s.Handle, Provider: s.Provider, Detail: strconv.Itoa(n) + " others"})
	return nil
}

func notEnded(err error) *gate.Refusal {
	return &gate.Refusal{Problem: web.NewProblem(web.CodeStoreUnavailable,
		"Not everything is ended yet. Try again in a moment.").After(5 * time.Second).Because(err)}
}

// detached is a context for what is to be done even if the browser does not wait for the answer.
func detached(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
}

func (h *Handler) audit(r *http.Request, a event.Audit) {
	a.Time, a.Frontend = time.Now(), h.Origin
	if info := web.InfoOf(r); info != nil {
		a.RequestID, a.Client = info.ID, info.Client.String()
	}
	h.Events.Emit(&a)
}
