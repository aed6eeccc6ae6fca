package cloakroom_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"
)

// parallel sends n API calls of one session at once and returns how often each status came; 0 counts the clients
// that went away.
func (b *browser) parallel(n int, leave func(i int) bool) map[int]int {
	b.t.Helper()
	u := b.request("GET", "/api/x", nil, fetched...)
	cookies := b.client.Jar.Cookies(u.URL)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: n, MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var wait sync.WaitGroup
	got := map[int]int{}
	for i := range n {
		wait.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if leave(i) {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, 50*time.Millisecond)
				defer stop()
			}
			req := u.Clone(ctx)
			for _, c := range cookies {
				req.AddCookie(c)
			}
			status := 0
			if res, err := client.Do(req); err == nil {
				status = res.StatusCode
				res.Body.Close()
			}
			mu.Lock()
			got[status]++
			mu.Unlock()
		})
	}
	wait.Wait()
	return got
}

// The headline: however many requests find the token over, the provider is asked once, and all of them pass.
func TestOneRefreshForManyRequests(t *testing.T) {
	for name, leave := range map[string]func(int) bool{
		"all stay":        func(int) bool { return false },
		"half disconnect": func(i int) bool { return i%2 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			p := newOP(t)
			p.life = time.Second
			r := newRigWith(t, p, nil, nil)
			b := r.browser()
			b.login()
			<-time.After(1100 * time.Millisecond) // past expiry
			p.with(func() { p.delay, p.life = 200*time.Millisecond, time.Hour })
			got := b.parallel(200, leave)
			left := 0
			for i := range 200 {
				if leave(i) {
					left++
				}
			}
			if got[200] < 200-left || got[200]+got[0] != 200 {
				t.Errorf("answers: %v", got)
			}
			if n := p.count("refresh_token"); n != 1 {
				t.Errorf("%d token requests for 200 calls", n)
			}
			if a := b.fetch("GET", "/api/x"); a.StatusCode != 200 {
				t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
			}
		})
	}
}

// A refused refresh ends the session everywhere it is asked: no zombie.
func TestRefusedRefreshEndsTheSession(t *testing.T) {
	p := newOP(t)
	p.life = time.Second
	b := newRigWith(t, p, nil, nil).browser()
	b.login()
	<-time.After(1100 * time.Millisecond)
	p.with(func() {
		for _, f := range p.families {
			f.dead = true
		}
	})
	if a := b.fetch("GET", "/api/x"); a.StatusCode != 401 || a.code(t) != "session_ended" {
		t.Errorf("the API: %d %s", a.StatusCode, a.body)
	}
	if b.authenticated() {
		t.Error("a zombie: /auth/session says logged in")
	}
	if b.ticket() != "" {
		t.Error("the ticket was not taken back")
	}
	if n := p.count("refresh_token"); n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// A provider that is ill logs nobody out.
func TestIllProviderAtRefresh(t *testing.T) {
	p := newOP(t)
	p.life = time.Second
	b := newRigWith(t, p, nil, nil).browser()
	b.login()
	<-time.After(1100 * time.Millisecond)
	p.with(func() {
		p.life = time.Hour
		p.token = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "1")
			writeJSON(w, 503, map[string]any{"error": "temporarily_unavailable"})
			return true
		}
	})
	a := b.fetch("GET", "/api/x")
	if a.StatusCode != 503 || a.code(t) != "provider_unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if !b.authenticated() {
		t.Error("logged out by a provider that was ill")
	}
	p.with(func() { p.token = nil })
	deadline := time.Now().Add(15 * time.Second)
	for b.fetch("GET", "/api/x").StatusCode != 200 {
		if time.Now().After(deadline) {
			t.Fatal("no recovery")
		}
		<-time.After(100 * time.Millisecond)
	}
}

// An answer without a refresh token keeps the old one.
func TestRefreshWithoutNewRefreshToken(t *testing.T) {
	p := newOP(t)
	p.life = time.Second
	b := newRigWith(t, p, nil, nil).browser()
	b.login()
	n := 0
	p.with(func() {
		p.token = func(w http.ResponseWriter, r *http.Request) bool {
			if r.PostForm.Get("grant_type") != "refresh_token" {
				return false
			}
			n++
			if p.families[r.PostForm.Get("refresh_token")] == nil {
				writeJSON(w, 400, map[string]any{"error": "invalid_grant"})
				return true
			}
			writeJSON(w, 200, map[string]any{"access_token": "access-canary-static", "token_type": "bearer", "expires_in": 1})
			return true
		}
	})
	for i := range 2 {
		<-time.After(1100 * time.Millisecond)
		if a := b.fetch("GET", "/api/x"); a.StatusCode != 200 {
			t.Fatalf("refresh %d: %d %s", i, a.StatusCode, a.body)
		}
	}
	if n < 2 {
		t.Errorf("%d refreshes", n)
	}
}

// An upstream that says invalid_token gets one forced refresh, and the call is repeated.
func TestUpstreamRejectsTheToken(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	first := ""
	b.api.mu.Lock()
	b.api.handler = func(w http.ResponseWriter, r *http.Request) {
		if first == "" {
			first = r.Header.Get("Authorization")
		}
		if r.Header.Get("Authorization") == first {
			w.Header().Set("WWW-Authenticate", `Bearer realm="x", error="invalid_token"`)
			w.WriteHeader(401)
			return
		}
		writeJSON(w, 200, map[string]any{"ok": true})
	}
	b.api.mu.Unlock()
	if a := b.fetch("GET", "/api/x"); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if n := b.op.count("refresh_token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	b.api.mu.Lock()
	b.api.handler = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(401)
	}
	b.api.mu.Unlock()
	for range 3 {
		if a := b.fetch("GET", "/api/x"); a.StatusCode != 401 {
			t.Errorf("an API that rejects everything: %d", a.StatusCode)
		}
	}
	if n := b.op.count("refresh_token"); n > 2 {
		t.Errorf("%d refreshes: the API drives the provider", n)
	}
	if !b.authenticated() {
		t.Error("logged out")
	}
}
