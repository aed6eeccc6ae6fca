package page

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
)

// element is one element of an answer, with the text directly or deeper inside it.
type element struct {
	name   string
	attrs  map[string]string
	order  []string // attribute names as written
	text   string
	parent *element
}

func (e *element) within(name string) bool {
	for p := e.parent; p != nil; p = p.parent {
		if p.name == name {
			return true
		}
	}
	return false
}

// parse reads a page. Our pages are tame enough for the XML reader in its HTML manner.
func parse(body string) ([]*element, error) {
	body = strings.Map(func(r rune) rune { // XML knows no control characters
		if r < ' ' && r != '\t' && r != '\r' && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, body)
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var all []*element
	var open *element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		switch tok := token.(type) {
		case xml.StartElement:
			e := &element{name: tok.Name.Local, attrs: map[string]string{}, parent: open}
			for _, a := range tok.Attr {
				e.attrs[a.Name.Local] = a.Value
				e.order = append(e.order, a.Name.Local)
			}
			all = append(all, e)
			open = e
		case xml.EndElement:
			open = open.parent
		case xml.CharData:
			for e := open; e != nil; e = e.parent {
				e.text += string(tok)
			}
		}
	}
}

// skeleton is the page's structure without any value: what data must never change.
func skeleton(all []*element) string {
	var b strings.Builder
	for _, e := range all {
		b.WriteString("<" + e.name + " " + strings.Join(e.order, " ") + ">")
	}
	return b.String()
}

func find(all []*element, name string) []*element {
	var found []*element
	for _, e := range all {
		if e.name == name {
			found = append(found, e)
		}
	}
	return found
}

func byID(all []*element, id string) *element {
	for _, e := range all {
		if e.attrs["id"] == id {
			return e
		}
	}
	return nil
}

// answer is what a page method wrote.
func answer(show func(http.ResponseWriter, *http.Request)) *http.Response {
	w := httptest.NewRecorder()
	show(w, httptest.NewRequest(http.MethodGet, "https://app.example.com/auth/login", nil))
	return w.Result()
}

func read(t *testing.T, show func(http.ResponseWriter, *http.Request)) (*http.Response, []*element) {
	t.Helper()
	res := answer(show)
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	all, err := parse(string(body))
	if err != nil {
		t.Fatalf("parsing the page: %v\n%s", err, body)
	}
	return res, all
}
