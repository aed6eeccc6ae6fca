package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

var (
	errNotObject = errors.New("not a JSON object")
	errTwice     = errors.New("a member is named twice")
)

// object is a JSON object as a provider sent it. Names are compared exactly and each may be there once:
// encoding/json alone takes "SUB" for "sub" and the last of two, so a claim that a user may choose could stand in for
// one that nobody may.
type object map[string]json.RawMessage

func parseObject(body []byte) (object, error) {
	if !utf8.Valid(body) { // would be replaced silently, and two names become one
		return nil, errNotObject
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	o := object{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errNotObject
		}
		if _, twice := o[name]; twice {
			return nil, errTwice
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errNotObject
		}
		o[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errNotObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return o, nil
}

// has reports whether a member is there; null is not.
func (o object) has(name string) bool {
	raw, ok := o[name]
	return ok && string(raw) != "null"
}

// members reads an object's members by type. The first one of another type is remembered in bad; one that is absent
// or null reads as the zero value.
type members struct {
	object
	bad string
}

func (m *members) read(name string, into any) {
	if m.has(name) && json.Unmarshal(m.object[name], into) != nil && m.bad == "" {
		m.bad = name
	}
}

func (m *members) text(name string) (s string) {
	m.read(name, &s)
	return s
}

func (m *members) flag(name string) (b bool) {
	m.read(name, &b)
	return b
}

func (m *members) list(name string) (l []string) {
	m.read(name, &l)
	return l
}

// oneOrMore reads a string or a list of strings, as aud may be (RFC 7519 section 4.1.3).
func (m *members) oneOrMore(name string) []string {
	var one string
	if m.has(name) && json.Unmarshal(m.object[name], &one) == nil {
		return []string{one}
	}
	return m.list(name)
}

// maxMoment is the year 9999: later ones are nonsense and would overflow.
const maxMoment = 253402300799

// moment reads a NumericDate (RFC 7519 section 2). It is a number, and a fraction of a second is cut.
func (m *members) moment(name string) time.Time {
	var f *float64
	m.read(name, &f)
	switch {
	case f == nil:
		return time.Time{}
	case *f <= 0 || *f > maxMoment:
		if m.bad == "" {
			m.bad = name
		}
		return time.Time{}
	}
	return time.Unix(int64(*f), 0)
}

// maxLife keeps an absurd life from overflowing a time.
const maxLife = 10 * 365 * 24 * time.Hour

// seconds reads a life in seconds, which some providers write as a string. Absent, zero, negative and nonsense are
// 0: unknown.
func (o object) seconds(name string) time.Duration {
	raw := o[name]
	var s string
	if json.Unmarshal(raw, &s) == nil {
		raw = json.RawMessage(s)
	}
	var n json.Number
	if len(raw) == 0 || raw[0] == '"' || json.Unmarshal(raw, &n) != nil {
		return 0
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	switch {
	case math.IsNaN(f) || f <= 0 || err != nil && !math.IsInf(f, 1):
		return 0
	case f >= maxLife.Seconds():
		return maxLife
	}
	return time.Duration(f * float64(time.Second))
}
