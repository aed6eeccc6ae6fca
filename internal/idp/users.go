package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
)

// User is somebody who can log in. Conditions are said after the password was right, in the dialect's own words.
type User struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Name     string `json:"name,omitempty"`
	Email    string `json:"email,omitempty"`
	Phone    string `json:"phone,omitempty"`

	Locked          bool `json:"locked,omitempty"`           // the right password is answered with "user is blocked"
	Breached        bool `json:"breached,omitempty"`         // the password was found in a leak; the hosted page asks for a new one
	Captcha         bool `json:"captcha,omitempty"`          // only the hosted page can show that a person is there
	Consent         bool `json:"consent,omitempty"`          // has still to agree, at the hosted page
	PasswordExpired bool `json:"password_expired,omitempty"` // has to choose a new one
	Denied          bool `json:"denied,omitempty"`           // a rule of the provider says no
	Unverified      bool `json:"unverified,omitempty"`       // has to show that the e-mail address is theirs

	// MFA asks for a second factor at each login; who has none must enrol one first.
	MFA bool `json:"mfa,omitempty"`
	// MFAAtRefresh allows SetMFAAtRefresh for this user.
	MFAAtRefresh bool     `json:"mfa_at_refresh,omitempty"`
	Factors      []Factor `json:"factors,omitempty"`
}

// Factor is a second factor.
type Factor struct {
	ID     string `json:"id"`
	Type   string `json:"type"`             // otp, sms, voice, email, push, recovery_code
	Name   string `json:"name,omitempty"`   // masked, as the provider shows it
	Secret string `json:"secret,omitempty"` // otp: base32; recovery_code: the code
	// Push is what the person does with a push: "accept", "reject" (told as access_denied), "reject_invalid_grant" (the
	// other way it is told), "wait" (nothing, ever).
	Push string `json:"push,omitempty"`
	// PushPolls is how many polls come before that.
	PushPolls int `json:"push_polls,omitempty"`
	// Number is shown to the person, where the dialect has that for a push.
	Number string `json:"number,omitempty"`
}

// demoSecret is the shared secret of the demo's authenticator apps.
const demoSecret = "JBSWY3DPEHPK3PXP"

// DemoUsers are one user for each condition. The user name says which.
func DemoUsers() []User {
	app := Factor{ID: "totp|app", Type: "otp", Name: "Authenticator app", Secret: demoSecret}
	mail := func(name string) Factor {
		return Factor{ID: "email|" + name, Type: "email", Name: name[:1] + "***@demo***"}
	}
	users := []User{
		{Username: "alice", Password: "wonderland", Name: "Alice Liddell", Email: "alice@demo.example"},
		{Username: "bob", Password: "builder", Name: "Bob Builder", Email: "bob@demo.example"},
		{Username: "locked", Password: "out-of-luck", Name: "Locked Out", Email: "locked@demo.example", Locked: true},
		{Username: "otp", MFA: true, Factors: []Factor{app}},
		{Username: "sms", MFA: true, Phone: "+15550101234", Factors: []Factor{
			{ID: "sms|1", Type: "sms", Name: "XXXXXXX1234"}, {ID: "sms|2", Type: "sms", Name: "XXXXXXX5678"}, {ID: "sms|3", Type: "sms", Name: "XXXXXXX9012"}, mail("sms"),
		}},
		{Username: "push", MFA: true, Factors: []Factor{{ID: "push|phone", Type: "push", Name: "Phone", Push: "accept", PushPolls: 2, Number: "42"}, app}},
		{Username: "refuser", MFA: true, Factors: []Factor{{ID: "push|phone", Type: "push", Name: "Phone", Push: "reject", Number: "17"}}},
		{Username: "recover", MFA: true, Factors: []Factor{app, {ID: "recovery|1", Type: "recovery_code", Name: "Recovery code", Secret: "ABCD-EFGH-IJKL"}}},
		{Username: "newcomer", MFA: true},
		{Username: "expired", PasswordExpired: true},
		{Username: "breached", Breached: true},
		{Username: "robot", Captcha: true},
		{Username: "consent", Consent: true},
		{Username: "denied", Denied: true},
		{Username: "unverified", Unverified: true},
		{Username: "refresh", MFAAtRefresh: true, Factors: []Factor{app}},
	}
	for i := range users {
		u := &users[i]
		if u.Password == "" {
			u.Password, u.Name, u.Email = "open-sesame", strings.ToUpper(u.Username[:1])+u.Username[1:], u.Username+"@demo.example"
		}
	}
	return users
}

