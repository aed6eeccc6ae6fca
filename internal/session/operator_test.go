package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/store"
)

// office is an operator over two frontends on one store.
type office struct {
	*fixture
	*Operator
	second *Manager
}

func newOffice(t *testing.T) *office {
	t.Helper()
	f := newFixture(t, nil)
	o := f.Options
	o.Frontend = "https://second.example"
	second := f.manager(o)
	t.Cleanup(func() { _ = second.Close(context.Background()) })
	return &office{f, &Operator{Store: f.st, Managers: []*Manager{f.Manager, second}}, second}
}

// enter makes a session of somebody at a frontend, as if it was made and last used so long ago.
func (o *office) enter(m *Manager, subject, sid string, age time.Duration) Ticket {
	o.t.Helper()
	o.p.mu.Lock()
	x := o.p.next()
	o.p.mu.Unlock()
	x.Claims.Subject, x.Claims.SID = subject, sid
	_, l, err := m.Create(o.t.Context(), Login{Provider: "main", Method: "redirect", Exchange: x})
	if err != nil {
		o.t.Fatal(err)
	}
	l.mu.Lock()
	old := *l.open
	s := *old.session
	l.mu.Unlock()
	s.Created = s.Created.Add(-age)
	old.session = &s
	if err := m.encode(&old); err != nil {
		o.t.Fatal(err)
	}
	if err := m.Store.Delete(o.t.Context(), old.record.ID); err != nil {
		o.t.Fatal(err)
	}
	fresh := NewTicket() // the store remembers what was deleted
	id := fresh.idOf(m.Frontend)
	s.Handle = handleOf(id)
	old.record = store.Record{ID: id, Head: old.record.Head}
	old.record.Head.LastActive = time.Now().Add(-age)
	old.sealedKey = m.sealKey(fresh, id, old.key)
	if err := m.encode(&old); err != nil {
		o.t.Fatal(err)
	}
	if _, err := m.Store.Save(o.t.Context(), old.record); err != nil {
		o.t.Fatal(err)
	}
	return fresh
}

// pages lists everything that a filter selects, by pages of this size, as "frontend subject" lines.
func (o *office) pages(f Filter, size int) map[string]int {
	o.t.Helper()
	found := map[string]int{}
	after := ""
	for range 1000 {
		list, next, err := o.List(o.t.Context(), f, after, size)
		if err != nil {
			o.t.Fatal(err)
		}
		if len(list) > size {
			o.t.Fatalf("a page of %d, at most %d were asked for", len(list), size)
		}
		for _, e := range list {
			found[strings.TrimPrefix(e.Session.Frontend, "https://")+" "+e.Session.Subject]++
		}
		if after = next; after == "" {
			return found
		}
	}
	o.t.Fatal("the pages have no end")
	return nil
}

