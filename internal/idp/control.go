package idp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Control is the API that scripts the provider. It has no password: it belongs on loopback, on an address of its own.
func (p *Provider) Control() http.Handler {
	mux := http.NewServeMux()
	routes := map[string]func(*http.Request) (any, error){
		"GET /requests":                     p.controlRequests,
		"DELETE /requests":                  p.controlForget,
		"GET /messages":                     p.controlMessages,
		"GET /otp":                          p.controlOTP,
		"GET /clock":                        p.controlTime,
		"POST /clock":                       p.controlClock,
		"GET /faults":                       p.controlFaults,
		"POST /faults":                      p.controlFail,
		"DELETE /faults":                    p.controlClear,
		"GET /users":                        p.controlUsers,
		"PUT /users":                        p.controlReplace,
		"PATCH /users/{name}":               p.controlChange,
		"POST /users/{name}/mfa-at-refresh": p.controlStep,
		"POST /users/{name}/logout-tokens":  p.controlLogoutTokens,
		"PUT /claims":                       p.controlClaims,
		"POST /keys/rotate":                 p.controlKeys,
		"POST /reset":                       p.controlReset,
	}
	for pattern, do := range routes {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { control(w, r, do) })
	}
	return mux
}

// wrongRequest is a mistake of whoever calls the control API.
type wrongRequest struct {
	status int
	words  string
}

func (e wrongRequest) Error() string { return e.words }

func wrongf(format string, args ...any) error {
	return wrongRequest{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// control answers one request. Web pages stay out: a browser says where it comes from, and a name that is no loopback
// may be somebody else's that points here.
func control(w http.ResponseWriter, r *http.Request, do func(*http.Request) (any, error)) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" || r.Header.Get("Origin") != "" || !plainHost(r.Host) {
		problem(w, http.StatusForbidden, "The control API is for tools on this computer, not for web pages.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostBody)
	answer, err := do(r)
	var wrong wrongRequest
	switch {
	case errors.As(err, &wrong):
		problem(w, wrong.status, wrong.words)
	case err != nil:
		problem(w, http.StatusInternalServerError, "The provider cannot do that now: "+err.Error())
	case answer == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

func plainHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return name == "localhost" || net.ParseIP(strings.Trim(name, "[]")) != nil
}

// problem is RFC 9457, with a sentence that says what to do.
func problem(w http.ResponseWriter, status int, words string) {
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, status, map[string]any{"status": status, "title": http.StatusText(status), "detail": words})
}

// decode reads a body. Names that nobody knows are mistakes; no body is an empty object.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var long *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &long):
		return wrongRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("The body is longer than %d bytes.", mostBody)}
	case err != nil:
		return wrongf("The body is not the JSON that is expected here: %v.", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return wrongf("There is something after the JSON.")
	}
	return nil
}

func (p *Provider) controlRequests(r *http.Request) (any, error) {
	entries := p.Requests()
	if act := r.URL.Query().Get("act"); act != "" {
		entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Act != act })
	}
	return listed(entries), nil
}

// listed makes [] of nothing.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (p *Provider) controlForget(*http.Request) (any, error) {
	p.record.clear(false)
	return nil, nil
}

func (p *Provider) controlMessages(r *http.Request) (any, error) {
	return listed(p.Messages(r.URL.Query().Get("user"))), nil
}

func (p *Provider) controlOTP(r *http.Request) (any, error) {
	name := r.URL.Query().Get("user")
	if _, ok := p.named(name); !ok {
		return nil, nobody(name)
	}
	code := p.OTP(name)
	if code == "" {
		return nil, wrongRequest{http.StatusConflict, fmt.Sprintf("%s has no authenticator app, or its codes of now were all used: move the clock on by 30s.", name)}
	}
	return map[string]string{"code": code}, nil
}

func nobody(name string) error {
	return wrongRequest{http.StatusNotFound, fmt.Sprintf("There is no user %q.", name)}
}

func (p *Provider) controlTime(*http.Request) (any, error) {
	return map[string]any{"now": p.now().UTC(), "ahead": time.Duration(p.offset.Load()).String()}, nil
}

