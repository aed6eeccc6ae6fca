package page

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
)

// Every language says everything.
func TestTextsAreComplete(t *testing.T) {
	for _, text := range spoken.texts {
		v := reflect.ValueOf(text).Elem()
		for i := range v.NumField() {
			if f := v.Field(i); f.IsZero() {
				t.Errorf("%s: no %s", text.Lang, v.Type().Field(i).Name)
			}
		}
		for _, format := range []string{
			text.continueWith, text.continueAs, text.waitIn, text.active, text.loggedIn, text.endLabel,
			text.enterSMS, text.enterVoice, text.enterEmail, text.units.past,
		} {
			if strings.Count(format, "%s") != 1 || strings.Count(format, "%") != 1 {
				t.Errorf("%s: %q must take one value", text.Lang, format)
			}
		}
		for code := range problemCodes(t) {
			s, ok := text.Codes[code]
			if code == web.CodeInternal {
				s, ok = text.Other, true
			}
			if !ok || s.Title == "" || s.Body == "" {
				t.Errorf("%s: nothing is said to %s", text.Lang, code)
			}
			if s.in != "" && strings.Count(s.in, "%s") != 1 {
				t.Errorf("%s: %s: %q must take the wait", text.Lang, code, s.in)
			}
		}
		for code := range text.Codes {
			if !problemCodes(t)[code] && code != WrongCode && code != Declined && code != StepUnclear {
				t.Errorf("%s: %s is no problem's code", text.Lang, code)
			}
		}
	}
}

// Every language says what English says, down to the words for time and the names of factors, with the same values in it.
func TestTextsMatch(t *testing.T) {
	want := map[string]string{}
	everyText(reflect.ValueOf(*english), "", want)
	for _, text := range spoken.texts {
		got := map[string]string{}
		everyText(reflect.ValueOf(*text), "", got)
		for name, ours := range want {
			theirs, ok := got[name]
			gap := name == "units.gap" // Japanese has none
			switch {
			case !ok && !gap:
				t.Errorf("%s: no %s", text.Lang, name)
			case strings.Count(theirs, "%s") != strings.Count(ours, "%s") || strings.Count(theirs, "%") != strings.Count(ours, "%"):
				t.Errorf("%s: %s: %q takes other values than %q", text.Lang, name, theirs, ours)
			case strings.TrimSpace(theirs) != theirs && !gap:
				t.Errorf("%s: %s: %q has a space too many", text.Lang, name, theirs)
			case strings.Contains(theirs, "..."):
				t.Errorf("%s: %s: three full stops are no ellipsis", text.Lang, name)
			}
			delete(got, name)
		}
		for name := range got {
			t.Errorf("%s: %s is said in no other language", text.Lang, name)
		}
		for code, s := range text.Codes {
			if s.Note != english.Codes[code].Note {
				t.Errorf("%s: %s: something went wrong, or not", text.Lang, code)
			}
		}
	}
	if len(want) < 180 {
		t.Errorf("looked at %d texts only", len(want))
	}
}

// everyText collects all texts by their place. What is empty in English is left out.
func everyText(v reflect.Value, name string, into map[string]string) {
	switch v.Kind() {
	case reflect.String:
		if v.String() != "" {
			into[name] = v.String()
		}
	case reflect.Struct:
		for i := range v.NumField() {
			everyText(v.Field(i), strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), into)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			everyText(v.MapIndex(key), name+"."+key.String(), into)
		}
	case reflect.Array:
		for i := range v.Len() {
			everyText(v.Index(i), name+"."+strconv.Itoa(i), into)
		}
	}
}

// A button is called by what stands on it: who says "click show" means it (WCAG 2.2, 2.5.3).
func TestLabelsHoldTheirButtons(t *testing.T) {
	for _, text := range spoken.texts {
		for label, button := range map[string]string{text.ShowPassword: text.Show, text.HidePassword: text.Hide, text.endLabel: text.End} {
			if !strings.Contains(strings.ToLower(label), strings.ToLower(button)) {
				t.Errorf("%s: %q is called %q", text.Lang, button, label)
			}
		}
	}
}

// French has a space before high punctuation, which must not break.
func TestFrenchSpaces(t *testing.T) {
	all := map[string]string{}
	everyText(reflect.ValueOf(*french), "", all)
	for name, s := range all {
		for _, mark := range []string{":", "?", "!", ";", "»"} {
			if before, _, ok := strings.Cut(s, mark); ok && !strings.HasSuffix(before, "\u00a0") {
				t.Errorf("%s: %q", name, s)
			}
		}
	}
}

