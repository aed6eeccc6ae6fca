package page

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// stepStates are the step page in each of its states, and the page of a recovery code.
func stepStates(p *Pages, s, u string) map[string]shower {
	step := func(status int, v Step) shower {
		v.Action, v.Transaction, v.Subject, v.ReturnTo, v.Left = u, s, s, u, 10*time.Minute
		return func(w http.ResponseWriter, r *http.Request) { p.Step(w, r, status, v) }
	}
	of := func(kind string) Factor { return Factor{ID: s, Type: kind, Name: s} }
	// code is a factor that was chosen, with another one beside it.
	code := func(kind string) Step {
		chosen := Factor{ID: s + "!", Type: kind, Name: s}
		return Step{Status: "challenge", Selected: &chosen, Factors: []Factor{chosen, of("otp"), of("push")}, Resend: kind != "otp" && kind != "recovery_code"}
	}
	said := func(kind, message string, wait time.Duration) Step {
		v := code(kind)
		v.Message, v.RetryAfter = message, wait
		return v
	}
	wait := code("push")
	wait.Wait, wait.Interval = true, 5*time.Second
	number := wait
	number.Display = s
	app := Factor{ID: s + "!", Type: "otp"}
	enroll := Step{
		Status: "enroll", Selected: &app, Factors: []Factor{app},
		Secret: s, URI: "otpauth://totp/" + s, RecoveryCodes: []string{s, s},
	}
	typed := enroll
	typed.URI, typed.RecoveryCodes = "", nil
	phone := code("sms")
	phone.Status = "enroll"
	return map[string]shower{
		"step choose":           step(200, Step{Status: "challenge", Factors: []Factor{of("otp"), of("sms"), of("voice"), of("email"), of("push"), of("recovery_code")}}),
		"step code otp":         step(200, code("otp")),
		"step code sms":         step(200, code("sms")),
		"step code voice":       step(200, code("voice")),
		"step code email":       step(200, code("email")),
		"step code recovery":    step(200, code("recovery_code")),
		"step wait":             step(200, wait),
		"step wait number":      step(200, number),
		"step enroll choose":    step(200, Step{Status: "enroll", Factors: []Factor{of("otp"), of("sms"), of("voice"), of("email")}}),
		"step enroll app":       step(200, enroll),
		"step enroll by hand":   step(200, typed),
		"step enroll phone":     step(200, phone),
		"step password":         step(200, Step{Status: "password_change"}),
		"step password again":   step(400, Step{Status: "password_change", Message: StepUnclear}),
		"step said wrong":       step(401, said("otp", WrongCode, 0)),
		"step said declined":    step(403, said("push", Declined, 0)),
		"step said unclear":     step(400, said("sms", StepUnclear, 0)),
		"step said limited":     step(429, said("sms", "too_many_attempts", time.Minute)),
		"step said unavailable": step(503, said("otp", "provider_unavailable", 5*time.Second)),
		"step said unknown":     step(500, said("otp", "no_such_code", 0)),
		"recovery": func(w http.ResponseWriter, r *http.Request) {
			p.Recovery(w, r, Recovery{Codes: []string{s, s}, Next: u})
		},
	}
}

// What each state asks for: the heading, the inputs that a person fills in, and what its forms do, in their order.
func TestStepStates(t *testing.T) {
	const one, app = "Confirm that it is you", "Set up a second step"
	for name, want := range map[string]struct {
		heading string
		inputs  string
		actions string
	}{
		"step choose":         {one, "", "choose choose choose choose choose choose cancel"},
		"step code otp":       {one, "code", "submit choose choose cancel"},
		"step code sms":       {one, "code", "submit resend choose choose cancel"},
		"step code voice":     {one, "code", "submit resend choose choose cancel"},
		"step code email":     {one, "code", "submit resend choose choose cancel"},
		"step code recovery":  {one, "code", "submit choose choose cancel"},
		"step wait":           {"Confirm on your device", "", "poll resend choose choose cancel"},
		"step wait number":    {"Confirm on your device", "", "poll resend choose choose cancel"},
		"step enroll choose":  {app, "phone_number phone_number email", "enroll enroll enroll enroll cancel"},
		"step enroll app":     {app, "code", "submit cancel"},
		"step enroll by hand": {app, "code", "submit cancel"},
		"step enroll phone":   {one, "code", "submit resend enroll enroll cancel"},
		"step password":       {"Choose a new password", "password", "submit cancel"},
		"step password again": {"Choose a new password", "password", "submit cancel"},
	} {
		_, all := read(t, states("ann", "/auth/login/step")[name])
		if h1 := find(all, "h1")[0].text; h1 != want.heading {
			t.Errorf("%s: %q", name, h1)
		}
		var inputs, actions []string
		for _, e := range all {
			if e.name == "input" && e.attrs["type"] != "hidden" {
				inputs = append(inputs, e.attrs["name"])
			}
			if e.attrs["name"] == "action" && e.within("form") {
				actions = append(actions, e.attrs["value"])
			}
		}
		if got := strings.Join(inputs, " "); got != want.inputs {
			t.Errorf("%s: inputs %q, want %q", name, got, want.inputs)
		}
		if got := strings.Join(actions, " "); got != want.actions {
			t.Errorf("%s: actions %q, want %q", name, got, want.actions)
		}
		forms := find(all, "form")
		if len(forms) != len(actions) {
			t.Errorf("%s: %d forms with %d actions", name, len(forms), len(actions))
		}
		transactions := 0
		for _, e := range find(all, "input") {
			if e.attrs["name"] == "transaction" && e.attrs["value"] == "ann" {
				transactions++
			}
		}
		if transactions != len(forms) {
			t.Errorf("%s: %d of %d forms say which login it is", name, transactions, len(forms))
		}
		for _, form := range forms {
			if form.attrs["method"] != "post" || form.attrs["action"] != "/auth/login/step" {
				t.Errorf("%s: form %v", name, form.attrs)
			}
		}
	}
}

