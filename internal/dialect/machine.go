package dialect

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// Action is what the person does next.
type Action struct {
	Do       string // choose | submit | resend | poll | enroll
	Factor   string // choose, enroll: which
	Code     string // submit
	Password string // submit, for a new password
	Target   string // enroll: the phone number or e-mail address
}

// Do of an Action.
const (
	DoChoose = "choose"
	DoSubmit = "submit"
	DoResend = "resend"
	DoPoll   = "poll"
	DoEnroll = "enroll"
)

// ActionError says that the login does not wait for this action. Its text is for people.
type ActionError struct{ Detail string }

func (e *ActionError) Error() string { return e.Detail }

// firstInterval is how often a person's confirmation is asked for where the provider does not say.
const firstInterval = 5 * time.Second

// maxCode bounds a code: recovery codes are the longest.
const maxCode = 64

type machine struct{ translator }

func (m machine) Begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error) {
	x, s, err := m.begin(ctx, c)
	if s != nil {
		s.Account, s.Client = c.Username, c.Client
		if only, ok := onlyOne(s); ok && err == nil {
			err = m.choose(ctx, s, only)
		}
	}
	return x, s, elsewhere(err, &s, c)
}

func (m machine) Resume(ctx context.Context, refused *oidc.Error, c Credentials) (*State, error) {
	s, err := m.resume(ctx, refused, c)
	if s != nil {
		s.Account, s.Client = c.Username, c.Client
		if only, ok := onlyOne(s); ok && err == nil {
			err = m.choose(ctx, s, only)
		}
	}
	return s, elsewhere(err, &s, c)
}

// onlyOne is the factor that need not be chosen, because there is no other: a recovery code is for emergencies.
func onlyOne(s *State) (only Factor, ok bool) {
	if s.Status != Challenge || s.Selected != "" {
		return Factor{}, false
	}
	n := 0
	for _, f := range s.Factors {
		if f.Type != RecoveryCode {
			only = f
			n++
		}
	}
	return only, n == 1
}

// elsewhere turns a refusal that only the provider's own page can mend into a state that says so.
func elsewhere(err error, s **State, c Credentials) error {
	e, ok := errors.AsType[*oidc.Error](err)
	if !ok {
		return err
	}
	next := State{Status: Redirect, Account: c.Username, Client: c.Client}
	switch e.Reason {
	case oidc.ReasonCaptcha:
		next.Reason = Captcha
	case oidc.ReasonConsent:
		next.Reason = Consent
	case oidc.ReasonSecondFactor:
		next.Reason = UnsupportedFactor
	case oidc.ReasonPolicy:
		next.Reason = ProviderPolicy
	case oidc.ReasonPasswordExpired:
		next.Status = PasswordChange
	default:
		return err
	}
	*s = &next
	return nil
}

func (m machine) Act(ctx context.Context, s *State, a Action) (*oidc.Exchange, error) {
	x, err := m.act(ctx, s, a)
	was := *s
	next := s
	if err = elsewhere(err, &next, Credentials{Username: was.Account, Client: was.Client}); next != s {
		*s = *next
	}
	return x, err
}

func (m machine) act(ctx context.Context, s *State, a Action) (*oidc.Exchange, error) {
	selected, chosen := s.Factor()
	switch {
	case a.Do == DoChoose && s.Status == Challenge:
		f, ok := s.factor(a.Factor)
		if !ok {
			return nil, &ActionError{"Choose one of the factors that are offered."}
		}
		return nil, m.choose(ctx, s, f)
	case a.Do == DoResend && s.Status == Challenge && chosen && s.Resend:
		return nil, m.choose(ctx, s, selected)
	case a.Do == DoEnroll && s.Status == Enroll:
		f, ok := s.factor(a.Factor)
		if !ok {
			return nil, &ActionError{"Choose one of the factors that are offered."}
		}
		if (f.Type == SMS || f.Type == Voice || f.Type == Email) && !plausible(a.Target) {
			return nil, &ActionError{"Say where the code is to be sent: \"phone_number\" or \"email\"."}
		}
		return nil, m.enroll(ctx, s, f, a.Target)
	case a.Do == DoSubmit && s.Status == PasswordChange && s.Here:
		if a.Password == "" {
			return nil, &ActionError{"The new password is missing."}
		}
		return m.newPassword(ctx, s, a.Password)
	case a.Do == DoSubmit && chosen && s.Input == Code:
		code, ok := cleanCode(selected.Type, a.Code)
		if !ok {
			return nil, &ActionError{"The code is missing or has characters that no code has."}
		}
		return m.submit(ctx, s, selected, code)
	case a.Do == DoPoll && chosen && s.Input == Wait:
		return m.polled(ctx, s, selected)
	}
	return nil, &ActionError{"The login does not wait for this. Its present step is in \"step\"."}
}

// polled asks once whether the person has confirmed. Nobody has answered yet is no error.
func (m machine) polled(ctx context.Context, s *State, f Factor) (*oidc.Exchange, error) {
	x, err := m.poll(ctx, s, f)
	e, ok := errors.AsType[*oidc.Error](err)
	switch {
	case ok && e.Reason == oidc.ReasonPending:
		if e.Code == "slow_down" { // RFC 8628 section 3.5
			s.Interval = min(s.Interval+5*time.Second, time.Minute)
		}
		return nil, nil //nolint:nilnil // neither done nor failed: the login goes on
	case ok && e.Reason == oidc.ReasonDeclined:
		s.unselect()
	}
	return x, err
}

// choose notes the chosen factor and what the person has to do.
func (s *State) choose(f Factor, input string) {
	s.unselect()
	s.Selected, s.Input = f.ID, input
	if input == Wait {
		s.Interval = firstInterval
	}
}

func (s *State) unselect() {
	s.Selected, s.Input, s.Display, s.OOB, s.Interval, s.Resend = "", "", "", "", 0, false
}

// numbered gives factors our own names.
func numbered(list []Factor) []Factor {
	for i := range list {
		list[i].ID = strconv.Itoa(i + 1)
	}
	return list
}

// cleanCode takes out of a code what people put in for reading. The characters are those of any code we know.
func cleanCode(t Type, code string) (string, bool) {
	code = strings.TrimSpace(code)
	if t != RecoveryCode {
		code = strings.NewReplacer(" ", "", "-", "").Replace(code)
	}
	bad := strings.IndexFunc(code, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-'
	})
	return code, code != "" && len(code) <= maxCode && bad < 0
}

// plausible reports whether something may be sent to the provider as a phone number or an e-mail address.
func plausible(target string) bool {
	return len(target) >= 3 && len(target) <= 254 && !strings.ContainsFunc(target, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// cannot is the answer of a dialect that has no such step: the state never allows it.
func cannot(act string) error {
	return &oidc.Error{Kind: oidc.StepUp, Act: act, Reason: oidc.ReasonPolicy, Err: errors.New("this provider has no such step")}
}
