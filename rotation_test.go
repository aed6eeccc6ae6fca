package cloakroom_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// common hides that the memory belongs to one process, so that several handlers may share it.
type common struct{ store.Store }

const adminToken = "operator-token-canary"

// slot is one place in a rolling deployment. Its replica is replaced while no request is in it.
type slot struct {
	mu sync.RWMutex
	h  *cloakroom.Handler
}

// fleet is two replicas behind a balancer that goes where a request's X-Test-Slot says.
type fleet struct {
	*rig
	slots [2]*slot
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{rig: &rig{t: t, op: newOP(t), api: newAPI(t), log: &lockedBuffer{}, st: common{memstore.New()}}}
	f.op.people, f.op.life = true, time.Second
	f.slots = [2]*slot{{}, {}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, _ := strconv.Atoi(r.Header.Get("X-Test-Slot"))
		s := f.slots[at]
		s.mu.RLock()
		defer s.mu.RUnlock()
		s.h.ServeHTTP(w, r)
	}))
	f.url = server.URL
	t.Cleanup(func() {
		server.Close()
		for _, s := range f.slots {
			if err := s.h.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return f
}

// roll restarts one replica with these keys.
func (f *fleet) roll(at int, keys ...config.Secret) {
	f.t.Helper()
	s := f.slots[at]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h != nil {
		if err := s.h.Shutdown(context.Background()); err != nil {
			f.t.Fatal(err)
		}
	}
	var err error
	s.h, err = cloakroom.New(config.Config{
		Keys: keys, Admin: config.Admin{Token: config.NewSecret(adminToken)},
		Limits: config.Limits{PerAccount: config.Rate{Burst: 1000, Per: 1e9}, PerAddress: config.Rate{Burst: 1000, Per: 1e9}},
		Frontends: []config.Frontend{{
			URL:       f.url,
			Providers: []config.Provider{{Issuer: f.op.URL, ClientID: clientID, ClientSecret: config.NewSecret(clientSecret)}},
			Routes:    []config.Route{{Path: "/api/", Upstream: f.api.URL}, {Path: "/pages/", Upstream: f.api.URL, Pages: true}},
		}},
	}, cloakroom.Options{Store: f.st, Log: slog.New(slog.NewJSONHandler(f.log, nil))})
	if err != nil {
		f.t.Fatal(err)
	}
}

// pinned is a browser whose requests go to one replica.
type pinned struct {
	*browser
	slot atomic.Int32
}

func (f *fleet) pinned(slot int) *pinned {
	p := &pinned{browser: f.browser()}
	p.slot.Store(int32(slot))
	p.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("X-Test-Slot", strconv.Itoa(int(p.slot.Load())))
		return http.DefaultTransport.RoundTrip(r)
	})
	return p
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// enter logs in: the way begins at one replica and ends at the other.
func (f *fleet) enter(begin int) (p *pinned, sub string) {
	f.t.Helper()
	p = f.pinned(begin)
	back := p.toProvider("/auth/login/redirect?return_to=/pages/home")
	p.slot.Store(int32(1 - begin))
	if a := p.arrive(back); a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/pages/home" {
		f.t.Fatalf("callback: %d %.300s", a.StatusCode, a.body)
	}
	user, _ := p.fetch("GET", "/auth/session").json(f.t)["user"].(map[string]any)
	sub, _ = user["sub"].(string)
	return p, sub
}

// traffic calls the API at a browser's own replica, where it is refreshed, and looks at the session at the other. It
// counts its rounds and reports whatever is not as it should be.
func (f *fleet) traffic(ctx context.Context, p *pinned, rounds *atomic.Int64) {
	other := f.pinned(1 - int(p.slot.Load()))
	other.client.Jar = p.client.Jar
	for ctx.Err() == nil {
		for _, step := range []struct {
			who        *pinned
			path, want string
		}{{p, "/api/x", `"authorized":true`}, {other, "/auth/session", `"authenticated":true`}} {
			req, err := http.NewRequest("GET", f.url+step.path, nil)
			if err != nil {
				f.t.Error(err)
				return
			}
			req.Header.Set("Sec-Fetch-Site", "same-origin")
			res, err := step.who.client.Do(req)
			if err != nil {
				f.t.Error(err)
				return
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != 200 || !strings.Contains(string(body), step.want) {
				f.t.Errorf("%s: %d %s %v", step.path, res.StatusCode, body, err)
				return
			}
		}
		rounds.Add(1)
		<-time.After(5 * time.Millisecond)
	}
}

// operate asks the admin handler of a replica.
func (f *fleet) operate(at int, method, path string) (int, map[string]any) {
	f.t.Helper()
	req := httptest.NewRequest(method, "http://localhost"+path, nil)
	req.Header.Set("Authorization", "Bearer "+adminToken)
	rec := httptest.NewRecorder()
	f.slots[at].h.Admin().ServeHTTP(rec, req)
	var v map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		f.t.Fatal(err)
	}
	return rec.Code, v
}

