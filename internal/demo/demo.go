// Package demo is the app of `cloakroom demo`: a small API, a single-page app, and a log of what happened behind
// it. Nothing in it knows Cloakroom: the API checks a bearer token, the app calls fetch.
package demo

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

//go:embed spa
var spa embed.FS

// WriteApp writes the app's files into a directory, for a route with `files:`.
func WriteApp(dir string) error {
	return fs.WalkDir(spa, "spa", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := spa.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600)
	})
}

// Check says whose access token this is.
type Check func(token string) (subject, name string, ok bool)

// API is the demo's resource server: it knows users by their access token only.
type API struct {
	check Check
	mux   *http.ServeMux

	mu     sync.Mutex
	orders map[string][]Order // by subject
}

// Order is something that was ordered.
type Order struct {
	Number int       `json:"number"`
	Item   string    `json:"item"`
	At     time.Time `json:"at"`
}

// maxOrders is how many orders of one user are kept.
const maxOrders = 20

// NewAPI makes the API.
func NewAPI(check Check) *API {
	a := &API{check: check, mux: http.NewServeMux(), orders: map[string][]Order{}}
	a.mux.HandleFunc("GET /api/me", a.me)
	a.mux.HandleFunc("GET /api/orders", a.list)
	a.mux.HandleFunc("POST /api/orders", a.add)
	a.mux.HandleFunc("GET /api/time", a.clock)
	return a
}

// ServeHTTP answers to requests with a good access token only (RFC 6750).
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func (a *API) caller(w http.ResponseWriter, r *http.Request) (subject, name string, ok bool) {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if bearer {
		subject, name, ok = a.check(token)
	}
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="demo", error="invalid_token"`)
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
	}
	return subject, name, ok
}

func (a *API) me(w http.ResponseWriter, r *http.Request) {
	if subject, name, ok := a.caller(w, r); ok {
		answer(w, http.StatusOK, map[string]string{"subject": subject, "name": name})
	}
}

func (a *API) list(w http.ResponseWriter, r *http.Request) {
	subject, _, ok := a.caller(w, r)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.orders[subject]
	if list == nil {
		list = []Order{}
	}
	answer(w, http.StatusOK, list)
}

func (a *API) add(w http.ResponseWriter, r *http.Request) {
	subject, _, ok := a.caller(w, r)
	if !ok {
		return
	}
	var in struct {
		Item string `json:"item"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&in); err != nil || in.Item == "" || len(in.Item) > 100 {
		answer(w, http.StatusBadRequest, map[string]string{"error": "an item of 1 to 100 bytes is needed"})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.orders[subject]
	next := 1
	if len(list) > 0 {
		next = list[len(list)-1].Number + 1
	}
	list = append(list, Order{next, in.Item, time.Now().UTC().Truncate(time.Second)})
	a.orders[subject] = list[max(0, len(list)-maxOrders):]
	answer(w, http.StatusCreated, list[len(list)-1])
}

// clock streams the time, once a second, for ten minutes at most.
func (a *API) clock(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := a.caller(w, r); !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 600 {
		if _, err := fmt.Fprintf(w, "data: %s\n\n", time.Now().UTC().Format(time.RFC3339)); err != nil {
			return
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
