package page

import (
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
)

// Problem is a problem for a person's eyes. What the code means is said in the reader's language; Title is used only
// where the code is not known, and Detail, which speaks to developers, is folded away.
type Problem struct {
	Status     int
	Code       string
	Title      string
	Detail     string
	RequestID  string        // the request's own if empty
	RetryURL   string        // "try again", or "log in" where that is the mend; "" shows no button
	HomeURL    string        // "" shows no button
	RetryAfter time.Duration // said in words, and sent as Retry-After
}

// Problem shows what went wrong and how to go on.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, v Problem) {
	t := p.textFor(r)
	said := t.say(v.Code, v.RetryAfter)
	if _, known := t.Codes[v.Code]; !known && v.Title != "" {
		said.Title = v.Title
	}
	if info := web.InfoOf(r); v.RequestID == "" && info != nil {
		v.RequestID = info.ID
	}
	if v.Status < 100 {
		v.Status = http.StatusInternalServerError
	}
	retryAfter(w, v.RetryAfter)
	p.show(w, r, v.Status, "problem", sheet{T: t, Title: said.Title, Data: struct {
		Problem
		Says says
	}{v, said}})
}
