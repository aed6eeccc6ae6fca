package login

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"

	"github.com/cloakroom/cloakroom/internal/web"
)

// maxBody bounds the body of a login form. The password in it may use nearly all of it.
const maxBody = 16 << 10

// attempt is one try to log in by form. The password is the caller's bytes, unchanged.
type attempt struct {
	username, password string
	provider           string
	returnTo           string
	account            string // key of the limits, once it is known to be this person's
	challenge          string // the answer to a challenge that tells people from programs
	otp                string // the second factor, where the provider takes it with the password (Keycloak)
	remember           bool
	stepUp             bool // the session that is there shows its second factor again
	html               bool // a form post: the answer is a page or a redirect
}

// members are those that a JSON body may have: strings, and true or false.
type members struct{ text, flag []string }

var (
	attemptMembers = members{text: []string{"username", "password", "otp", "provider", "return_to", "challenge"}, flag: []string{"remember", "step_up"}}
	stepMembers    = members{text: []string{"action", "transaction", "factor", "code", "password", "phone_number", "email"}}
)

// read takes an attempt from the request: JSON, or the same as a form.
func read(w http.ResponseWriter, r *http.Request) (attempt, *web.Problem) {
	fields, html, problem := readFields(w, r, attemptMembers)
	a := attempt{
		username: fields["username"], password: fields["password"], otp: fields["otp"], provider: fields["provider"], returnTo: "/",
		remember: fields["remember"] == "true" || html && fields["remember"] == "on", stepUp: fields["step_up"] == "true", html: html,
	}
	if to, ok := web.ReturnTo(fields["return_to"]); ok {
		a.returnTo = to
	}
	for _, name := range challengeFields {
		a.challenge = cmp.Or(a.challenge, fields[name])
	}
	switch {
	case problem != nil:
		return a, problem
	case a.stepUp:
		return a, nil
	case a.username == "" || a.password == "":
		return a, web.NewProblem(web.CodeInvalidRequest, "Both username and password are needed.")
	case len(a.username) > 512:
		return a, web.NewProblem(web.CodeInvalidRequest, "The username may have at most 512 bytes.")
	case len(a.otp) > 64:
		return a, web.NewProblem(web.CodeInvalidRequest, "The one-time code may have at most 64 bytes.")
	}
	return a, nil
}

// readFields reads the body of a step of the login: JSON, or the same as a form.
func readFields(w http.ResponseWriter, r *http.Request, m members) (fields map[string]string, html bool, problem *web.Problem) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/x-www-form-urlencoded" {
		return nil, false, web.NewProblem(web.CodeUnsupportedType, "Send application/json or application/x-www-form-urlencoded.")
	}
	html = kind != "application/json"
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, html, web.NewProblem(web.CodeTooLarge, "The request may have at most 16 KiB.")
	}
	if err != nil {
		return nil, html, web.NewProblem(web.CodeInvalidRequest, "The request ended early.").Because(err)
	}
	if html {
		fields, err = formFields(raw)
	} else {
		fields, err = jsonFields(raw, m)
	}
	if err != nil {
		return fields, html, web.NewProblem(web.CodeInvalidRequest, err.Error())
	}
	return fields, html, nil
}

// formFields reads a form, each field at most once.
func formFields(raw []byte) (map[string]string, error) {
	values, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, errors.New("the form cannot be read")
	}
	fields := map[string]string{}
	for name, v := range values {
		if len(v) != 1 {
			return nil, errors.New("each field may be given once")
		}
		fields[name] = v[0]
	}
	return fields, nil
}

// jsonFields reads a JSON object strictly: known members of the right type, each once. encoding/json would take
// the last of two equal keys where another parser on the way takes the first.
func jsonFields(raw []byte, m members) (map[string]string, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("the JSON is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body must be one JSON object")
	}
	fields := map[string]string{}
	for dec.More() {
		name, value, err := m.read(dec)
		if err != nil {
			return fields, err
		}
		if _, twice := fields[name]; twice {
			return fields, fmt.Errorf("%q is given twice", name)
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return fields, errors.New("the JSON object does not end")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fields, errors.New("there is something after the JSON object")
	}
	return fields, nil
}

func (m members) read(dec *json.Decoder) (name, value string, err error) {
	key, err := dec.Token()
	if err != nil {
		return "", "", errors.New("the JSON cannot be read")
	}
	name, _ = key.(string)
	v, err := dec.Token()
	if err != nil {
		return "", "", errors.New("the JSON cannot be read")
	}
	switch {
	case slices.Contains(m.text, name):
		s, ok := v.(string)
		if !ok {
			return "", "", fmt.Errorf("%q must be a string", name)
		}
		return name, s, nil
	case slices.Contains(m.flag, name):
		b, ok := v.(bool)
		if !ok {
			return "", "", fmt.Errorf("%q must be true or false", name)
		}
		return name, fmt.Sprint(b), nil
	}
	return "", "", fmt.Errorf("unknown member %q", clip(name))
}
