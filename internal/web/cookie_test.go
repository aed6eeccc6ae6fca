package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

func mustCookies(t testing.TB, frontend string, s config.Session) Cookies {
	t.Helper()
	c, err := NewCookies(frontend, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTicketCookieAttributes(t *testing.T) {
	for _, tc := range []struct {
		frontend string
		session  config.Session
		age      time.Duration
		want     string
	}{
		{"https://app.example", config.Session{}, 0, "__Host-Http-cloakroom=v; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"https://app.example", config.Session{SameSite: "lax"}, time.Hour, "__Host-Http-cloakroom=v; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"},
		{"http://127.0.0.1:8080", config.Session{}, 0, "cloakroom-8080=v; Path=/; HttpOnly; SameSite=Strict"},
		{"http://localhost", config.Session{}, 0, "cloakroom-80=v; Path=/; HttpOnly; SameSite=Strict"},
		{"https://app.example", config.Session{Cookie: "__Host-sid"}, 0, "__Host-sid=v; Path=/; HttpOnly; Secure; SameSite=Strict"},
	} {
		w := httptest.NewRecorder()
		mustCookies(t, tc.frontend, tc.session).SetTicket(w, "v", tc.age)
		if got := w.Header().Get("Set-Cookie"); got != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.frontend, got, tc.want)
		}
	}
}

func TestCookiesAreDeletedWithTheirAttributes(t *testing.T) {
	w := httptest.NewRecorder()
	mustCookies(t, "https://app.example", config.Session{}).ClearTicket(w)
	if got, want := w.Header().Get("Set-Cookie"), "__Host-Http-cloakroom=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestReadFindsOurCookies(t *testing.T) {
	c := mustCookies(t, "https://app.example", config.Session{})
	for _, tc := range []struct {
		name   string
		header []string
		want   Carried
	}{
		{"none", nil, Carried{}},
		{"foreign", []string{"a=b; c=d"}, Carried{}},
		{"one", []string{"a=b; __Host-Http-cloakroom=t; c=d"}, Carried{Ticket: "t", Tickets: 1, Any: true}},
		{"two in one header", []string{"__Host-Http-cloakroom=t; __Host-Http-cloakroom=u"}, Carried{Tickets: 2, Any: true}},
		{"two headers", []string{"__Host-Http-cloakroom=t", "__Host-Http-cloakroom=u"}, Carried{Tickets: 2, Any: true}},
		{"other case is not the ticket", []string{"__host-http-cloakroom=t"}, Carried{Any: true}},
		{"transaction", []string{"__Host-cloakroom-tx-x=t"}, Carried{Any: true}},
		{"no value", []string{"__Host-Http-cloakroom"}, Carried{Tickets: 1, Any: true}},
		{"huge", []string{"x=" + strings.Repeat("y", 64<<10) + "; __Host-Http-cloakroom=t"}, Carried{Ticket: "t", Tickets: 1, Any: true}},
	} {
		r := &http.Request{Header: http.Header{"Cookie": tc.header}}
		if got := c.Read(r); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	c := mustCookies(t, "https://app.example", config.Session{})
	r := &http.Request{Header: http.Header{"Cookie": {"a=b; __Host-Http-cloakroom=t; c=d"}}}
	if n := testing.AllocsPerRun(100, func() { c.Read(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCookie(f *testing.F) {
	for _, s := range []string{"a=b; __Host-Http-cloakroom=t", "__Host-Http-cloakroom=a; __Host-Http-cloakroom=b", ";;;=;", `x="a;b"`, "__Host-cloakroom-tx-=", "\x00=\xff"} {
		f.Add(s)
	}
	c, err := NewCookies("https://app.example", config.Session{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{Header: http.Header{"Cookie": {header}}}
		got := c.Read(r)
		if got.Tickets > 1 && got.Ticket != "" {
			t.Fatal("one of several tickets was picked")
		}
		if got.Tickets > 0 && !got.Any || got.Any && !strings.Contains(strings.ToLower(header), "cloakroom") {
			t.Fatalf("%+v from %q", got, header)
		}
		if strings.ContainsAny(got.Ticket, ";") {
			t.Fatalf("the ticket holds a separator: %q", got.Ticket)
		}
		for _, id := range c.TransactionIDs(r) {
			if ValidID(id) && !strings.Contains(header, id) {
				t.Fatalf("an id that was not sent: %q", id)
			}
		}
	})
}
