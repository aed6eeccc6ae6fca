package page

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/cloakroom/cloakroom/config"
)

// Theme is what a frontend changes of the pages. The zero value changes nothing. Colours, Radius and Font are as the
// configuration has checked them.
type Theme struct {
	Name               string // of the app, in place of its host
	Logo               []byte
	LogoType           string // its media type
	Accent, AccentDark string // #rrggbb; the dark one follows from the light one if it is empty
	Radius             string // such as 8px
	Font               string // a font-family
	Style              []byte // CSS that comes after all of that
	Texts              []Override
}

// Override is a text that a language says otherwise.
type Override struct{ Language, Name, Text string }

// Names of the theme's files among the assets.
const (
	logoName  = "logo"
	styleName = "theme.css"
)

// css is the theme as a stylesheet that comes after ours.
func (t Theme) css() string {
	var light, dark, b strings.Builder
	if t.Accent != "" {
		light.WriteString(accentCSS(t.Accent, mix(t.Accent, black, 0.15), config.PageCard, "#f3f4f8"))
	}
	if accent := t.dark(); accent != "" {
		dark.WriteString(accentCSS(accent, mix(accent, white, 0.25), config.PageCardDark, "#0f1115"))
	}
	if t.Radius != "" {
		light.WriteString("  --radius: " + t.Radius + ";\n")
	}
	if t.Font != "" {
		light.WriteString("  --font: " + t.Font + ";\n")
	}
	if light.Len() > 0 {
		b.WriteString(":root {\n" + light.String() + "}\n")
	}
	if dark.Len() > 0 {
		b.WriteString("@media (prefers-color-scheme: dark) {\n:root {\n" + dark.String() + "}\n}\n")
	}
	return b.String() + string(t.Style)
}

// accentCSS are the colours that go with an accent: what is under the pointer, what stands on it, and the hues beside.
func accentCSS(accent, hover, card, ground string) string {
	on := white
	if config.Contrast(accent, white) < leastContrast {
		on = black
	}
	return fmt.Sprintf("  --accent: %s;\n  --accent-hover: %s;\n  --on-accent: %s;\n  --tint: %s;\n  --glow: %s;\n",
		strings.ToLower(accent), hover, on, mix(card, accent, 0.07), mix(ground, accent, 0.09))
}

const (
	white, black  = "#ffffff", "#000000"
	leastContrast = 4.5
)

// dark is the accent of the dark scheme.
func (t Theme) dark() string {
	if t.AccentDark != "" || t.Accent == "" {
		return t.AccentDark
	}
	accent := t.Accent
	for share := 0.05; config.Contrast(accent, config.PageCardDark) < leastContrast; share += 0.05 {
		accent = mix(t.Accent, white, share)
	}
	return accent
}

// mix adds a share of another colour.
func mix(colour, other string, share float64) string {
	a, _ := hex.DecodeString(colour[1:]) // the configuration has checked them
	b, _ := hex.DecodeString(other[1:])
	for i := range a {
		a[i] = byte(float64(a[i])*(1-share) + float64(b[i])*share + 0.5)
	}
	return "#" + hex.EncodeToString(a)
}

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
