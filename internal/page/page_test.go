package page

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

var pages = New(Theme{})

type shower = func(http.ResponseWriter, *http.Request)

// states are the pages in the states that people meet. s fills every text field, u every address.
func states(s, u string) map[string]shower { return statesOf(pages, s, u) }

func statesOf(p *Pages, s, u string) map[string]shower {
	login := func(status int, v Login) shower {
		v.Action, v.ReturnTo, v.Provider, v.Subject = u, s, s, s
		return func(w http.ResponseWriter, r *http.Request) { p.Login(w, r, status, v) }
	}
	problem := func(v Problem) shower {
		v.Detail, v.RequestID, v.RetryURL, v.HomeURL = s, s, u, u
		return func(w http.ResponseWriter, r *http.Request) { p.Problem(w, r, v) }
	}
	all := map[string]shower{
		"login":         login(200, Login{Form: true}),
		"login filled":  login(200, Login{Form: true, Username: s, Remember: true, Providers: []Button{{s, u}}}),
		"login otp":     login(200, Login{Form: true, OneTimeCode: true}),
		"login wrong":   login(401, Login{Form: true, Username: s, Message: "invalid_credentials"}),
		"login limited": login(429, Login{Form: true, Username: s, Message: "too_many_attempts", RetryAfter: time.Minute}),
		"login buttons": login(200, Login{Providers: []Button{{s, u}, {s, u}, {"", u}}, Message: "session_ended"}),
		"login unknown": login(200, Login{Form: true, Message: "no_such_code"}),
		"logout": func(w http.ResponseWriter, r *http.Request) {
			p.Logout(w, r, Logout{Action: u, ReturnTo: u, User: s, Everywhere: true})
		},
		"sessions": func(w http.ResponseWriter, r *http.Request) {
			p.Sessions(w, r, sessionsOf(s, u, 3))
		},
		"sessions, only here": func(w http.ResponseWriter, r *http.Request) {
			v := sessionsOf(s, u, 1)
			v.FirstURL, v.NextURL = "", ""
			p.Sessions(w, r, v)
		},
		"confirm": func(w http.ResponseWriter, r *http.Request) {
			p.Confirm(w, r, Confirm{OldUser: s, NewUser: s, Action: u, Token: s})
		},
		"problem":         problem(Problem{Status: 400, Code: "login_failed", Title: s}),
		"problem login":   problem(Problem{Status: 401, Code: "session_required", Title: s}),
		"problem unknown": problem(Problem{Status: 500, Code: s, Title: s}),
		"leave":           func(w http.ResponseWriter, r *http.Request) { p.Leave(w, r, u) },
		"reload":          p.Reload,
		"silent":          func(w http.ResponseWriter, r *http.Request) { p.Silent(w, r, true) },
	}
	maps.Copy(all, stepStates(p, s, u))
	return all
}

// sessionsOf is a list of n sessions, the first of which asks.
func sessionsOf(s, u string, n int) Sessions {
	v := Sessions{Action: u, LogoutURL: u, HomeURL: u, FirstURL: u, NextURL: u}
	for i := range n {
		v.List = append(v.List, Session{
			ID: s, Device: s, Address: s, Provider: s, Current: i == 0,
			LoggedIn: time.Now().Add(-72 * time.Hour), LastActive: time.Now().Add(-5 * time.Minute),
		})
	}
	return v
}

func TestHeaders(t *testing.T) {
	for name, show := range states("ann", "/auth/x") {
		frame, frameOptions := "'none'", "DENY"
		if name == "silent" {
			frame, frameOptions = "'self'", "SAMEORIGIN"
		}
		asks := "" // only a page that waits may ask us something
		if strings.HasPrefix(name, "step wait") {
			asks = "; connect-src 'self'"
		}
		want := map[string]string{
			"Content-Type": "text/html; charset=utf-8",
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; " +
				"form-action 'self'; base-uri 'none'; frame-ancestors " + frame + asks,
			"X-Frame-Options":            frameOptions,
			"Cache-Control":              "no-store",
			"Referrer-Policy":            "same-origin",
			"X-Content-Type-Options":     "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Content-Language":           "en",
			"Vary":                       "Accept-Language",
		}
		res := answer(show)
		for header, value := range want {
			if got := res.Header.Get(header); got != value {
				t.Errorf("%s: %s: %q, want %q", name, header, got, value)
			}
		}
	}
}

