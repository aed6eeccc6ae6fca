package config

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
)

// Page is how the built-in pages look and speak.
type Page struct {
	// The app's name on its pages.
	//
	// Default: `""`, the host of the frontend's URL
	Name string `yaml:"name"`

	// The file of the app's logo, in place of the lock: SVG, PNG or WebP, at most 200 KiB. It is shown 48 pixels high, on
	// white and, in the dark scheme, on nearly black. An SVG is drawn by itself: one with a script, an event handler or
	// anything from elsewhere is refused.
	//
	// Default: `""`, the lock
	Logo string `yaml:"logo"`

	// The colour of the main button, of links and of the focus ring, as `#rrggbb`. On the white card it needs a contrast
	// of 4.5:1. What stands on it, and the shades beside it, follow.
	//
	// Default: `""`, our blue
	Accent string `yaml:"accent"`

	// The same for those whose device is set to dark colours, where the card is `#181b21`.
	//
	// Default: `""`, which is `accent`, lightened as far as the contrast needs
	AccentDark string `yaml:"accent_dark"`

	// How round fields and buttons are, `0px` to `24px`. The card is rounder by two thirds.
	//
	// Default: `""`, which is 12px
	Radius string `yaml:"radius"`

	// The names of fonts, with commas between them: the first one that the device has is used. No font is loaded.
	//
	// Default: `""`, the device's own font
	Font string `yaml:"font"`

	// A file with CSS that comes after all of that, at most 64 KiB, for what has no key here. docs/pages.md names its
	// variables; nobody checks their contrast.
	//
	// Default: `""`, none
	Style string `yaml:"style"`

	// Texts to say otherwise.
	//
	// Default: `[]`
	Texts []PageText `yaml:"texts"`
}

// PageText is one text of the pages in one language.
type PageText struct {
	// The language.
	//
	// Required.
	Language string `yaml:"language" words:"en de fr es ja" rule:"required"`

	// Which text.
	//
	// Required.
	Name string `yaml:"name" words:"log_in user_name password remember or single_sign_on one_time_code confirm_title choose_title choose_body enroll_title enroll_body recovery_title recovery_body new_password_title new_password_body" rule:"required"`

	// What it says.
	//
	// Required.
	Text string `yaml:"text" rule:"required"`
}

// The colour of the pages' card, in the light and in the dark scheme.
const (
	PageCard     = "#ffffff"
	PageCardDark = "#181b21"
)

const (
	maxLogo     = 200 << 10
	maxStyle    = 64 << 10
	maxText     = 500
	maxFont     = 200
	minContrast = 4.5 // WCAG 2.2, 1.4.3
)

// LogoTypes are the kinds of file that a logo may be, by extension.
var LogoTypes = map[string]string{".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}

var (
	isColour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	isRadius = regexp.MustCompile(`^([0-9]|1[0-9]|2[0-4])px$`)
	isFont   = regexp.MustCompile(`^("[\p{L}0-9 -]+"|'[\p{L}0-9 -]+'|\p{L}[\p{L}0-9 -]*)(, *("[\p{L}0-9 -]+"|'[\p{L}0-9 -]+'|\p{L}[\p{L}0-9 -]*))*$`)
)

func (p Page) check(a at) {
	if len(p.Name) > 100 || strings.ContainsFunc(p.Name, isControl) {
		a.key("name").say("is too long or has a control character", "write a short name")
	}
	if p.Logo != "" {
		checkLogo(a.key("logo"), p.Logo)
	}
	checkAccent(a.key("accent"), p.Accent, PageCard, "a darker")
	checkAccent(a.key("accent_dark"), p.AccentDark, PageCardDark, "a lighter")
	if p.Radius != "" && !isRadius.MatchString(p.Radius) {
		a.key("radius").say("is no radius", "write 0px to 24px")
	}
	if p.Font != "" && (len(p.Font) > maxFont || !isFont.MatchString(p.Font)) {
		a.key("font").say("is no list of fonts", `write names with commas between them, like "Segoe UI", Roboto, sans-serif`)
	}
	if p.Style != "" {
		checkSize(a.key("style"), p.Style, maxStyle, "64 KiB")
	}
	for i, t := range p.Texts {
		if item := a.key("texts").item(i).key("text"); t.Text == "" {
			item.say("is missing", "write the text, or leave the entry out")
		} else if len(t.Text) > maxText {
			item.say("is longer than 500 bytes", "say it shorter")
		}
	}
}

func checkSize(a at, path string, most int64, words string) bool {
	info, err := os.Stat(path)
	switch {
	case err != nil || !info.Mode().IsRegular():
		a.say("cannot be read", "write the path of a file, relative to the configuration")
	case info.Size() > most:
		a.say("is larger than "+words, "make it smaller")
	default:
		return true
	}
	return false
}

func checkAccent(a at, colour, card, better string) {
	switch {
	case colour == "":
	case !isColour.MatchString(colour):
		a.say("is no colour", "write it like #3551c9")
	default:
		if ratio := Contrast(colour, card); ratio < minContrast {
			a.say(fmt.Sprintf("has a contrast of %.1f:1 to the card (%s), which is too faint to read", math.Floor(ratio*10)/10, card), "choose "+better+" one, with at least 4.5:1")
		}
	}
}

// Contrast is the contrast ratio of two colours that are written #rrggbb, by WCAG 2.2.
func Contrast(a, b string) float64 {
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(colour string) float64 {
	rgb, _ := hex.DecodeString(strings.TrimPrefix(colour, "#")) // of a colour that was checked
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		if i == len(rgb) {
			break
		}
		c := float64(rgb[i]) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