// people are the users as they are now. Its lock is its own: users are looked up with and without the state's.
type people struct {
	mu      sync.RWMutex
	list    []User
	stepped map[string]bool // subjects whose next refresh needs a second factor
}

func (p *people) set(users []User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list, p.stepped = copied(users), map[string]bool{}
}

func (p *people) all() []User {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return copied(p.list)
}

func copied(users []User) []User {
	users = slices.Clone(users)
	for i := range users {
		users[i].Factors = slices.Clone(users[i].Factors)
	}
	return users
}

// change changes a user, and reports whether there is one.
func (p *people) change(subject string, how func(*User)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.list {
		if p.list[i].subject() == subject {
			how(&p.list[i])
			return true
		}
	}
	return false
}

// step says whether a user's refresh needs a second factor.
func (p *people) step(subject string, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.stepped[subject] = true
	} else {
		delete(p.stepped, subject)
	}
}

func (p *people) steps(subject string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.stepped[subject]
}

// SetMFAAtRefresh says whether a user's refreshes are answered with "a second factor first". One that is shown ends it.
func (p *Provider) SetMFAAtRefresh(username string, on bool) {
	if u, ok := p.named(username); ok && u.MFAAtRefresh {
		p.people.step(u.subject(), on)
	}
}

// user checks a password. Unknown users take as long as wrong passwords.
func (p *Provider) user(name, password string) (u User, ok bool) {
	u, found := p.named(name)
	if !found {
		u = User{Password: "\x00 nobody's password"}
	}
	return u, same(u.Password, password) && found
}

// named finds a user by name, or by e-mail address.
func (p *Provider) named(name string) (User, bool) {
	name = strings.TrimSpace(name)
	return p.who(func(u User) bool {
		return strings.EqualFold(u.Username, name) || u.Email != "" && strings.EqualFold(u.Email, name)
	})
}

// find returns a user by subject.
func (p *Provider) find(subject string) (User, bool) {
	return p.who(func(u User) bool { return u.subject() == subject })
}

func (p *Provider) who(is func(User) bool) (User, bool) {
	p.people.mu.RLock()
	defer p.people.mu.RUnlock()
	i := slices.IndexFunc(p.people.list, is)
	if i < 0 {
		return User{}, false
	}
	return copied(p.people.list[i : i+1])[0], true
}

// subject is the user's stable identifier, which is not the user name.
func (u User) subject() string {
	sum := sha256.Sum256([]byte("subject " + strings.ToLower(u.Username)))
	return "user-" + base64.RawURLEncoding.EncodeToString(sum[:9])
}

// obstacle is the first thing that stands against a login once the password was right. What was settled in this login
// does not.
func (u User) obstacle(settled []verdict) verdict {
	for _, o := range []struct {
		stands bool
		what   verdict
	}{
		{u.Locked, isLocked},
		{u.Denied, isDenied},
		{u.Captcha, needsCaptcha},
		{u.Breached, isBreached},
		{u.Unverified, isUnverified},
		{u.PasswordExpired, isExpired},
		{u.MFA, needsFactor},
		{u.Consent, needsConsent},
	} {
		if o.stands && !slices.Contains(settled, o.what) {
			return o.what
		}
	}
	return ""
}

// mostWrong is how many wrong passwords in a row one address may send for one user.
const mostWrong = 10

// knock checks a password, and what stands against the login. p.mu is held.
func (p *Provider) knock(name, password, address string) (User, verdict) {
	key := strings.ToLower(strings.TrimSpace(name)) + " " + address
	u, ok := p.user(name, password)
	if p.dialect.bruteForce && p.memory.wrong[key] >= mostWrong {
		return u, tooManyWrong
	}
	if !ok {
		if len(p.memory.wrong) >= mostKept {
			clear(p.memory.wrong)
		}
		p.memory.wrong[key]++
		return u, wrongPassword
	}
	delete(p.memory.wrong, key)
	return u, u.obstacle(nil)
}
