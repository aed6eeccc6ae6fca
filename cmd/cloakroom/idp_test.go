package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startIDP runs `cloakroom idp` until the test ends.
func startIDP(t *testing.T, args ...string) (site, control string, told *output) {
	t.Helper()
	port, steering := freePort(t), freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	out := &output{}
	var errs output
	go func() {
		done <- run(ctx, append([]string{"idp", "--listen", "127.0.0.1:" + port, "--control", "127.0.0.1:" + steering}, args...), out, &errs)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case code := <-done:
			if code != 0 {
				t.Errorf("exit %d: %s", code, errs.String())
			}
		case <-time.After(20 * time.Second):
			t.Error("it does not end")
		}
	})
	site, control = "http://127.0.0.1:"+port, "http://127.0.0.1:"+steering
	waitFor(t, control+"/clock")
	return site, control, out
}

// object reads the JSON of a request.
func object(t *testing.T, method, to, kind, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequest(method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	m := map[string]any{}
	_ = json.NewDecoder(res.Body).Decode(&m)
	return m
}

func TestIDP(t *testing.T) {
	site, control, out := startIDP(t, "--dialect", "okta", "--client-id", "app", "--client-secret", "s", "--redirect-uri", "http://a.test/cb", "--access-token-life", "5s")
	doc := object(t, "GET", site+"/oauth2/default/.well-known/openid-configuration", "", "")
	if doc["issuer"] != site+"/oauth2/default" {
		t.Fatalf("%v", doc)
	}
	login := func(user, pass string) map[string]any {
		form := url.Values{"grant_type": {"password"}, "username": {user}, "password": {pass}, "client_id": {"app"}, "client_secret": {"s"}, "scope": {"openid"}}
		return object(t, "POST", doc["token_endpoint"].(string), "application/x-www-form-urlencoded", form.Encode())
	}
	if got := login("alice", "wonderland"); got["expires_in"] != 5.0 {
		t.Errorf("%v", got)
	}
	if got := login("otp", "open-sesame"); got["error"] != "mfa_required" {
		t.Errorf("%v", got)
	}
	if code, _ := object(t, "GET", control+"/otp?user=otp", "", "")["code"].(string); len(code) != 6 {
		t.Errorf("%q", code)
	}
	object(t, "POST", control+"/faults", "application/json", `{"act":"password","status":503,"body":"{\"error\":\"server_error\"}"}`)
	if got := login("alice", "wonderland"); got["error"] != "server_error" {
		t.Errorf("%v", got)
	}
	for _, told := range []string{site + "/oauth2/default", control, "app / s", "wonderland", "second factor: otp", "has to enrol"} {
		if !strings.Contains(out.String(), told) {
			t.Errorf("%q is not told: %s", told, out.String())
		}
	}
}

func TestIDPUsersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.json")
	if err := os.WriteFile(file, []byte(`[{"username":"eve","password":"apple","mfa":true,"factors":[{"id":"1","type":"otp","secret":"JBSWY3DPEHPK3PXP"}]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, control, out := startIDP(t, "--users", file)
	if code, _ := object(t, "GET", control+"/otp?user=eve", "", "")["code"].(string); len(code) != 6 || strings.Contains(out.String(), "wonderland") {
		t.Errorf("%q %s", code, out.String())
	}
}

func TestIDPMistakes(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{"bad.json": "{", "unknown.json": `[{"name":"x","colour":"red"}]`, "empty.json": `[{"username":"x"}]`, "long.json": strings.Repeat(" ", mostUsers+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args  []string
		words string
	}{
		{[]string{"--listen", "0.0.0.0:9090"}, "stays on loopback"},
		{[]string{"--listen", "9090"}, "write it as"},
		{[]string{"--listen", "127.0.0.1:0", "--control", "192.0.2.1:1"}, "stays on loopback"},
		{[]string{"--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--dialect", "esperanto"}, "no dialect"},
		{[]string{"--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--rotation", "x"}, "no rotation"},
		{[]string{"--users", filepath.Join(dir, "none.json")}, "--users"},
		{[]string{"--users", filepath.Join(dir, "bad.json")}, "no JSON list"},
		{[]string{"--users", filepath.Join(dir, "unknown.json")}, "colour"},
		{[]string{"--users", filepath.Join(dir, "empty.json")}, "no password"},
		{[]string{"--users", filepath.Join(dir, "long.json")}, "mebibyte"},
		{[]string{"more"}, "takes no argument"},
	} {
		var out, errs output
		if code := run(context.Background(), append([]string{"idp"}, tc.args...), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), tc.words) || out.String() != "" {
			t.Errorf("%v: %d %s %s", tc.args, code, errs.String(), out.String())
		}
	}
}