// A code is typed, pasted or filled in by the browser, wherever it comes from.
func TestStepFields(t *testing.T) {
	all := states("ann", "/x")
	for name, keyboard := range map[string]string{
		"step code otp": "numeric", "step code sms": "numeric", "step code email": "numeric", "step code recovery": "text", "step enroll app": "numeric",
	} {
		_, page := read(t, all[name])
		code := byID(page, "code")
		for attr, want := range map[string]string{
			"type": "text", "autocomplete": "one-time-code", "inputmode": keyboard, "spellcheck": "false", "dir": "ltr",
		} {
			if code.attrs[attr] != want {
				t.Errorf("%s: %s=%q, want %q", name, attr, code.attrs[attr], want)
			}
		}
		if _, ok := code.attrs["pattern"]; ok {
			t.Errorf("%s: a pattern would refuse a code that was pasted with spaces", name)
		}
	}
	_, change := read(t, all["step password"])
	if got := byID(change, "password").attrs; got["autocomplete"] != "new-password" || got["type"] != "password" {
		t.Errorf("new password: %v", got)
	}
	_, enroll := read(t, all["step enroll choose"])
	kinds := map[string]string{}
	for _, in := range find(enroll, "input") {
		if in.attrs["type"] != "hidden" {
			kinds[in.attrs["name"]] = in.attrs["type"] + " " + in.attrs["autocomplete"]
		}
	}
	if want := map[string]string{"phone_number": "tel tel", "email": "email email"}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("where codes are sent: %v", kinds)
	}
	_, login := read(t, all["login otp"])
	otp := byID(login, "otp")
	if _, must := otp.attrs["required"]; must || otp.attrs["name"] != "otp" || otp.attrs["autocomplete"] != "one-time-code" {
		t.Errorf("the code beside the password: %v", otp.attrs)
	}
	if _, plain := read(t, all["login"]); byID(plain, "otp") != nil {
		t.Error("a code is asked for where none is taken")
	}
}

// The page that waits asks by itself where there is a script, and has a button where there is none.
func TestStepWaits(t *testing.T) {
	all := states("ann", "/auth/login/step")
	_, page := read(t, all["step wait number"])
	form := find(page, "form")[0]
	if form.attrs["data-poll"] != "5" {
		t.Errorf("asks every %q seconds", form.attrs["data-poll"])
	}
	shown, hidden := "", false
	for _, e := range page {
		if e.attrs["class"] == "number" {
			shown = strings.TrimSpace(e.text)
		}
		if e.attrs["class"] == "waiting" {
			_, hidden = e.attrs["hidden"]
			if e.attrs["data-waiting"] != "Waiting for your device…" || e.attrs["role"] != "status" {
				t.Errorf("while it waits: %v", e.attrs)
			}
		}
	}
	if shown != "ann" || !hidden {
		t.Errorf("number %q, hidden without a script: %v", shown, hidden)
	}
	if button := find(page, "button")[0]; button.attrs["type"] != "submit" || button.text != "I have approved it" {
		t.Errorf("by hand: %v %q", button.attrs, button.text)
	}
	for name, show := range all {
		_, page := read(t, show)
		polls := slices.ContainsFunc(page, func(e *element) bool { return e.attrs["data-poll"] != "" })
		if want := strings.HasPrefix(name, "step wait"); polls != want {
			t.Errorf("%s: asks by itself: %v, want %v", name, polls, want)
		}
	}
}

// What is shown once: the picture, the key and the codes.
func TestStepSecrets(t *testing.T) {
	all := states("ann", "/x")
	count := func(name, class string) int {
		_, page := read(t, all[name])
		n := 0
		for _, e := range page {
			if e.parent != nil && e.name == "code" && strings.Contains(e.parent.attrs["class"]+" "+classAbove(e), class) && e.text == "ann" {
				n++
			}
		}
		return n
	}
	for name, want := range map[string]struct{ pictures, keys, codes int }{
		"step enroll app": {1, 1, 2}, "step enroll by hand": {0, 1, 0}, "step enroll phone": {}, "step code otp": {}, "recovery": {0, 0, 2},
	} {
		_, page := read(t, all[name])
		pictures := 0
		for _, e := range find(page, "svg") {
			if e.parent.attrs["class"] == "qr" {
				pictures++
			}
		}
		if keys, codes := count(name, "secret"), count(name, "recovery"); pictures != want.pictures || keys != want.keys || codes != want.codes {
			t.Errorf("%s: %d pictures, %d keys, %d codes, want %v", name, pictures, keys, codes, want)
		}
	}
	for name, show := range all {
		if res := answer(show); res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept", name)
		}
	}
}