func TestOperatorListsOverAllFrontends(t *testing.T) {
	o := newOffice(t)
	for i := range 7 {
		o.enter(o.Manager, "alice", fmt.Sprintf("a%d", i), time.Duration(i)*time.Hour)
		o.enter(o.second, "alice", fmt.Sprintf("b%d", i), 0)
		o.enter(o.second, "bob", "", 12*time.Hour)
	}
	for _, tc := range []struct {
		name   string
		filter Filter
		want   map[string]int
	}{
		{"all", Filter{}, map[string]int{"app.example alice": 7, "second.example alice": 7, "second.example bob": 7}},
		{"a frontend", Filter{Frontend: "https://second.example"}, map[string]int{"second.example alice": 7, "second.example bob": 7}},
		{"a person", Filter{Provider: "main", Subject: "alice"}, map[string]int{"app.example alice": 7, "second.example alice": 7}},
		{"a person at a frontend", Filter{Frontend: "https://app.example", Provider: "main", Subject: "alice"}, map[string]int{"app.example alice": 7}},
		{"a sid", Filter{Provider: "main", SID: "b3"}, map[string]int{"second.example alice": 1}},
		{"a sid of another person", Filter{Provider: "main", SID: "b3", Subject: "bob"}, map[string]int{}},
		{"old ones", Filter{CreatedBefore: time.Now().Add(-5*time.Hour - time.Minute)}, map[string]int{"app.example alice": 1, "second.example bob": 7}},
		{"idle ones of a person", Filter{Provider: "main", Subject: "alice", IdleSince: time.Now().Add(-3*time.Hour - time.Minute)}, map[string]int{"app.example alice": 3}},
		{"nobody", Filter{Provider: "main", Subject: "carol"}, map[string]int{}},
	} {
		for _, size := range []int{1, 2, 5, 1000} {
			if got := o.pages(tc.filter, size); fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("%s, pages of %d: %v, want %v", tc.name, size, got, tc.want)
			}
		}
	}
	for _, f := range []Filter{{Frontend: "https://none.example"}, {Provider: "other"}, {Subject: "alice"}, {SID: "a1"}} {
		if _, _, err := o.List(t.Context(), f, "", 10); !errors.Is(err, ErrFilter) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	_, next, err := o.List(t.Context(), Filter{}, "", 1)
	if err != nil || next == "" {
		t.Fatal(next, err)
	}
	if _, _, err := o.List(t.Context(), Filter{Provider: "main", Subject: "alice"}, next, 1); !errors.Is(err, ErrCursor) {
		t.Errorf("a place of another query: %v", err)
	}
	for _, bad := range []string{"x", "0/", next[:len(next)-2], "A" + next} {
		if _, _, err := o.List(t.Context(), Filter{}, bad, 1); !errors.Is(err, ErrCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestOperatorShowsAndEndsOne(t *testing.T) {
	o := newOffice(t)
	ticket, l, err := o.loginAt(o.second)
	if err != nil {
		t.Fatal(err)
	}
	handle := l.Session().Handle
	if e, err := o.Operator.Show(t.Context(), handle); err != nil || e.Session.Frontend != o.second.Frontend || e.Session.Subject != "alice" {
		t.Errorf("%+v %v", e.Session, err)
	}
	if err := o.Operator.End(t.Context(), handle); err != nil {
		t.Error(err)
	}
	if _, err := o.second.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
	select {
	case <-l.Done():
	default:
		t.Error("what hangs on the session was not told")
	}
	if err := o.second.Close(t.Context()); err != nil { // revoking is done in the background
		t.Error(err)
	}
	if len(o.p.revoked()) != 1 {
		t.Errorf("revoked %v", o.p.revoked())
	}
	for _, h := range []string{handle, "", "x", handleOf(store.ID{9})} {
		if _, err := o.Operator.Show(t.Context(), h); !errors.Is(err, ErrEnded) {
			t.Errorf("showing %q: %v", h, err)
		}
		if err := o.Operator.End(t.Context(), h); !errors.Is(err, ErrEnded) {
			t.Errorf("ending %q: %v", h, err)
		}
	}
	o.st.down.Store(true)
	if err := o.Operator.End(t.Context(), handle); !isUnavailable(err) {
		t.Errorf("without the store: %v", err)
	}
}

func TestOperatorEndsMany(t *testing.T) {
	o := newOffice(t)
	fill := func() {
		for i := range 3 {
			o.enter(o.Manager, "alice", fmt.Sprintf("a%d", i), 0)
			o.enter(o.second, "alice", "", 12*time.Hour)
			o.enter(o.second, "bob", "", 0)
		}
	}
	for _, tc := range []struct {
		name   string
		filter Filter
		ended  int
		left   map[string]int
	}{
		{"a person", Filter{Provider: "main", Subject: "alice"}, 6, map[string]int{"second.example bob": 3}},
		{"a person at a frontend", Filter{Frontend: "https://app.example", Provider: "main", Subject: "alice"}, 3, map[string]int{"second.example alice": 3, "second.example bob": 3}},
		{"a sid", Filter{Provider: "main", SID: "a1"}, 1, map[string]int{"app.example alice": 2, "second.example alice": 3, "second.example bob": 3}},
		{"idle ones", Filter{IdleSince: time.Now().Add(-time.Hour)}, 3, map[string]int{"app.example alice": 3, "second.example bob": 3}},
		{"a person's idle ones", Filter{Provider: "main", Subject: "alice", IdleSince: time.Now().Add(-time.Hour)}, 3, map[string]int{"app.example alice": 3, "second.example bob": 3}},
		{"a frontend", Filter{Frontend: "https://second.example"}, 6, map[string]int{"app.example alice": 3}},
		{"all", Filter{}, 9, map[string]int{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fill()
			n, err := o.Operator.EndAll(t.Context(), tc.filter)
			if n != tc.ended || err != nil {
				t.Errorf("ended %d, %v; want %d", n, err, tc.ended)
			}
			if left := o.pages(Filter{}, 4); fmt.Sprint(left) != fmt.Sprint(tc.left) {
				t.Errorf("left %v, want %v", left, tc.left)
			}
			if _, err := o.Operator.EndAll(t.Context(), Filter{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.audit {
		if a.Kind == event.SessionEnded && a.Reason != ReasonOperator {
			t.Errorf("reason %s", a.Reason)
		}
	}
}
