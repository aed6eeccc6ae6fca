// Package account is what a browser can do with the session it has: see it, keep it alive, follow it, end it, and see
// and end the person's other sessions.
package account

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
)

// Options make a Handler. All of them belong to one frontend.
type Options struct {
	Origin       string
	Providers    map[string]*oidc.Provider // by name
	Sessions     *session.Manager
	Gate         *gate.Gate
	Transactions web.Transactions
	Store        store.Store
	Pages        *page.Pages
	Tokens       map[string]TokenRoute // by the route's name
	PerAddress   *limit.GCRA
	Events       event.Sink
}

// Handler serves /auth/session, /auth/sessions, /auth/events and all logouts of one frontend.
type Handler struct {
	Options
	streams *streams
}

// New makes a handler.
func New(o Options) *Handler { return &Handler{Options: o, streams: newStreams()} }

// Close ends the event streams. Those that come later end at once.
func (h *Handler) Close() { h.streams.close() }

// Session serves GET /auth/session: who is logged in. Asking is not activity, or polling would keep people logged
// in for ever.
func (h *Handler) Session(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r),
		gate.Requirement{Session: gate.Optional, Action: true, Quiet: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	h.Gate.Apply(w, pass)
	gate.Vary(w)
	web.WriteJSON(w, http.StatusOK, gate.ViewOf(pass.Live))
}

// Touch serves POST /auth/session/touch: "stay signed in".
func (h *Handler) Touch(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.Required, Action: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	gate.Vary(w)
	web.WriteJSON(w, http.StatusOK, gate.ViewOf(pass.Live))
}

// ConfirmLogout serves GET /auth/logout: a page that asks, because a GET must end nothing.
func (h *Handler) ConfirmLogout(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r),
		gate.Requirement{Session: gate.Optional, Action: true, Pages: true, Quiet: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	h.Gate.Apply(w, pass)
	returnTo := returnToOr(r.URL.Query().Get("return_to"), "/")
	v := page.Logout{Action: "/auth/logout", ReturnTo: returnTo}
	if pass.Live != nil {
		s := pass.Live.Session()
		v.User, v.Everywhere = gate.NameOf(s), true
		if p := h.Providers[s.Provider]; p != nil && s.Method == "redirect" {
			v.FormOrigins = origins(p.EndSessionURL(oidc.Logout{}))
		}
	}
	h.Pages.Logout(w, r, v)
}

// logoutRequest is the body of POST /auth/logout.
type logoutRequest struct {
	Everywhere bool   `json:"everywhere"`
	ReturnTo   string `json:"return_to"`
}

// logoutDone is its answer.
type logoutDone struct {
	Status    string  `json:"status"`
	LogoutURL *string `json:"logout_url"`
}

// Logout serves POST /auth/logout: it ends the session here, revokes its tokens, and says where to go to end the
// provider's session, too. Logging out without a session is fine.
func (h *Handler) Logout(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r),
		gate.Requirement{Session: gate.Optional, Action: true, Quiet: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	ask, html, problem := readLogout(w, r)
	if problem != nil {
		h.Gate.Refuse(w, r, &gate.Refusal{Problem: problem})
		return
	}
	var next string
	if pass.Live != nil {
		hint := h.Sessions.Tokens(pass.Live).ID
		if err := h.end(r, pass.Live, ask.Everywhere); err != nil {
			h.Gate.Refuse(w, r, &gate.Refusal{Problem: web.NewProblem(web.CodeStoreUnavailable,
				"You are not logged out yet. Try again in a moment.").After(5 * time.Second).Because(err)})
			return
		}
		next = h.begin(w, r, pass.Live.Session(), hint)
	}
	h.Transactions.Cookies.ClearTicket(w)
	if !html {
		answer := logoutDone{Status: "done"}
		if next != "" {
			answer.LogoutURL = &next
		}
		web.WriteJSON(w, http.StatusOK, answer)
		return
	}
	if next == "" {
		next = ask.ReturnTo
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// end ends the session, and with everywhere the person's others before it: if those cannot be ended, this one stays,
// so that trying again is possible.
func (h *Handler) end(r *http.Request, l *session.Live, everywhere bool) error {
	ctx, cancel := detached(r)
	defer cancel()
	s, detail := l.Session(), ""
	if everywhere {
		n, err := h.Sessions.EndAll(ctx, whose(l), s.Handle, session.ReasonEverywhere)
		if err != nil {
			return err
		}
		if err := h.Sessions.ForgetDevices(ctx, s.Issuer, s.Subject); err != nil {
			return err
		}
		detail = "everywhere: " + strconv.Itoa(n) + " others"
	}
	revoked, err := h.Sessions.End(ctx, l, session.ReasonLogout)
	if err != nil {
		return err
	}
	h.audit(r, event.Audit{Kind: event.Logout, Session: s.Handle, Provider: s.Provider, Revoked: yesNo(revoked), Detail: detail})
	return nil
}

// readLogout reads the body: JSON, a form, or nothing at all.
func readLogout(w http.ResponseWriter, r *http.Request) (ask logoutRequest, html bool, problem *web.Problem) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4096))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return ask, false, web.NewProblem(web.CodeTooLarge, "The request may have at most 4 KiB.")
	}
	if err != nil {
		return ask, false, web.NewProblem(web.CodeInvalidRequest, "The request ended early.").Because(err)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case kind == "application/x-www-form-urlencoded":
		html = true
		values, err := parseForm(raw)
		if err != nil {
			return ask, html, web.NewProblem(web.CodeInvalidRequest, "The form cannot be read.")
		}
		ask.ReturnTo, ask.Everywhere = values.Get("return_to"), values.Get("everywhere") != ""
	case len(raw) == 0:
	case kind != "application/json":
		return ask, false, web.NewProblem(web.CodeUnsupportedType, "Send application/json or application/x-www-form-urlencoded.")
	default:
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&ask); err != nil || dec.More() {
			return ask, false, web.NewProblem(web.CodeInvalidRequest, `The body is {"return_to": "/path", "everywhere": true}, both optional, or nothing.`)
		}
	}
	ask.ReturnTo = returnToOr(ask.ReturnTo, "/")
	return ask, html, nil
}
