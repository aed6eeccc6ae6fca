package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// shown is a session as the operator sees it.
type shown struct {
	ID         string                     `json:"id"`
	Frontend   string                     `json:"frontend"`
	Provider   string                     `json:"provider"`
	Issuer     string                     `json:"issuer"`
	Subject    string                     `json:"subject"`
	SID        string                     `json:"sid,omitempty"`
	Name       string                     `json:"name,omitempty"`
	Method     string                     `json:"method"`
	Remember   bool                       `json:"remember"`
	CreatedAt  time.Time                  `json:"created_at"`
	AuthTime   time.Time                  `json:"auth_time"`
	LastActive time.Time                  `json:"last_active"`
	ExpiresAt  time.Time                  `json:"expires_at"`
	ACR        string                     `json:"acr,omitempty"`
	AMR        []string                   `json:"amr,omitempty"`
	Device     string                     `json:"device,omitempty"`
	Address    string                     `json:"address,omitempty"`
	User       map[string]json.RawMessage `json:"user,omitempty"` // of one session only
}

func shownOf(e session.Entry) shown {
	s := e.Session
	return shown{
		ID: s.Handle, Frontend: s.Frontend, Provider: s.Provider, Issuer: s.Issuer, Subject: s.Subject, SID: s.SID,
		Name: gate.NameOf(s), Method: s.Method, Remember: s.Remember, CreatedAt: s.Created.UTC(), AuthTime: s.AuthTime.UTC(),
		LastActive: e.LastActive.UTC().Truncate(time.Second), ExpiresAt: e.Ends.UTC().Truncate(time.Second),
		ACR: s.ACR, AMR: s.AMR, Device: s.Device, Address: s.Address,
	}
}

// request is what a query string asks for.
type request struct {
	session.Filter
	after string
	limit int
	all   bool
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// read reads a query of filters and these extra parameters. A parameter that is not known, comes twice or is empty is an error, never ignored: it was meant
// to narrow what is listed, or ended.
func read(r *http.Request, extra ...string) (request, *web.Problem) {
	req := request{limit: defaultLimit}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return req, invalid("The query cannot be read.")
	}
	for name, list := range values {
		switch {
		case !slices.Contains(filters, name) && !slices.Contains(extra, name):
			return req, invalid(fmt.Sprintf("The parameter %.100q is not known here.", name))
		case len(list) != 1 || list[0] == "":
			return req, invalid(fmt.Sprintf("The parameter %q is empty, or comes more than once.", name))
		}
		if err := req.set(name, list[0]); err != nil {
			return req, invalid(fmt.Sprintf("The parameter %q: %v.", name, err))
		}
	}
	return req, nil
}

var filters = []string{"frontend", "provider", "subject", "sid", "created_before", "idle_since"}

func (q *request) set(name, value string) (err error) {
	switch name {
	case "frontend":
		q.Frontend = value
	case "provider":
		q.Provider = value
	case "subject":
		q.Subject = value
	case "sid":
		q.SID = value
	case "created_before":
		q.CreatedBefore, err = instant(value)
	case "idle_since":
		q.IdleSince, err = instant(value)
	case "after":
		q.after = value
	case "limit":
		if q.limit, err = strconv.Atoi(value); err != nil || q.limit < 1 || q.limit > maxLimit {
			return fmt.Errorf("a number from 1 to %d is meant", maxLimit)
		}
	case "all":
		if q.all = value == "true"; !q.all {
			return errors.New("true is meant")
		}
	}
	return err
}

func instant(value string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return t, errors.New("a time like 2026-01-31T12:00:00Z is meant (RFC 3339)")
	}
	return t, nil
}

func invalid(detail string) *web.Problem { return web.NewProblem(web.CodeInvalidRequest, detail) }

// list is GET /api/sessions.
func (a *api) list(w http.ResponseWriter, r *http.Request) *web.Problem {
	req, problem := read(r, "after", "limit")
	if problem != nil {
		return problem
	}
	entries, next, err := a.Sessions.List(r.Context(), req.Filter, req.after, req.limit)
	if err != nil {
		return problemOf(err)
	}
	answer := struct {
		Sessions []shown `json:"sessions"`
		Next     *string `json:"next"`
	}{Sessions: make([]shown, len(entries))}
	for i, e := range entries {
		answer.Sessions[i] = shownOf(e)
	}
	if next != "" {
		answer.Next = &next
	}
	web.WriteJSON(w, http.StatusOK, answer)
	return nil
}

func idIn(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/api/sessions/") }

// show is GET /api/sessions/{id}.
func (a *api) show(w http.ResponseWriter, r *http.Request) *web.Problem {
	e, err := a.Sessions.Show(r.Context(), idIn(r))
	if err != nil {
		return problemOf(err)
	}
	answer := shownOf(e)
	answer.User = e.Session.User
	web.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// endOne is DELETE /api/sessions/{id}.
func (a *api) endOne(w http.ResponseWriter, r *http.Request) *web.Problem {
	if r.URL.RawQuery != "" {
		return invalid("With an id there is no parameter.")
	}
	if err := a.Sessions.End(r.Context(), idIn(r)); err != nil {
		return problemOf(err)
	}
	web.WriteJSON(w, http.StatusOK, ended{1})
	return nil
}

// ended is how many sessions were ended.
type ended struct {
	Ended int `json:"ended"`
}

// endMany is DELETE /api/sessions. It must be said whose sessions are meant, or that all are.
func (a *api) endMany(w http.ResponseWriter, r *http.Request) *web.Problem {
	req, problem := read(r, "all")
	if problem != nil {
		return problem
	}
	narrow := req.Subject != "" || req.SID != "" || !req.CreatedBefore.IsZero() || !req.IdleSince.IsZero()
	if !narrow && !req.all {
		return web.NewProblem(web.CodeChoiceRequired,
			"Say provider and subject (or sid), created_before or idle_since; or all=true for everything that frontend and provider select.")
	}
	if narrow && req.all {
		return web.NewProblem(web.CodeChoiceRequired, "Say all=true, or whose sessions are meant; not both.")
	}
	n, err := a.Sessions.EndAll(r.Context(), req.Filter)
	if err != nil {
		problem := problemOf(err)
		if n > 0 {
			problem.Detail = fmt.Sprintf("%d sessions were ended, then: %s", n, problem.Detail)
		}
		return problem
	}
	web.WriteJSON(w, http.StatusOK, ended{n})
	return nil
}