func (p *Provider) controlClock(r *http.Request) (any, error) {
	var in struct {
		Advance string `json:"advance"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(in.Advance)
	if err != nil || d < 0 {
		return nil, wrongf("advance has to be a duration that is not negative, such as 10m, and is %q.", in.Advance)
	}
	p.Advance(d)
	return p.controlTime(r)
}

// plannedFault is a Fault as JSON.
type plannedFault struct {
	Fault
	Delay string `json:"delay"`
}

func (p *Provider) controlFaults(*http.Request) (any, error) {
	list := []plannedFault{}
	for _, f := range p.faults.all() {
		list = append(list, plannedFault{f, f.Delay.String()})
	}
	return list, nil
}

func (p *Provider) controlFail(r *http.Request) (any, error) {
	var in plannedFault
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	f := in.Fault
	if in.Delay != "" {
		d, err := time.ParseDuration(in.Delay)
		if err != nil || d < 0 || d > time.Hour {
			return nil, wrongf("delay has to be a duration of up to an hour, such as 10s, and is %q.", in.Delay)
		}
		f.Delay = d
	}
	switch {
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return nil, wrongf("status has to be from 200 to 599, and is %d.", f.Status)
	case f.RetryAfter < 0:
		return nil, wrongf("retry_after has to be a number of seconds.")
	case f.Status == 0 && f.Delay == 0 && !f.Drop:
		return nil, wrongf("A fault needs a status, a delay, or drop.")
	}
	p.Fail(f)
	return nil, nil
}

func (p *Provider) controlClear(*http.Request) (any, error) {
	p.ClearFaults()
	return nil, nil
}

func (p *Provider) controlUsers(*http.Request) (any, error) { return listed(p.people.all()), nil }

func (p *Provider) controlReplace(r *http.Request) (any, error) {
	var users []User
	if err := decode(r, &users); err != nil {
		return nil, err
	}
	if err := CheckUsers(users); err != nil {
		return nil, wrongf("%v.", err)
	}
	p.people.set(users)
	return nil, nil
}

// CheckUsers says what is wrong with a list of users.
func CheckUsers(users []User) error {
	names := map[string]bool{}
	for i, u := range users {
		name := strings.ToLower(u.Username)
		switch {
		case name == "" || u.Password == "":
			return fmt.Errorf("user %d has no username or no password", i+1)
		case names[name]:
			return fmt.Errorf("there are two users %q", u.Username)
		}
		names[name] = true
		if err := checkFactors(u); err != nil {
			return err
		}
	}
	return nil
}

func checkFactors(u User) error {
	ids := map[string]bool{}
	for _, f := range u.Factors {
		_, known := auth0Kinds[f.Type]
		switch {
		case f.ID == "" || ids[f.ID]:
			return fmt.Errorf("%s: each factor needs an id of its own", u.Username)
		case !known:
			return fmt.Errorf("%s: a factor's type is otp, sms, voice, email, push or recovery_code, not %q", u.Username, f.Type)
		case f.Type == "otp" && codeAt(f.Secret, time.Unix(0, 0)) == "":
			return fmt.Errorf("%s: the secret of an otp factor is base32, such as %s", u.Username, demoSecret)
		case f.Type == "recovery_code" && f.Secret == "":
			return fmt.Errorf("%s: the secret of a recovery_code factor is the code", u.Username)
		case f.Type == "push" && !slices.Contains([]string{"accept", "reject", "reject_invalid_grant", "wait"}, f.Push):
			return fmt.Errorf("%s: push is accept, reject, reject_invalid_grant or wait, not %q", u.Username, f.Push)
		}
		ids[f.ID] = true
	}
	return nil
}

func (p *Provider) controlChange(r *http.Request) (any, error) {
	u, ok := p.named(r.PathValue("name"))
	if !ok {
		return nil, nobody(r.PathValue("name"))
	}
	subject, name := u.subject(), u.Username
	if err := decode(r, &u); err != nil {
		return nil, err
	}
	if u.Username != name {
		return nil, wrongf("The username stays as it is: tokens know their user by it.")
	}
	if err := CheckUsers([]User{u}); err != nil {
		return nil, wrongf("%v.", err)
	}
	p.people.change(subject, func(have *User) { *have = u })
	p.unblock(name)
	return u, nil
}

// unblock forgets the wrong passwords of a user: whoever changes an account unblocks it.
func (p *Provider) unblock(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.memory.wrong {
		if strings.HasPrefix(key, strings.ToLower(name)+" ") {
			delete(p.memory.wrong, key)
		}
	}
}

func (p *Provider) controlStep(r *http.Request) (any, error) {
	in := struct {
		On *bool `json:"on"`
	}{}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	u, ok := p.named(r.PathValue("name"))
	switch {
	case !ok:
		return nil, nobody(r.PathValue("name"))
	case in.On == nil:
		return nil, wrongf("Say \"on\": true or false.")
	case !u.MFAAtRefresh:
		return nil, wrongRequest{http.StatusConflict, fmt.Sprintf("%s has no mfa_at_refresh: PATCH it first.", u.Username)}
	}
	p.SetMFAAtRefresh(u.Username, *in.On)
	return nil, nil
}

func (p *Provider) controlLogoutTokens(r *http.Request) (any, error) {
	in := struct {
		Claims map[string]any `json:"claims"`
	}{}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if _, ok := p.named(r.PathValue("name")); !ok {
		return nil, nobody(r.PathValue("name"))
	}
	outcomes, err := p.SendLogoutTokens(r.PathValue("name"), in.Claims)
	return map[string]any{"outcomes": listed(outcomes)}, err
}

func (p *Provider) controlClaims(r *http.Request) (any, error) {
	var claims map[string]any
	if err := decode(r, &claims); err != nil {
		return nil, err
	}
	p.SetClaims(claims)
	return nil, nil
}

func (p *Provider) controlKeys(r *http.Request) (any, error) {
	var in struct {
		Forget bool `json:"forget"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, p.RotateKeys(in.Forget)
}

func (p *Provider) controlReset(*http.Request) (any, error) { return nil, p.Reset() }
