package gate

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// silent is a provider that nothing asks: every token here is fresh.
type silent struct{ session.Provider }

func (silent) Issuer() string      { return "https://op.example" }
func (silent) HasRevocation() bool { return false }

// hotGate is a gate over real sessions, with a request of each.
func hotGate(t testing.TB, n int) (*Gate, []*http.Request) {
	t.Helper()
	ring, err := seal.NewRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	st := memstore.New()
	cache := session.NewCache(64 << 20)
	m, err := session.NewManager(session.Options{
		Frontend: "https://app.example", Store: st, Ring: ring, Cache: cache, Feed: session.NewFeed(st, cache, 0, nil),
		Providers: map[string]session.ProviderPolicy{"main": {Provider: silent{}, ClientID: "app"}},
		Idle:      24 * time.Hour, RememberIdle: 24 * time.Hour, Lifetime: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	cookies, err := web.NewCookies("https://app.example", config.Session{})
	if err != nil {
		t.Fatal(err)
	}
	var requests []*http.Request
	for i := range n {
		now := time.Now()
		ticket, _, err := m.Create(t.Context(), session.Login{
			Provider: "main", Method: "redirect",
			Exchange: oidc.Exchange{
				Tokens: oidc.TokenSet{Access: "access", TokenType: "Bearer", Refresh: "refresh", Obtained: now, Expires: now.Add(12 * time.Hour)},
				Claims: oidc.Claims{Issuer: silent{}.Issuer(), Subject: strconv.Itoa(i)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "https://app.example/api/x", nil)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Cookie", "theme=dark; "+cookies.TicketName()+"="+ticket.Reveal()+"; lang=en")
		requests = append(requests, web.WithInfo(r, web.NewInfo(r, nil)))
	}
	return New(Options{Origin: "https://app.example", Cookies: cookies, Sessions: m}), requests
}

// hot judges a request as the proxy does. false: it did not pass.
func hot(t testing.TB, g *Gate, r *http.Request) bool {
	pass, refusal := g.Decide(r.Context(), g.Facts(r), Requirement{Token: session.Need{Kind: session.User}})
	if refusal != nil || pass.Live == nil || pass.Token.Value != "access" {
		t.Errorf("%+v %+v", pass, refusal)
		return false
	}
	return true
}

// TestDecideDoesNotAllocate: what a request pays for its session, from its headers to its token, is no memory.
func TestDecideDoesNotAllocate(t *testing.T) {
	g, requests := hotGate(t, 1)
	if !hot(t, g, requests[0]) { // the first notes the activity
		return
	}
	if n := testing.AllocsPerRun(1000, func() { hot(t, g, requests[0]) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestDecideSharesNoLock: requests of different sessions never wait for each other.
func TestDecideSharesNoLock(t *testing.T) {
	g, requests := hotGate(t, 8)
	for _, r := range requests {
		if !hot(t, g, r) {
			return
		}
	}
	before := runtime.SetMutexProfileFraction(1)
	defer runtime.SetMutexProfileFraction(before)
	var work sync.WaitGroup
	for _, r := range requests {
		work.Go(func() {
			for i := 0; i < 20_000 && hot(t, g, r); i++ {
			}
		})
	}
	work.Wait()
	records := make([]runtime.BlockProfileRecord, 10_000)
	n, ok := runtime.MutexProfile(records)
	if !ok {
		t.Fatalf("%d records", n)
	}
	for _, r := range records[:n] {
		if stack := stackOf(r.Stack()); strings.Contains(stack, "(*Gate).Decide") {
			t.Errorf("waited for %d times:\n%s", r.Count, stack)
		}
	}
}

func stackOf(pcs []uintptr) string {
	var b strings.Builder
	for frames := runtime.CallersFrames(pcs); ; {
		f, more := frames.Next()
		b.WriteString(f.Function + "\n")
		if !more {
			return b.String()
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	g, requests := hotGate(b, 64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next() && hot(b, g, requests[i%len(requests)]); i++ {
		}
	})
}