// logins begins sessions across the replicas in both directions, and ends each by a back-channel logout at either
// replica, by sid and by subject: none may be missed.
func (f *fleet) logins(phase string) {
	f.t.Helper()
	for i := range 4 {
		p, sub := f.enter(i % 2)
		who := session.Who{Subject: sub}
		if i < 2 {
			who = session.Who{SID: "sid-of-" + sub}
		}
		ended, err := f.slots[i%2].h.EndAtProvider(f.t.Context(), who)
		if err != nil || ended != 1 {
			f.t.Errorf("%s: a logout of %+v ended %d sessions, %v", phase, who, ended, err)
		}
		for at := range f.slots {
			p.slot.Store(int32(at))
			if a := p.fetch("GET", "/api/x"); a.StatusCode != 401 {
				f.t.Errorf("%s: after the logout: %d at replica %d", phase, a.StatusCode, at)
			}
		}
	}
}

// TestKeysRotateUnderLoad rolls two replicas on one store through a whole rotation while sessions are used, refreshed,
// made and ended by the provider. Nobody is logged out, no logout is missed, and in the end nothing names the old key.
func TestKeysRotateUnderLoad(t *testing.T) {
	f := newFleet(t)
	older, newer := config.NewKey(), config.NewKey()
	names := keyNames(t, older, newer)
	for at := range f.slots {
		f.roll(at, older)
	}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var users []*pinned
	var rounds [6]atomic.Int64
	for i := range rounds {
		p, _ := f.enter(i % 2)
		users = append(users, p)
		load.Go(func() { f.traffic(ctx, p, &rounds[i]) })
	}
	defer load.Wait()
	defer stop()
	// settle waits until every user has gone on for a while, and lets others come and be logged out meanwhile.
	settle := func(phase string) {
		t.Helper()
		var before [len(rounds)]int64
		for i := range rounds {
			before[i] = rounds[i].Load()
		}
		refreshes := f.op.count("refresh_token")
		f.logins(phase)
		for i := range rounds {
			for deadline := time.Now().Add(30 * time.Second); rounds[i].Load() < before[i]+5 || f.op.count("refresh_token") < refreshes+len(users); {
				if t.Failed() || time.Now().After(deadline) {
					t.Fatalf("%s: user %d does not get on", phase, i)
				}
				<-time.After(10 * time.Millisecond)
			}
		}
	}
	settle("before")
	for _, phase := range []struct {
		name string
		keys []config.Secret
	}{{"appended", []config.Secret{older, newer}}, {"promoted", []config.Secret{newer, older}}} {
		for at := range f.slots {
			f.roll(at, phase.keys...)
			if at == 0 && phase.name == "promoted" {
				if status, body := f.operate(0, "POST", "/api/keys/rewrap"); status != 409 {
					t.Errorf("rewrapping while the replicas disagree: %d %v", status, body)
				}
			}
			settle(fmt.Sprintf("%s at %d of 2", phase.name, at+1))
		}
	}
	f.rewrapAll(names[0])
	settle("rewrapped")
	for at := range f.slots { // a quarter of an hour later in real life: no transaction of before is in any browser
		f.roll(at, newer)
		settle(fmt.Sprintf("retired at %d of 2", at+1))
	}
	stop()
	load.Wait()
	f.namesNothing(older, names[0])
	for i, p := range users {
		if a := p.fetch("GET", "/api/x"); a.StatusCode != 200 {
			t.Errorf("user %d: %d %s", i, a.StatusCode, a.body)
		}
	}
	f.op.with(func() {
		for _, family := range f.op.families {
			if family.used > 0 {
				t.Error("a refresh token was spent twice")
			}
		}
	})
	for _, word := range []string{"key_missing", "record_corrupt", "refresh_rejected", "refresh_lost"} {
		if strings.Contains(f.log.String(), word) {
			t.Errorf("the log holds %s", word)
		}
	}
}

