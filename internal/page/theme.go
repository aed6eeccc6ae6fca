package page

import "net/http"

// Theme is what a frontend changes of the pages. The zero value changes nothing.
type Theme struct {
	Name     string // of the app, in place of its host
	Logo     []byte
	LogoType string // its media type
	Style    []byte // CSS that comes after ours
	Texts    []Override
}

// Override is a text that a language says otherwise.
type Override struct{ Language, Name, Text string }

// Names of the theme's files among the assets.
const (
	logoName  = "logo"
	styleName = "theme.css"
)

// subject is what one logs in to.
func (p *Pages) subject(host string) string {
	if p.theme.Name != "" {
		return p.theme.Name
	}
	return host
}

// textFor is the language that a request asks for.
func (p *Pages) textFor(r *http.Request) *text {
	return p.spoken.pick(r.Header.Get("Accept-Language"))
}

// languages are ours, with the theme's texts.
func (t Theme) languages() languages {
	if len(t.Texts) == 0 {
		return spoken
	}
	own := make([]*text, len(spoken.texts))
	for i, ours := range spoken.texts {
		copied := *ours
		own[i] = &copied
		for _, o := range t.Texts {
			if o.Language != copied.Lang {
				continue
			}
			if field := own[i].named(o.Name); field != nil {
				*field = o.Text
			}
		}
	}
	return newLanguages(own...)
}

// named is the text of a name that a configuration knows, nil for any other.
func (t *text) named(name string) *string {
	return map[string]*string{
		"log_in": &t.LogIn, "user_name": &t.UserName, "password": &t.Password, "remember": &t.Remember, "or": &t.Or,
		"single_sign_on": &t.continueHosted, "one_time_code": &t.OneTimeCode,
		"confirm_title": &t.ConfirmTitle, "choose_title": &t.ChooseTitle, "choose_body": &t.ChooseBody,
		"enroll_title": &t.EnrollTitle, "enroll_body": &t.EnrollBody,
		"recovery_title": &t.RecoveryTitle, "recovery_body": &t.RecoveryBody,
		"new_password_title": &t.NewPasswordTitle, "new_password_body": &t.NewPasswordBody,
	}[name]
}