func TestFormOrigins(t *testing.T) {
	res := answer(func(w http.ResponseWriter, r *http.Request) {
		pages.Logout(w, r, Logout{Action: "/auth/logout", FormOrigins: []string{
			"https://id.example.com", "http://127.0.0.1:9000", "https://[::1]:8443",
			"", "*", "https:", "https://", "https://*.example.com", "https://a.example/end", "https://a.example?", "javascript:x",
			"https://a.example; script-src *", "https://a.example;script-src", "https://a.example 'unsafe-inline'",
			"https://user@a.example", "https://a.example,https://b.example", "https://a.example\r\nX: y", "'unsafe-inline'",
		}})
	})
	want := "form-action 'self' https://id.example.com http://127.0.0.1:9000 https://[::1]:8443; base-uri 'none'; frame-ancestors 'none'"
	if got := res.Header.Get("Content-Security-Policy"); !strings.HasSuffix(got, "data:; "+want) {
		t.Errorf("%s", got)
	}
}

func TestStatusAndRetryAfter(t *testing.T) {
	for name, want := range map[string]struct {
		status int
		retry  string
	}{
		"login": {200, ""}, "login wrong": {401, ""}, "login limited": {429, "60"},
		"problem": {400, ""}, "problem unknown": {500, ""}, "logout": {200, ""}, "silent": {200, ""},
	} {
		res := answer(states("ann", "/x")[name])
		if res.StatusCode != want.status || res.Header.Get("Retry-After") != want.retry {
			t.Errorf("%s: %d, Retry-After %q", name, res.StatusCode, res.Header.Get("Retry-After"))
		}
	}
	res := answer(func(w http.ResponseWriter, r *http.Request) { pages.Problem(w, r, Problem{}) })
	if res.StatusCode != http.StatusInternalServerError {
		t.Errorf("a problem without status: %d", res.StatusCode)
	}
}

// The policy forbids everything inline, so a page that needs it would be broken; and every file must be there.
func TestNothingInline(t *testing.T) {
	for name, show := range states("ann", "/auth/x") {
		_, all := read(t, show)
		for _, e := range all {
			for _, attr := range e.order {
				if low := strings.ToLower(attr); low == "style" || strings.HasPrefix(low, "on") {
					t.Errorf("%s: <%s %s>", name, e.name, attr)
				}
			}
			switch e.name {
			case "style", "iframe", "object", "embed", "base", "img":
				t.Errorf("%s: <%s>", name, e.name)
			case "script":
				if e.text != "" {
					t.Errorf("%s: inline script %q", name, e.text)
				}
				served(t, e.attrs["src"])
			case "link":
				served(t, e.attrs["href"])
			}
		}
	}
}

func TestAccessible(t *testing.T) {
	for name, show := range states("ann", "/auth/x") {
		_, all := read(t, show)
		root := find(all, "html")[0]
		if root.attrs["lang"] != "en" || root.attrs["dir"] != "ltr" {
			t.Errorf("%s: html %v", name, root.attrs)
		}
		if titles := find(all, "title"); len(titles) != 1 || titles[0].text == "" {
			t.Errorf("%s: no title", name)
		}
		if name == "silent" {
			continue // shows nothing
		}
		if n := len(find(all, "main")); n != 1 {
			t.Errorf("%s: %d main", name, n)
		}
		if n := len(find(all, "h1")); n != 1 && name != "leave" && name != "reload" {
			t.Errorf("%s: %d h1", name, n)
		}
		checkIDs(t, name, all)
		checkControls(t, name, all)
		checkHeadings(t, name, all)
	}
}

func checkIDs(t *testing.T, name string, all []*element) {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range all {
		if id, ok := e.attrs["id"]; ok && seen[id] {
			t.Errorf("%s: id %q twice", name, id)
		} else if ok {
			seen[id] = true
		}
	}
	for _, e := range all {
		for _, attr := range []string{"for", "aria-describedby", "aria-labelledby", "aria-controls", "data-reveal"} {
			for id := range strings.FieldsSeq(e.attrs[attr]) {
				if !seen[id] {
					t.Errorf("%s: <%s %s=%q> leads nowhere", name, e.name, attr, id)
				}
			}
		}
	}
}

// checkHeadings wants no level left out.
func checkHeadings(t *testing.T, name string, all []*element) {
	t.Helper()
	level := 0
	for _, e := range all {
		if len(e.name) == 2 && e.name[0] == 'h' && e.name[1] >= '1' && e.name[1] <= '6' {
			if next := int(e.name[1] - '0'); next > level+1 {
				t.Errorf("%s: <%s> after level %d", name, e.name, level)
			} else {
				level = next
			}
			if strings.TrimSpace(e.text) == "" {
				t.Errorf("%s: an empty <%s>", name, e.name)
			}
		}
	}
}

