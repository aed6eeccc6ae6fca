package demo

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
)

// Line is one line of what happened behind the page. It is made of events, which hold no secret.
type Line struct {
	Number int64     `json:"n"`
	Time   time.Time `json:"time"`
	Who    string    `json:"who"`  // browser | cloakroom | provider
	What   string    `json:"what"` // such as GET /api/orders
	Result string    `json:"result"`
	Note   string    `json:"note,omitempty"`
}

// Log keeps the newest lines in memory and serves them as JSON.
type Log struct {
	mu    sync.Mutex
	last  int64
	lines []Line
}

const maxLines = 200

// Add appends a line.
func (l *Log) Add(line Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	line.Number = l.last
	if line.Time.IsZero() {
		line.Time = time.Now()
	}
	l.lines = append(l.lines, line)
	if len(l.lines) > maxLines {
		l.lines = append([]Line(nil), l.lines[len(l.lines)-maxLines:]...)
	}
}

// Sink takes Cloakroom's events.
func (l *Log) Sink(e event.Event) {
	switch e := e.(type) {
	case *event.Request:
		if e.Route == "/demo/" || e.Route == "/" || e.Path == "/auth/events" || e.Method == http.MethodGet && e.Path == "/auth/sessions" {
			return // the page itself, and what it asks to keep its panels fresh
		}
		who := "browser"
		if e.Path == "/auth/backchannel-logout" {
			who = "provider"
		}
		l.Add(Line{Time: e.Time, Who: who, What: e.Method + " " + e.Path, Result: strconv.Itoa(e.Status), Note: e.Code})
	case *event.Call:
		note := ""
		if e.Act == "refresh_token" && e.Outcome == "ok" {
			note = "the old access token was over; nobody noticed"
		}
		l.Add(Line{Time: e.Time, Who: "cloakroom", What: "asks the provider: " + e.Act, Result: e.Outcome, Note: note})
	case *event.Audit:
		l.Add(Line{Time: e.Time, Who: "cloakroom", What: e.Kind, Result: e.Reason, Note: e.Detail})
	}
}

// ServeHTTP answers GET with the lines after the number `after`.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	if after > l.last { // the demo was restarted: begin again
		after = 0
	}
	lines := []Line{}
	for _, line := range l.lines {
		if line.Number > after {
			lines = append(lines, line)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, http.StatusOK, map[string]any{"lines": lines, "last": l.last})
}
