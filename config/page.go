package config

import (
	"os"
	"path/filepath"
	"strings"
)

// Page is how the built-in pages look and speak.
type Page struct {
	// The app's name on its pages.
	//
	// Default: `""`, the host of the frontend's URL
	Name string `yaml:"name"`

	// The file of the app's logo, in place of the lock: SVG, PNG or WebP, at most 200 KiB. It is shown 48 pixels high.
	//
	// Default: `""`, the lock
	Logo string `yaml:"logo"`

	// A file with CSS that comes after the pages' own, at most 64 KiB. Colours, corners and font are variables:
	// docs/pages.md names them.
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

const (
	maxLogo  = 200 << 10
	maxStyle = 64 << 10
	maxText  = 500
)

// LogoTypes are the kinds of file that a logo may be, by extension.
var LogoTypes = map[string]string{".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}

func (p Page) check(a at) {
	if len(p.Name) > 100 || strings.ContainsFunc(p.Name, isControl) {
		a.key("name").say("is too long or has a control character", "write a short name")
	}
	if p.Logo != "" {
		if LogoTypes[strings.ToLower(filepath.Ext(p.Logo))] == "" {
			a.key("logo").say("is no .svg, .png or .webp file", "choose another file")
		} else {
			checkSize(a.key("logo"), p.Logo, maxLogo, "200 KiB")
		}
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

func checkSize(a at, path string, most int64, words string) {
	info, err := os.Stat(path)
	switch {
	case err != nil || !info.Mode().IsRegular():
		a.say("cannot be read", "write the path of a file, relative to the configuration")
	case info.Size() > most:
		a.say("is larger than "+words, "make it smaller")
	}
}
