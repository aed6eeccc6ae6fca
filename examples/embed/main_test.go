package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/idp"
)

// TestEmbed logs in and reads the embedder's own protected route, over real HTTP.
func TestEmbed(t *testing.T) {
	var provider, app http.Handler
	op := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { provider.ServeHTTP(w, r) }))
	defer op.Close()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { app.ServeHTTP(w, r) }))
	defer front.Close()
	p, err := idp.New(idp.Config{
		Issuer:  op.URL,
		Clients: []idp.Client{{ID: "app", Secret: "s", RedirectURIs: []string{front.URL + "/auth/callback"}}},
		Users:   []idp.User{{Username: "ann", Password: "pw", Name: "Ann"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	provider = p
	handler, h, err := newApp(front.URL, config.Provider{
		Issuer: op.URL, ClientID: "app", ClientSecret: config.NewSecret("s"), PasswordLogin: true,
	}, "app")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	app = handler
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	do := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, front.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Cloakroom", "1")
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	if status, body := do("GET", "/reports/", ""); status != 401 || !strings.Contains(body, "session_required") {
		t.Errorf("before: %d %s", status, body)
	}
	if status, body := do("POST", "/auth/login", `{"username":"ann","password":"pw"}`); status != 200 {
		t.Fatalf("login: %d %s", status, body)
	}
	status, body := do("GET", "/reports/", "")
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || got["name"] != "Ann" || !strings.Contains(got["calls_the_api_with"], "characters") {
		t.Errorf("after: %d %s %v", status, body, err)
	}
	if status, body := do("GET", "/", ""); status != 200 || !strings.Contains(body, "Cloakroom inside") {
		t.Errorf("the app: %d %s", status, body)
	}
}
