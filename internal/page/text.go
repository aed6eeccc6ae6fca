package page

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/text/language"
)

// text is all that the pages say, in one language. A language is one file like text_en.go and an entry in spoken.
type text struct {
	Lang string // BCP 47
	Dir  string // ltr or rtl

	LogIn, LoggingIn, UserName, Password string
	Show, Hide, ShowPassword             string
	HidePassword, Remember, Or           string
	continueWith, continueHosted         string

	OneTimeCode string // where it is taken together with the password

	ConfirmTitle, ChooseTitle, ChooseBody string
	CodeLabel, RecoveryCode               string
	PushTitle, PushBody, NumberBody       string
	Confirmed, Waiting, SendAgain         string
	OtherWay                              string
	EnrollTitle, EnrollBody, ScanBody     string
	QRLabel, TypeKey                      string
	PhoneNumber, EmailAddress, SendCode   string
	RecoveryTitle, RecoveryBody, Saved    string
	NewPasswordTitle, NewPasswordBody     string
	NewPassword                           string
	factors                               map[string]string // by type of factor
	enterOTP, enterRecovery               string
	enterSMS, enterVoice, enterEmail      string // %s = where the code was sent
	enterSMSPlain, enterVoicePlain        string // the same where that is not known
	enterEmailPlain                       string

	LogOutQuestion, LoggedInAs, LogOut string
	LoggingOut, StayLoggedIn           string
	Everywhere                         string

	Sessions, SessionsIntro, OnlyHere string
	ThisDevice, UnknownDevice         string
	End, Ending, EndOthers            string
	FirstSessions, MoreSessions       string
	active, loggedIn, endLabel        string

	OtherUser, OtherUserBody, Before, Now, Unnamed string
	continueAs, continueAsNew, Cancel              string

	TryAgain, Home, Details, What, Code, RequestID string
	OneMoment, Continue                            string

	Codes  map[string]says // by problem code
	Other  says            // for any other code
	waitIn string          // sentence with a wait, for codes that have none of their own
	units  units
}

// says is what a problem's code says to a person.
type says struct {
	Title string
	Body  string // what to do
	in    string // Body when it is known how long to wait (%s)
	Note  bool   // nothing went wrong: the person has to log in
}

// languages are the texts to choose from; the first is for everybody else.
type languages struct {
	texts   []*text
	matcher language.Matcher
}

var spoken = newLanguages(english, german, french, spanish, japanese)

func newLanguages(texts ...*text) languages {
	tags := make([]language.Tag, len(texts))
	for i, t := range texts {
		tags[i] = language.MustParse(t.Lang)
	}
	return languages{texts, language.NewMatcher(tags)}
}

// maxAcceptLanguage bounds what is parsed of the header; no browser sends as much.
const maxAcceptLanguage = 500

// pick chooses by the value of Accept-Language.
func (l languages) pick(accept string) *text {
	if accept == "" || len(accept) > maxAcceptLanguage {
		return l.texts[0]
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return l.texts[0]
	}
	_, i, _ := l.matcher.Match(tags...)
	return l.texts[i]
}

// say puts a problem into words.
func (t *text) say(code string, wait time.Duration) says {
	s, ok := t.Codes[code]
	if !ok {
		s = t.Other
	}
	switch {
	case wait <= 0:
	case s.in != "":
		s.Body = fmt.Sprintf(s.in, t.wait(wait))
	default:
		s.Body += " " + fmt.Sprintf(t.waitIn, t.wait(wait))
	}
	return s
}

// isolate keeps the direction of what stands in a sentence from turning the sentence, as <bdi> does around an element.
func isolate(s string) string { return "\u2068" + s + "\u2069" }

// ContinueWith is the label of a provider's button.
func (t *text) ContinueWith(provider string) string {
	if provider == "" {
		return t.continueHosted
	}
	return fmt.Sprintf(t.continueWith, isolate(provider))
}

// enter says where the code of a factor comes from.
func (t *text) enter(f *Factor) string {
	sent := func(to, plain string) string {
		if f.Name == "" {
			return plain
		}
		return fmt.Sprintf(to, isolate(f.Name))
	}
	switch f.Type {
	case "sms":
		return sent(t.enterSMS, t.enterSMSPlain)
	case "voice":
		return sent(t.enterVoice, t.enterVoicePlain)
	case "email":
		return sent(t.enterEmail, t.enterEmailPlain)
	case "recovery_code":
		return t.enterRecovery
	}
	return t.enterOTP
}

// ContinueAs is the label of the button that goes on as another user.
func (t *text) ContinueAs(user string) string {
	if user == "" {
		return t.continueAsNew
	}
	return fmt.Sprintf(t.continueAs, isolate(user))
}

// units are how a language counts time.
type units struct {
	second, minute, hour, day [2]string // one, several
	gap                       string    // between the number and the unit
	past                      string    // %s = how long ago
	now                       string
}

func (u units) count(n float64, unit [2]string) string {
	name := unit[1]
	if n == 1 {
		name = unit[0]
	}
	return fmt.Sprintf("%.0f%s%s", n, u.gap, name)
}

// wait puts a wait into words, never shorter than it is.
func (t *text) wait(d time.Duration) string {
	u := t.units
	switch {
	case d < time.Minute:
		return u.count(max(math.Ceil(d.Seconds()), 1), u.second)
	case d <= 90*time.Minute:
		return u.count(math.Ceil(d.Minutes()), u.minute)
	}
	return u.count(math.Ceil(d.Hours()), u.hour)
}

// ago says how long ago something was, as people do. What is in the future, by the clocks, is now.
func (t *text) ago(d time.Duration) string {
	u := t.units
	switch {
	case d < time.Minute:
		return u.now
	case d < time.Hour:
		return fmt.Sprintf(u.past, u.count(math.Floor(d.Minutes()), u.minute))
	case d < 48*time.Hour:
		return fmt.Sprintf(u.past, u.count(math.Floor(d.Hours()), u.hour))
	}
	return fmt.Sprintf(u.past, u.count(math.Floor(d.Hours()/24), u.day))
}