// A replica that a new key has not reached says so, answers 503 to sessions under it, and ends none of them.
func TestAReplicaWithoutTheNewKey(t *testing.T) {
	f := newFleet(t)
	older, newer := config.NewKey(), config.NewKey()
	f.roll(0, newer, older)
	f.until(func() bool {
		_, body := f.operate(0, "GET", "/api/keys")
		return len(body["replicas"].([]any)) == 1
	})
	f.roll(1, older)
	f.until(func() bool {
		_, body := f.operate(1, "GET", "/readyz")
		return body["status"] == "degraded" && strings.Contains(fmt.Sprint(body["keys"]), keyNames(t, newer)[0])
	})
	p := f.pinned(0)
	p.login()
	for range 2 {
		p.slot.Store(1)
		if a := p.fetch("GET", "/api/x"); a.StatusCode != 503 || a.code(t) != "store_unavailable" || p.ticket() == "" {
			t.Errorf("without the key: %d %s", a.StatusCode, a.body)
		}
		p.slot.Store(0)
		if a := p.fetch("GET", "/api/x"); a.StatusCode != 200 {
			t.Errorf("with the key: %d %s", a.StatusCode, a.body)
		}
	}
	if n := strings.Count(f.log.String(), "key_missing"); n != 1 {
		t.Errorf("the operator was told %d times", n)
	}
	f.roll(1, older, newer)
	p.slot.Store(1)
	if a := p.fetch("GET", "/api/x"); a.StatusCode != 200 {
		t.Errorf("once the key is there: %d %s", a.StatusCode, a.body)
	}
}

// Nobody has to ask for it: a process whose ring has an older key looks through the store by itself.
func TestSessionsAreRewrappedInTheBackground(t *testing.T) {
	f := newFleet(t)
	older, newer := config.NewKey(), config.NewKey()
	for at := range f.slots {
		f.roll(at, older)
	}
	f.op.with(func() { f.op.life = time.Hour }) // no refresh rewraps it
	p := f.pinned(0)
	p.login()
	for at := range f.slots { // both at once: no rolling deployment, so that they agree from the start
		s := f.slots[at]
		if err := s.h.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for at := range f.slots {
		f.roll(at, newer, older)
	}
	f.until(func() bool { return strings.Contains(f.log.String(), "keys_rewrapped") })
	f.namesNothing(older, keyNames(t, older)[0])
	if a := p.fetch("GET", "/api/x"); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestAdminOfAnEmbedder(t *testing.T) {
	r := newRig(t, nil)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/api/sessions": 403, "/api/keys": 403, "/none": 404} {
		rec := httptest.NewRecorder()
		r.h.Admin().ServeHTTP(rec, httptest.NewRequest("GET", "http://127.0.0.1"+path, nil))
		if rec.Code != want {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

// until waits for what it is to see.
func (f *fleet) until(seen func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !seen(); {
		if time.Now().After(deadline) {
			f.t.Fatalf("it did not come to be:\n%s", f.log)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func keyNames(t *testing.T, keys ...config.Secret) []string {
	t.Helper()
	var raw [][]byte
	for _, k := range keys {
		b, err := config.Key(k)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b)
	}
	ring, err := seal.NewRing(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return ring.Names()
}

// rewrapAll rewraps until no record names a key. Replicas that sealed with it a moment ago are remembered: logins in
// progress may need it, so that it cannot be retired yet.
func (f *fleet) rewrapAll(old string) {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if status, body := f.operate(1, "POST", "/api/keys/rewrap"); status != 200 {
			f.t.Fatalf("rewrap: %d %v", status, body)
		}
		_, body := f.operate(0, "GET", "/api/keys")
		for _, k := range body["keys"].([]any) {
			if use := k.(map[string]any); use["name"] == old && use["records"] == 0.0 {
				if use["sealers"] == 0.0 {
					f.t.Error("the replicas that sealed with the old key are forgotten at once")
				}
				return
			}
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("records name the old key still: %v", body)
		}
	}
}

// namesNothing checks that a key opens nothing that lives.
func (f *fleet) namesNothing(old config.Secret, name string) {
	f.t.Helper()
	key, err := config.Key(old)
	if err != nil {
		f.t.Fatal(err)
	}
	ring, err := seal.NewRing(key)
	if err != nil {
		f.t.Fatal(err)
	}
	copier := session.Copy{From: f.st, To: memstore.New(), Frontends: []string{f.url}, Ring: ring}
	count, err := copier.Run(f.t.Context())
	if err != nil || count.New != 0 || count.Unreadable == 0 {
		f.t.Errorf("with the old key alone: %+v %v", count, err)
	}
	page, err := f.st.Find(f.t.Context(), store.Query{Limit: 1000})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, rec := range page.Records {
		if slices.Contains(session.KeysIn(rec), name) {
			f.t.Errorf("a record names the old key")
		}
	}
}
