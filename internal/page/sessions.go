package page

import (
	"fmt"
	"net/http"
	"time"
)

// Sessions is the list of a person's own sessions. The form of each posts end with the session's id, the one below
// them end=others.
type Sessions struct {
	List      []Session
	Action    string // where the forms post to
	LogoutURL string // for the session that asks
	HomeURL   string
	FirstURL  string // back to the first page, "" on it
	NextURL   string // the next page, "" on the last
}

// Session is one of them.
type Session struct {
	ID         string
	Device     string // "" if unknown
	Address    string // "" if unknown
	Provider   string // "" where there is only one
	LoggedIn   time.Time
	LastActive time.Time
	Current    bool // the one that asks
}

// sessionRow is a session in words.
type sessionRow struct {
	Session
	Name                 string
	EndLabel             string // tells the buttons apart for those who only hear them
	ActiveAt, ActiveSays string
	LoginAt, LoginSays   string
	LogoutURL            string
}

// Sessions shows the list.
func (p *Pages) Sessions(w http.ResponseWriter, r *http.Request, v Sessions) {
	t, now := p.textFor(r), time.Now()
	rows, others := make([]sessionRow, len(v.List)), v.NextURL != "" || v.FirstURL != ""
	for i, s := range v.List {
		rows[i] = t.row(s, now)
		rows[i].LogoutURL = v.LogoutURL
		others = others || !s.Current
	}
	intro := t.OnlyHere
	if others {
		intro = t.SessionsIntro
	}
	p.show(w, r, http.StatusOK, "sessions", sheet{T: t, Title: t.Sessions, Wide: true, Data: struct {
		Sessions
		List   []sessionRow
		Intro  string
		Others bool
	}{v, rows, intro, others}})
}

func (t *text) row(s Session, now time.Time) sessionRow {
	row := sessionRow{
		Session: s, Name: s.Device,
		ActiveAt: s.LastActive.UTC().Format(time.RFC3339), ActiveSays: fmt.Sprintf(t.active, t.ago(now.Sub(s.LastActive))),
		LoginAt: s.LoggedIn.UTC().Format(time.RFC3339), LoginSays: fmt.Sprintf(t.loggedIn, t.ago(now.Sub(s.LoggedIn))),
	}
	if row.Name == "" {
		row.Name = t.UnknownDevice
	}
	row.EndLabel = fmt.Sprintf(t.endLabel, row.Name+", "+row.ActiveSays)
	return row
}
