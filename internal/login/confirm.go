package login

import (
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// switching is a login that gave another user than the one who is logged in. The new session exists, but its
// ticket is not handed over before the person agrees: a link of another site must not swap the user unseen.
type switching struct {
	Ticket    string    `json:"t"`
	OldHandle string    `json:"h"`
	ReturnTo  string    `json:"r"`
	Started   time.Time `json:"s"`
}

const purposeSwitch = "switch"

// otherUser answers a login of another user: a page that asks, or, where nothing can be shown, the end of the old
// session without a new one (OIDC session management: another subject counts as a logout).
func (h *Handler) otherUser(r *http.Request, p Provider, tx transaction, x oidc.Exchange) func(http.ResponseWriter, *http.Request) {
	ctx, cancel := detached(r)
	defer cancel()
	if tx.Mode != normal {
		err := h.Sessions.EndHandle(ctx, tx.Handle, session.ReasonSubjectChanged)
		if revokeErr := p.Client.Revoke(ctx, x.Tokens); err == nil {
			err = revokeErr
		}
		return func(w http.ResponseWriter, r *http.Request) {
			if info := web.InfoOf(r); info != nil {
				info.Cause = err
			}
			h.Transactions.Cookies.ClearTicket(w)
			h.leave(w, r, tx, false)
		}
	}
	ticket, live, err := h.Sessions.Create(ctx, from(r, session.Login{Provider: p.Config.Name, Method: "redirect", Exchange: x}))
	if err != nil {
		return func(w http.ResponseWriter, r *http.Request) {
			h.refuse(w, r, notKept(err))
		}
	}
	name := gate.NameOf(live.Session())
	return func(w http.ResponseWriter, r *http.Request) {
		pending := switching{Ticket: ticket.Reveal(), OldHandle: tx.Handle, ReturnTo: tx.ReturnTo, Started: time.Now().UTC()}
		if err := h.Transactions.Put(w, tx.ID, purposeSwitch, http.SameSiteLaxMode, pending); err != nil {
			h.broken(w, r, tx.ReturnTo, err)
			return
		}
		h.Pages.Confirm(w, r, page.Confirm{OldUser: tx.OldUser, NewUser: name, Action: "/auth/login/confirm", Token: tx.ID})
	}
}

// Confirm serves POST /auth/login/confirm, the answer to that page: continue as the new user, or stay.
func (h *Handler) Confirm(w http.ResponseWriter, r *http.Request) {
	if _, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.None, Action: true}); refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	if err := r.ParseForm(); err != nil {
		h.refuse(w, r, web.NewProblem(web.CodeInvalidRequest, "The form cannot be read.").Because(err))
		return
	}
	id := r.PostForm.Get("token")
	var pending switching
	if !h.Transactions.Get(r, id, purposeSwitch, &pending) || time.Since(pending.Started) > web.TransactionLife {
		h.refuse(w, r, web.NewProblem(web.CodeLoginExpired, "Start the login again.").Login("/auth/login"))
		return
	}
	h.Transactions.Cookies.ClearTransaction(w, id)
	ticket, err := session.ParseTicket(pending.Ticket)
	if err != nil {
		h.refuse(w, r, web.NewProblem(web.CodeLoginExpired, "Start the login again.").Login("/auth/login"))
		return
	}
	ctx, cancel := detached(r)
	defer cancel()
	live, err := h.Sessions.Lookup(ctx, ticket)
	if err != nil {
		h.refuse(w, r, web.NewProblem(web.CodeLoginExpired, "Start the login again.").Login("/auth/login").Because(err))
		return
	}
	if r.PostForm.Get("choice") != "continue" {
		if _, err := h.Sessions.End(ctx, live, session.ReasonDeclined); err != nil {
			web.InfoOf(r).Cause = err
		}
		h.goTo(w, r, pending.ReturnTo, http.StatusSeeOther)
		return
	}
	if err := h.Sessions.EndHandle(ctx, pending.OldHandle, session.ReasonReplaced); err != nil {
		h.refuse(w, r, web.NewProblem(web.CodeStoreUnavailable, "Try again in a moment.").After(5*time.Second).Because(err))
		return
	}
	s := live.Session()
	h.audit(r, event.Audit{Kind: event.Login, Provider: s.Provider, Session: s.Handle, Reason: "redirect"})
	h.handOver(w, ticket, false)
	h.goTo(w, r, pending.ReturnTo, http.StatusSeeOther)
}
