package cloakroom_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/pgstore"
	"github.com/cloakroom/cloakroom/store/redisstore"
)

// Two replicas share a store: a session that one ends is told to the stream at the other through the change feed.
func TestEndReachesTheStreamOfAnotherReplica(t *testing.T) {
	server := testserver.Redis(t)
	open := func() *redisstore.Store {
		st, err := redisstore.Open(t.Context(), "redis://"+server.Addr, redisstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	first, second := open(), open()
	defer first.Close()
	defer second.Close()
	r := newRigWith(t, newOP(t), first, nil)
	laptop, phone := r.as("alice", firefox), r.as("alice", iphone)
	res, err := laptop.client.Do(laptop.request("GET", "/auth/events", nil, fetched...))
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	defer res.Body.Close()

	other, err := cloakroom.New(r.cfg, cloakroom.Options{Store: second})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Shutdown(t.Context())
	req := phone.request("DELETE", "/auth/sessions", nil, append([]string{"Cookie", "cloakroom-" + r.url[strings.LastIndexByte(r.url, ':')+1:] + "=" + phone.ticket()}, fetched...)...)
	w := &statusOnly{header: http.Header{}}
	other.ServeHTTP(w, req)
	ended := time.Now()
	if w.status != http.StatusNoContent {
		t.Fatalf("the other replica: %d", w.status)
	}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "event: session_ended") {
			t.Logf("told after %v", time.Since(ended))
			if a := laptop.fetch("GET", "/api/x"); a.StatusCode != 401 {
				t.Errorf("a call after it: %d", a.StatusCode)
			}
			return
		}
	}
	t.Error("the stream ended without a word")
}

// Each step of a login is taken at the other replica, and tries are counted together.
func TestStepsOverReplicas(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) store.Store{
		"redis": func(t *testing.T) store.Store {
			st, err := redisstore.Open(t.Context(), "redis://"+testserver.Redis(t).Addr, redisstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = st.Close() })
			return st
		},
		"postgres": func(t *testing.T) store.Store {
			st, err := pgstore.Open(t.Context(), "postgres://postgres@"+testserver.Postgres(t).Addr+"/postgres", pgstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = st.Close() })
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDialectRigOn(t, "okta", open(t), func(c *config.Config) { c.Limits.PerAccount = config.Rate{Burst: 4, Per: time.Hour} })
			other, err := cloakroom.New(d.cfg, cloakroom.Options{Store: d.st})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = other.Shutdown(t.Context()) }()
			turn := func() { d.h, other = other, d.h }

			f := d.form()
			f.log("otp").want(202, "challenge")
			turn()
			f.pick("otp")
			turn()
			f.step("submit", "code", d.idp.OTP("otp")).done()
			turn()
			if a := f.fetch("GET", "/api/x"); a.StatusCode != 200 {
				t.Errorf("the session at the other replica: %d %s", a.StatusCode, a.body)
			}
			g := d.form()
			g.log("otp").want(202, "challenge").pick("otp")
			for range 8 {
				turn()
				g.step("submit", "code", "000000").want(401, "invalid_credentials")
			}
			turn()
			g.step("submit", "code", "000000").want(410, "login_expired")
			for range 4 {
				turn()
				d.form().logWith("alice", "guess", nil).want(401, "invalid_credentials")
			}
			turn()
			d.form().logWith("alice", "wonderland", nil).want(429, "too_many_attempts")
		})
	}
}

// statusOnly keeps an answer's status.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