func checkControls(t *testing.T, name string, all []*element) {
	t.Helper()
	labels := map[string]string{}
	for _, l := range find(all, "label") {
		labels[l.attrs["for"]] = l.text
	}
	focus := 0
	for _, e := range all {
		if _, ok := e.attrs["autofocus"]; ok {
			focus++
		}
		switch e.name {
		case "input":
			if e.attrs["type"] != "hidden" && labels[e.attrs["id"]] == "" && !e.within("label") {
				t.Errorf("%s: input %q has no label", name, e.attrs["name"])
			}
		case "a", "button", "summary":
			if strings.TrimSpace(e.text) == "" {
				t.Errorf("%s: <%s> without a name", name, e.name)
			}
		case "svg":
			if e.attrs["aria-hidden"] != "true" && e.parent.attrs["role"] != "img" {
				t.Errorf("%s: an ornament is read out", name)
			}
			if e.parent.attrs["role"] == "img" && e.parent.attrs["aria-label"] == "" {
				t.Errorf("%s: a picture without a name", name)
			}
		}
	}
	if focus > 1 {
		t.Errorf("%s: %d autofocus", name, focus)
	}
}

// ASVS 6.2.6 and 6.2.7, and what password managers need.
func TestLoginForm(t *testing.T) {
	_, all := read(t, states("ann", "/auth/login")["login"])
	form := find(all, "form")[0]
	if form.attrs["method"] != "post" || form.attrs["action"] != "/auth/login" {
		t.Errorf("form %v", form.attrs)
	}
	user, password := byID(all, "username"), byID(all, "password")
	for attr, want := range map[string]string{"name": "username", "type": "text", "autocomplete": "username", "autocapitalize": "none"} {
		if user.attrs[attr] != want {
			t.Errorf("user name: %s=%q", attr, user.attrs[attr])
		}
	}
	for attr, want := range map[string]string{"name": "password", "type": "password", "autocomplete": "current-password"} {
		if password.attrs[attr] != want {
			t.Errorf("password: %s=%q", attr, password.attrs[attr])
		}
	}
	for _, attr := range []string{"value", "maxlength", "pattern", "minlength"} {
		if v, ok := password.attrs[attr]; ok {
			t.Errorf("password: %s=%q", attr, v)
		}
	}
	posted := map[string]string{}
	for _, in := range find(all, "input") {
		posted[in.attrs["name"]] = in.attrs["value"]
	}
	if posted["return_to"] != "ann" || posted["provider"] != "ann" || posted["remember"] != "true" {
		t.Errorf("fields %v", posted)
	}
}

func TestLoginMessage(t *testing.T) {
	all := states("ann", "/x")
	_, plain := read(t, all["login"])
	if byID(plain, "message") != nil || byID(plain, "username").attrs["autofocus"] == "" {
		t.Error("the first page: a message, or the cursor not in the user name")
	}

	_, wrong := read(t, all["login wrong"])
	message, user, password := byID(wrong, "message"), byID(wrong, "username"), byID(wrong, "password")
	if message.attrs["role"] != "alert" || !strings.Contains(message.text, "Wrong user name or password") {
		t.Errorf("message %v %q", message.attrs, message.text)
	}
	if user.attrs["aria-describedby"] != "message" || user.attrs["aria-invalid"] != "true" || user.attrs["value"] != "ann" {
		t.Errorf("user name %v", user.attrs)
	}
	if password.attrs["aria-describedby"] != "message" || password.attrs["autofocus"] == "" {
		t.Errorf("password %v", password.attrs)
	}
	if title := find(wrong, "title")[0].text; !strings.HasPrefix(title, "Wrong user name") {
		t.Errorf("title %q", title)
	}

	_, limited := read(t, all["login limited"])
	if text := byID(limited, "message").text; !strings.Contains(text, "try again in 1 minute.") {
		t.Errorf("message %q", text)
	}
	if _, ok := byID(limited, "username").attrs["aria-invalid"]; ok {
		t.Error("the fields are called wrong when they are not")
	}

	_, note := read(t, all["login buttons"])
	if role := byID(note, "message").attrs["role"]; role != "status" {
		t.Errorf("a note has the role %q", role)
	}
	if len(find(note, "form")) != 0 {
		t.Error("a form that was not asked for")
	}
	if links := find(note, "a"); len(links) != 3 || links[0].text != "Continue with \u2068ann\u2069" || links[2].text != "Continue with single sign-on" {
		t.Errorf("%d buttons", len(links))
	}
}

