package main

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// output collects what a command writes while it runs.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }

func (o *output) String() string { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

// visit sends a request as a browser does when a person goes somewhere, and returns the last answer with its body.
func visit(t *testing.T, client *http.Client, method, to string, form url.Values) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestDemoLogoutAtTheProvider logs in at the demo's hosted page and out there: the app's session is over, too.
func TestDemoLogoutAtTheProvider(t *testing.T) {
	port := freePort(t)
	app := "http://127.0.0.1:" + port
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	var out, errs output
	go func() {
		done <- run(ctx, []string{"demo", "--listen", "127.0.0.1:" + port, "--state", t.TempDir()}, &out, &errs)
	}()
	defer func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("exit %d: %s", code, errs.String())
		}
	}()
	waitFor(t, app+"/")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	at, page := visit(t, client, "GET", app+"/auth/login/redirect", nil)
	_, rest, _ := strings.Cut(page, `name="query" value="`)
	query, _, found := strings.Cut(rest, `"`)
	if !found {
		t.Fatalf("no login page: %s %s", at.Request.URL, page)
	}
	provider := "http://" + at.Request.URL.Host
	form := url.Values{"query": {html.UnescapeString(query)}, "username": {"alice"}, "password": {"wonderland"}}
	if at, page = visit(t, client, "POST", provider+"/authorize", form); at.StatusCode != 200 || at.Request.URL.String() != app+"/" {
		t.Fatalf("after the login: %s %s", at.Request.URL, page)
	}
	me := func() int {
		req, err := http.NewRequest("GET", app+"/api/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if status := me(); status != 200 {
		t.Fatalf("the API: %d", status)
	}
	if !strings.Contains(out.String(), provider+"/v2/logout") {
		t.Errorf("the address to log out at is not told: %s", out.String())
	}
	if at, page := visit(t, client, "GET", provider+"/v2/logout", nil); at.StatusCode != 200 {
		t.Fatalf("%d %s", at.StatusCode, page)
	}
	for deadline := time.Now().Add(20 * time.Second); me() != 401; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still logged in at the app")
		}
	}
}