// classAbove are the classes of what an element is in.
func classAbove(e *element) string {
	all := ""
	for p := e.parent; p != nil; p = p.parent {
		all += " " + p.attrs["class"]
	}
	return all
}

func TestStepMessages(t *testing.T) {
	all := states("ann", "/x")
	for name, want := range map[string]struct {
		status int
		title  string
		wrong  bool // the field is marked
		retry  string
	}{
		"step said wrong":       {401, "The code is not right", true, ""},
		"step said declined":    {403, "The request was refused", false, ""},
		"step said unclear":     {400, "That did not work", false, ""},
		"step said limited":     {429, "Too many attempts", false, "60"},
		"step said unavailable": {503, "The login service does not answer", false, "5"},
		"step said unknown":     {500, "Something went wrong", false, ""},
		"step password again":   {400, "That did not work", false, ""},
	} {
		res, page := read(t, all[name])
		message := byID(page, "message")
		if res.StatusCode != want.status || message == nil || message.attrs["role"] != "alert" || !strings.Contains(message.text, want.title) {
			t.Errorf("%s: %d, message %v", name, res.StatusCode, message)
			continue
		}
		if got := res.Header.Get("Retry-After"); got != want.retry {
			t.Errorf("%s: Retry-After %q", name, got)
		}
		if title := find(page, "title")[0].text; !strings.HasPrefix(title, want.title) { // what a screen reader says first
			t.Errorf("%s: title %q", name, title)
		}
		for _, e := range find(page, "input") {
			if e.attrs["type"] == "hidden" {
				continue
			}
			if !strings.Contains(e.attrs["aria-describedby"], "message") || (e.attrs["aria-invalid"] == "true") != want.wrong {
				t.Errorf("%s: input %v", name, e.attrs)
			}
		}
	}
	if _, page := read(t, all["step code otp"]); byID(page, "message") != nil {
		t.Error("a message before anything went wrong")
	}
}

// Where the code was sent is said if it is known.
func TestStepSaysWhere(t *testing.T) {
	for kind, want := range map[string][2]string{
		"sms":           {"sent to \u2068+49 170\u2069.", "sent to your phone."},
		"voice":         {"when we call \u2068+49 170\u2069.", "when we call you."},
		"email":         {"sent to \u2068+49 170\u2069.", "sent to your email address."},
		"otp":           {"authenticator app shows.", "authenticator app shows."},
		"recovery_code": {"It works once.", "It works once."},
	} {
		for i, name := range []string{"+49 170", ""} {
			f := Factor{ID: "f", Type: kind, Name: name}
			_, page := read(t, func(w http.ResponseWriter, r *http.Request) {
				pages.Step(w, r, 200, Step{Status: "challenge", Selected: &f, Factors: []Factor{f}})
			})
			if got := byID(page, "intro").text; !strings.HasSuffix(got, want[i]) {
				t.Errorf("%s %q: %q", kind, name, got)
			}
		}
	}
}

// From right to left the pages have the same structure, say so, and keep what is foreign from mixing with what is around it.
func TestRightToLeft(t *testing.T) {
	mirrored := *english
	mirrored.Lang, mirrored.Dir = "he", "rtl"
	p := New(Theme{})
	p.spoken = newLanguages(&mirrored)
	plain := states("ann", "/auth/x")
	for name, show := range statesOf(p, "ann", "/auth/x") {
		res, all := read(t, show)
		if root := find(all, "html")[0]; root.attrs["dir"] != "rtl" || root.attrs["lang"] != "he" || res.Header.Get("Content-Language") != "he" {
			t.Errorf("%s: %v, %q", name, root.attrs, res.Header.Get("Content-Language"))
		}
		if _, same := read(t, plain[name]); skeleton(all) != skeleton(same) {
			t.Errorf("%s has another structure from right to left", name)
		}
		for _, e := range all {
			heading := e.name == "title" || e.name == "h1" // is all of its block
			if strings.TrimSpace(e.text) == "ann" && innermost(all, e) && !heading && !isolated(e) {
				t.Errorf("%s: <%s> lets what is in it turn what is around it", name, e.name)
			}
		}
	}
}

// innermost reports whether no element inside of e has its text.
func innermost(all []*element, e *element) bool {
	return !slices.ContainsFunc(all, func(o *element) bool { return o.parent == e && strings.TrimSpace(o.text) == strings.TrimSpace(e.text) })
}

// isolated reports whether an element's text has a direction of its own.
func isolated(e *element) bool {
	for ; e != nil; e = e.parent {
		if e.name == "bdi" || e.attrs["dir"] != "" && e.name != "html" {
			return true
		}
	}
	return false
}
