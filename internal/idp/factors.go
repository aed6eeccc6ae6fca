package idp

import (
	"crypto/rand"
	"encoding/base32"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Message is a code that was sent.
type Message struct {
	User    string    `json:"user"`
	Channel string    `json:"channel"` // sms, voice, email
	To      string    `json:"to"`
	Code    string    `json:"code"`
	Time    time.Time `json:"time"`
}

const (
	attemptLife = 10 * time.Minute // of a login that waits for a second factor
	sentLife    = 5 * time.Minute  // of a code that was sent
	mostKept    = 10000            // attempts and counters
)

// attempt is a login whose password was right, and which goes on. The client holds a secret that stands for it.
type attempt struct {
	Client, Subject, Scope, Nonce string
	Challenge                     string // PKCE
	Family                        string // of the refresh that has to wait for this
	AMR                           []string
	Settled                       []verdict // what no longer stands against this login
	Ends                          time.Time
	Gone                          time.Time // is remembered until then, so that "expired" is no "unknown"
	Since                         time.Time // of the password

	factor   Factor // the one that was chosen; ID "" = none
	open     bool   // it was started, and not answered yet
	handle   string // hash of the oob_code
	code     string // that was sent
	codeEnds time.Time
	polls    int
	polled   time.Time
	to       string // where a code goes to that enrols a factor; "" = to where the factor says
	enrols   bool   // factor is a new one, which becomes the user's once it was shown
	recovery string
	stage    verdict // what the hosted page asks for
}

// begin remembers an attempt and returns the secret that stands for it. p.mu is held.
func (p *Provider) begin(what, prefix string, a *attempt) string {
	a.Ends = p.now().Add(attemptLife)
	a.Gone = a.Ends.Add(24 * time.Hour)
	if a.Since.IsZero() {
		a.Since = p.now()
	}
	if len(p.memory.attempts) >= mostKept {
		clear(p.memory.attempts)
	}
	return p.name(what, prefix, a)
}

// name makes a further secret that stands for an attempt.
func (p *Provider) name(what, prefix string, a *attempt) string {
	value := secret(prefix)
	p.witness(what, value)
	p.memory.attempts[hash(value)] = a
	return value
}

// attempt finds an attempt by what the client holds. p.mu is held.
func (p *Provider) attempt(value, client string) (*attempt, verdict) {
	a, ok := p.memory.attempts[hash(value)]
	switch {
	case !ok || a.Client != client:
		return nil, attemptUnknown
	case p.now().After(a.Ends):
		return nil, attemptOver
	}
	return a, ""
}

// forget makes an attempt's names void.
func (p *Provider) forget(a *attempt) {
	for name, have := range p.memory.attempts {
		if have == a {
			delete(p.memory.attempts, name)
		}
	}
}

func (p *Provider) userOf(a *attempt) User {
	u, _ := p.find(a.Subject)
	return u
}

// choose starts one of the user's factors: a code is sent, a phone is woken.
func (p *Provider) choose(a *attempt, f Factor) verdict {
	a.to, a.enrols = f.Name, false
	return p.start(a, f)
}

func (p *Provider) start(a *attempt, f Factor) verdict {
	a.factor, a.open, a.code, a.polls, a.polled = f, true, "", 0, time.Time{}
	if !sent(f) {
		return ""
	}
	if !p.draw("send "+a.Subject, sendRefill) {
		return tooManySent
	}
	a.code, a.codeEnds = digits(6), p.now().Add(sentLife)
	p.witness("one-time code", a.code)
	m := Message{User: p.userOf(a).Username, Channel: f.Type, To: a.to, Code: a.code, Time: p.now()}
	p.record.send(m)
	p.outbox = append(p.outbox, m)
	return ""
}

// sent reports whether a factor is a code that is sent.
func sent(f Factor) bool { return f.Type == "sms" || f.Type == "voice" || f.Type == "email" }

func digits(n int) string {
	var b strings.Builder
	for range n {
		d, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			return ""
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// answer checks what the person typed for the chosen factor, and settles the attempt.
func (p *Provider) answer(a *attempt, code string) verdict {
	refill := "code " + a.Subject
	if p.dry(refill, codeRefill) {
		return tooManyCodes
	}
	v := p.check(a, strings.TrimSpace(code))
	if v != "" {
		p.draw(refill, codeRefill)
		return v
	}
	p.settle(a)
	return ""
}

func (p *Provider) check(a *attempt, code string) verdict {
	f := a.factor
	switch {
	case f.Type == "otp":
		return p.spendOTP(a.Subject, f.Secret, code)
	case f.Type == "recovery_code":
		if !same(normal(f.Secret), normal(code)) {
			return wrongRecovery
		}
	case sent(f):
		switch {
		case a.code == "" || !same(a.code, code):
			return wrongOOBCode
		case p.now().After(a.codeEnds):
			return codeOver
		}
	default:
		return wrongCode
	}
	return ""
}

func normal(code string) string { return strings.ToUpper(strings.ReplaceAll(code, "-", "")) }

// settle says that the second factor was shown. A recovery code is replaced, and a new factor is the user's from now on.
func (p *Provider) settle(a *attempt) {
	f := a.factor
	a.open, a.code = false, ""
	a.AMR = append(a.AMR, f.Type)
	a.Settled = append(a.Settled, needsFactor)
	p.people.step(a.Subject, false)
	p.people.change(a.Subject, func(u *User) {
		switch {
		case a.enrols:
			a.enrols = false
			u.Factors = append(u.Factors, f)
			if a.recovery != "" {
				u.Factors = append(u.Factors, Factor{ID: "recovery|1", Type: "recovery_code", Name: "Recovery code", Secret: a.recovery})
			}
		case f.Type == "recovery_code":
			for i := range u.Factors {
				if u.Factors[i].ID == f.ID {
					a.recovery = p.recoveryCode()
					u.Factors[i].Secret = a.recovery
				}
			}
		}
	})
}

// poll asks whether the person has answered on the other device.
func (p *Provider) poll(a *attempt) verdict {
	now := p.now()
	if !a.polled.IsZero() && now.Sub(a.polled) < p.PushInterval-p.PushInterval/10 {
		return isFast
	}
	a.polled = now
	a.polls++
	f := a.factor
	switch {
	case f.Push == "wait" || a.polls <= f.PushPolls:
		return isPending
	case f.Push == "reject" || f.Push == "reject_invalid_grant":
		a.open = false
		if f.Push == "reject" {
			return isRejected
		}
		return isRejectedAlso
	}
	p.settle(a)
	return ""
}

// enrol begins a new factor: an authenticator app, or a telephone number or address.
func (p *Provider) enrol(a *attempt, kind, to string) verdict {
	u := p.userOf(a)
	f := Factor{ID: kind + "|" + secret("")[:8], Type: kind}
	switch kind {
	case "otp":
		var raw [20]byte
		rand.Read(raw[:])
		f.Name, f.Secret = "Authenticator app", base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])
		p.witness("one-time code secret", f.Secret)
	case "sms", "voice":
		if to == "" {
			to = u.Phone
		}
		if len(to) < 4 {
			return badRequest
		}
		f.Name = "XXXXXXX" + to[len(to)-4:]
	case "email":
		if to == "" {
			to = u.Email
		}
		if to == "" {
			return badRequest
		}
		f.Name = to[:1] + "***@***"
	case "push":
		f.Name, f.Push, f.Number = "Phone", "accept", digits(2)
	default:
		return noSuchFactor
	}
	if a.recovery == "" && len(u.Factors) == 0 {
		a.recovery = p.recoveryCode()
	}
	a.to, a.enrols = to, true
	return p.start(a, f)
}

// recoveryCode makes one. It is shown once.
func (p *Provider) recoveryCode() string {
	var raw [10]byte
	rand.Read(raw[:])
	s := base32.StdEncoding.EncodeToString(raw[:])
	code := s[:4] + "-" + s[4:8] + "-" + s[8:12]
	p.witness("recovery code", code)
	return code
}

// kinds are the factors' types, each once.
func kinds(factors []Factor) []string {
	var all []string
	for _, f := range factors {
		if !slices.Contains(all, f.Type) {
			all = append(all, f.Type)
		}
	}
	return all
}

// first finds the first factor of these types, in their order.
func first(factors []Factor, types ...string) (Factor, bool) {
	for _, kind := range types {
		if i := slices.IndexFunc(factors, func(f Factor) bool { return f.Type == kind }); i >= 0 {
			return factors[i], true
		}
	}
	return Factor{}, false
}

// byID finds a factor.
func byID(factors []Factor, id string) (Factor, bool) {
	if i := slices.IndexFunc(factors, func(f Factor) bool { return f.ID == id }); i >= 0 {
		return factors[i], true
	}
	return Factor{}, false
}