func TestProblemPage(t *testing.T) {
	_, known := read(t, states("ann", "/x")["problem"])
	if h1 := find(known, "h1")[0].text; h1 != "The login did not succeed" {
		t.Errorf("known code: %q", h1)
	}
	_, unknown := read(t, states("ann", "/x")["problem unknown"])
	if h1 := find(unknown, "h1")[0].text; h1 != "ann" {
		t.Errorf("unknown code with a title: %q", h1)
	}
	_, login := read(t, states("ann", "/x")["problem login"])
	if a := find(login, "a")[0]; a.text != "Log in" {
		t.Errorf("the mend of a missing session: %q", a.text)
	}
	_, bare := read(t, func(w http.ResponseWriter, r *http.Request) { pages.Problem(w, r, Problem{}) })
	if h1 := find(bare, "h1")[0].text; h1 != "Something went wrong" || len(find(bare, "a")) != 0 {
		t.Errorf("nothing known: %q", h1)
	}
}

func TestReloadAndSilent(t *testing.T) {
	all := states("ann", "/x")
	_, reload := read(t, all["reload"])
	for _, e := range find(reload, "meta") {
		if e.attrs["http-equiv"] == "refresh" && (!e.within("noscript") || e.attrs["content"] != "0") {
			t.Errorf("refresh %v: must name no address, and leave the work to the script where there is one", e.attrs)
		}
	}
	if href, ok := find(reload, "a")[0].attrs["href"]; !ok || href != "" {
		t.Errorf("the way on by hand leads to %q", href)
	}
	for want, authenticated := range map[string]bool{"true": true, "false": false} {
		_, silent := read(t, func(w http.ResponseWriter, r *http.Request) { pages.Silent(w, r, authenticated) })
		if got := find(silent, "script")[0].attrs["data-authenticated"]; got != want {
			t.Errorf("silent: %q, want %s", got, want)
		}
	}
}

func TestSessionsPage(t *testing.T) {
	_, all := read(t, states("ann", "/auth/sessions")["sessions"])
	items := find(all, "li")
	if len(items) != 3 || items[0].attrs["class"] != "current" || !strings.Contains(items[0].text, "This device") || strings.Contains(items[1].text, "This device") {
		t.Fatalf("%d items, the first %q", len(items), items[0].text)
	}
	if text := items[1].text; !strings.Contains(text, "Active 5 minutes ago") || !strings.Contains(text, "logged in 3 days ago") {
		t.Errorf("times: %q", text)
	}
	for _, at := range find(all, "time") {
		if _, err := time.Parse(time.RFC3339, at.attrs["datetime"]); err != nil {
			t.Errorf("datetime: %v", err)
		}
	}
	ends := map[string]int{}
	for _, in := range find(all, "input") {
		if in.attrs["name"] == "end" {
			ends[in.attrs["value"]]++
		}
	}
	if ends["ann"] != 2 || ends["others"] != 1 { // this one is logged out of instead
		t.Errorf("what can be ended: %v", ends)
	}
	for _, b := range find(all, "button") {
		if label, ok := b.attrs["aria-label"]; ok && (!strings.HasPrefix(label, b.text) || !strings.Contains(label, "ann")) { // WCAG 2.2, 2.5.3
			t.Errorf("button %q is called %q", b.text, label)
		}
	}
	for _, form := range find(all, "form") {
		if form.attrs["method"] != "post" || form.attrs["action"] != "/auth/sessions" {
			t.Errorf("form %v", form.attrs)
		}
	}

	_, alone := read(t, states("ann", "/x")["sessions, only here"])
	if len(find(alone, "form")) != 0 || !strings.Contains(find(alone, "header")[0].text, "on this device only") {
		t.Error("with one session there is nothing to end")
	}
	unknown := sessionsOf("", "/x", 2)
	_, bare := read(t, func(w http.ResponseWriter, r *http.Request) { pages.Sessions(w, r, unknown) })
	if text := find(bare, "li")[1].text; !strings.Contains(text, "Unknown device") {
		t.Errorf("without a device: %q", text)
	}
}

func TestLogoutEverywhere(t *testing.T) {
	offered := func(v Logout) int {
		_, all := read(t, func(w http.ResponseWriter, r *http.Request) { pages.Logout(w, r, v) })
		n := 0
		for _, in := range find(all, "input") {
			if in.attrs["name"] == "everywhere" && in.attrs["type"] == "checkbox" && in.attrs["value"] == "true" && in.within("label") {
				if _, ticked := in.attrs["checked"]; ticked {
					t.Error("ticked without being asked")
				}
				n++
			}
		}
		return n
	}
	if offered(Logout{Action: "/x", Everywhere: true}) != 1 || offered(Logout{Action: "/x"}) != 0 {
		t.Error("the choice is not where it belongs")
	}
}
