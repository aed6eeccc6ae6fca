package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/seal"
)

func newTransactions(t *testing.T) Transactions {
	t.Helper()
	ring, err := seal.NewRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return Transactions{Cookies: mustCookies(t, "https://app.example", config.Session{}), Ring: ring, Frontend: "https://app.example"}
}

// carried is a request with the cookies of an answer.
func carried(w *httptest.ResponseRecorder) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

func TestTransactionsComeBackToTheirBrowserOnly(t *testing.T) {
	tx := newTransactions(t)
	type login struct{ ReturnTo string }
	id := NewID()
	w := httptest.NewRecorder()
	if err := tx.Put(w, id, "login", http.SameSiteLaxMode, login{"/x"}); err != nil {
		t.Fatal(err)
	}
	c := w.Result().Cookies()[0]
	if c.Name != "__Host-cloakroom-tx-"+id || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 600 || strings.Contains(c.Value, "/x") {
		t.Errorf("%+v", c)
	}
	var got login
	if !tx.Get(carried(w), id, "login", &got) || got.ReturnTo != "/x" {
		t.Errorf("%+v", got)
	}
	other := newTransactions(t)
	other.Frontend = "https://other.example"
	for name, ok := range map[string]bool{
		"another purpose":  tx.Get(carried(w), id, "logout", &got),
		"another id":       tx.Get(carried(w), NewID(), "login", &got),
		"no id":            tx.Get(carried(w), "", "login", &got),
		"another frontend": other.Get(carried(w), id, "login", &got),
	} {
		if ok {
			t.Errorf("%s opens it", name)
		}
	}
	twice := carried(w)
	twice.AddCookie(c)
	if tx.Get(twice, id, "login", &got) {
		t.Error("one of two cookies was picked")
	}
}

func TestTransactionsAreBounded(t *testing.T) {
	tx := newTransactions(t)
	if err := tx.Put(httptest.NewRecorder(), NewID(), "login", http.SameSiteLaxMode, strings.Repeat("x", 4000)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	var ids []string
	for range 7 {
		id := NewID()
		ids = append(ids, id)
		r.AddCookie(&http.Cookie{Name: "__Host-cloakroom-tx-" + id, Value: "v"})
	}
	w := httptest.NewRecorder()
	tx.Room(w, r)
	dropped := w.Result().Cookies()
	if len(dropped) != 3 || dropped[0].MaxAge >= 0 || !strings.HasSuffix(dropped[0].Name, ids[0]) || !strings.HasSuffix(dropped[2].Name, ids[2]) {
		t.Errorf("%v", dropped)
	}
}