// problemCodes reads the codes from where they are declared, so that a new one cannot be forgotten here.
func problemCodes(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../web/problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			if code, err := strconv.Unquote(lit.Value); err == nil {
				codes[code] = true
			}
		}
		return true
	})
	if len(codes) < 20 {
		t.Fatalf("found only %d codes", len(codes))
	}
	return codes
}

func TestSay(t *testing.T) {
	for _, c := range []struct {
		code string
		wait time.Duration
		want string
	}{
		{web.CodeTooManyAttempts, 0, "Please wait a little and try again."},
		{web.CodeTooManyAttempts, 90 * time.Second, "Please try again in 2 minutes."},
		{web.CodeProviderUnavailable, 30 * time.Second, "Please try again in 30 seconds."},
		{web.CodeAccountBlocked, time.Hour, "ask support for help. You can try again in 60 minutes."},
		{"no_such_code", 0, "Please try again in a moment."},
	} {
		if got := english.say(c.code, c.wait); !strings.HasSuffix(got.Body, c.want) || got.Title == "" {
			t.Errorf("%s, %v: %q", c.code, c.wait, got.Body)
		}
	}
}

func TestEnglishWait(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1:                             "1 second",
		time.Second:                   "1 second",
		1100 * time.Millisecond:       "2 seconds",
		59 * time.Second:              "59 seconds",
		time.Minute:                   "1 minute",
		61 * time.Second:              "2 minutes",
		15 * time.Minute:              "15 minutes",
		90 * time.Minute:              "90 minutes",
		91 * time.Minute:              "2 hours",
		24 * time.Hour:                "24 hours",
		24*time.Hour + time.Second:    "25 hours",
		time.Minute - time.Nanosecond: "60 seconds",
	} {
		if got := english.wait(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestEnglishAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", 59 * time.Second: "just now", time.Minute: "1 minute ago",
		119 * time.Second: "1 minute ago", 59 * time.Minute: "59 minutes ago", time.Hour: "1 hour ago",
		47 * time.Hour: "47 hours ago", 48 * time.Hour: "2 days ago", 30 * 24 * time.Hour: "30 days ago",
	} {
		if got := english.ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestOtherLanguagesCount(t *testing.T) {
	for _, c := range []struct {
		text            *text
		minute, minutes string
		ago, now        string
	}{
		{german, "1 Minute", "3 Minuten", "vor 2 Tagen", "gerade eben"},
		{french, "1 minute", "3 minutes", "il y a 2 jours", "à l’instant"},
		{spanish, "1 minuto", "3 minutos", "hace 2 días", "ahora mismo"},
		{japanese, "1分", "3分", "2日前", "たった今"},
	} {
		if got := c.text.wait(time.Minute); got != c.minute {
			t.Errorf("%s: %q", c.text.Lang, got)
		}
		if got := c.text.wait(3 * time.Minute); got != c.minutes {
			t.Errorf("%s: %q", c.text.Lang, got)
		}
		if got := c.text.ago(49 * time.Hour); got != c.ago {
			t.Errorf("%s: %q", c.text.Lang, got)
		}
		if got := c.text.ago(0); got != c.now {
			t.Errorf("%s: %q", c.text.Lang, got)
		}
		for _, kind := range []string{"otp", "sms", "voice", "email", "push", "recovery_code"} {
			if c.text.factors[kind] == "" {
				t.Errorf("%s: no word for %s", c.text.Lang, kind)
			}
		}
	}
}

func TestPickLanguage(t *testing.T) {
	l := newLanguages(english, &text{Lang: "de"}, &text{Lang: "pt-BR"}, &text{Lang: "he"})
	for accept, want := range map[string]string{
		"":                                "en",
		"de":                              "de",
		"de-CH, de;q=0.9, en;q=0.5":       "de",
		"en-GB,de;q=0.9":                  "en",
		"fr;q=0.9, he;q=0.8, en;q=0.1":    "he",
		"pt-PT":                           "pt-BR",
		"ja, zh":                          "en",
		"*":                               "en",
		"de;q=x":                          "en",
		"\x00\xff":                        "en",
		strings.Repeat("de, ", 1000):      "en",
		"<script>alert(1)</script>, de-x": "en",
	} {
		if got := l.pick(accept).Lang; got != want {
			t.Errorf("%.40q: %s, want %s", accept, got, want)
		}
	}
}

func FuzzPickLanguage(f *testing.F) {
	for _, s := range []string{"de-CH, de;q=0.9, en;q=0.5", "*", "en-u-co-phonebk-x-a;q=1.0000", "i-klingon,sl-rozaj-biske-1994"} {
		f.Add(s)
	}
	l := newLanguages(english, &text{Lang: "de"})
	f.Fuzz(func(t *testing.T, accept string) {
		if l.pick(accept) == nil {
			t.Errorf("%q: no language", accept)
		}
	})
}
