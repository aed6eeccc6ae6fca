package config

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// problemsOf are what is wrong with a page, without the mends.
func problemsOf(p Page) []string {
	var found Problems
	p.check(at{"page", &found})
	var all []string
	for _, f := range found {
		all = append(all, f.Path+": "+f.Problem)
	}
	return all
}

func TestPageTheme(t *testing.T) {
	for _, p := range []Page{
		{},
		{Name: "Acme Shop", Accent: "#3551c9", AccentDark: "#9db0ff", Radius: "0px", Font: "Inter"},
		{Accent: "#000000", AccentDark: "#FFFFFF", Radius: "24px", Font: `"Segoe UI", Roboto, 'Noto Sans', sans-serif`},
		{Accent: "#767676", Font: "Source Sans 3, ui-sans-serif"},
		{Font: "ヒラギノ角ゴ ProN, sans-serif"},
	} {
		if got := problemsOf(p); len(got) != 0 {
			t.Errorf("%+v: %v", p, got)
		}
	}
	for _, c := range []struct {
		page Page
		want string
	}{
		{Page{Accent: "red"}, "page.accent: accent is no colour"},
		{Page{Accent: "3551c9"}, "page.accent: accent is no colour"},
		{Page{Accent: "#3551c9ff"}, "page.accent: accent is no colour"},
		{Page{Accent: "#3551cg"}, "page.accent: accent is no colour"},
		{Page{Accent: "#3551c9;"}, "page.accent: accent is no colour"},
		{Page{Accent: "#3551c9\n"}, "page.accent: accent is no colour"},
		{Page{Accent: "#777777"}, "page.accent: accent has a contrast of 4.4:1 to the card (#ffffff)"}, // 4.478
		{Page{Accent: "#ffffff"}, "page.accent: accent has a contrast of 1.0:1 to the card (#ffffff)"},
		{Page{AccentDark: "#000000"}, "page.accent_dark: accent_dark has a contrast of 1.2:1 to the card (#181b21)"},
		{Page{Radius: "12"}, "page.radius: radius is no radius"},
		{Page{Radius: "25px"}, "page.radius: radius is no radius"},
		{Page{Radius: "-1px"}, "page.radius: radius is no radius"},
		{Page{Radius: "1.5px"}, "page.radius: radius is no radius"},
		{Page{Radius: "50%"}, "page.radius: radius is no radius"},
		{Page{Radius: "012px"}, "page.radius: radius is no radius"},
		{Page{Font: "Inter;"}, "page.font: font is no list"},
		{Page{Font: "Inter}"}, "page.font: font is no list"},
		{Page{Font: `"Inter`}, "page.font: font is no list"},
		{Page{Font: `"In'ter"`}, "page.font: font is no list"},
		{Page{Font: "Inter,"}, "page.font: font is no list"},
		{Page{Font: "Inter,,Roboto"}, "page.font: font is no list"},
		{Page{Font: "url(x)"}, "page.font: font is no list"},
		{Page{Font: "Inter/*"}, "page.font: font is no list"},
		{Page{Font: `Int\65r`}, "page.font: font is no list"},
		{Page{Font: "Inter\nRoboto"}, "page.font: font is no list"},
		{Page{Font: "3 Sans"}, "page.font: font is no list"},
		{Page{Font: strings.Repeat("a", maxFont+1)}, "page.font: font is no list"},
	} {
		if got := problemsOf(c.page); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%+v: %q, want %q", c.page, got, c.want)
		}
	}
}

// The examples of WCAG's own techniques.
func TestContrast(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"#000000", "#ffffff", 21}, {"#ffffff", "#000000", 21}, {"#808080", "#808080", 1}, {"#767676", "#FFFFFF", 4.54}, {"#ff0000", "#ffffff", 4.0},
	} {
		if got := Contrast(c.a, c.b); math.Abs(got-c.want) > 0.005 {
			t.Errorf("%s on %s: %.3f, want %.2f", c.a, c.b, got, c.want)
		}
	}
}

const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:onto="http://example.com/onto" viewBox="0 0 8 8">`

func TestLogoSVG(t *testing.T) {
	for _, good := range []string{
		svgHead + `<path d="M0 0h8v8z" fill="#c00"/></svg>`,
		`<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">` + svgHead + `</svg>`,
		"\ufeff" + svgHead + `<!-- made by hand --><title>Acme "on" air</title><desc>See https://example.com</desc></svg>`,
		svgHead + `<style>.a{fill:url(#b)} @media (prefers-color-scheme: dark){.a{fill:#fff}}</style><linearGradient id="b"/><rect class="a"/></svg>`,
		svgHead + `<defs><g id="a"/></defs><use xlink:href="#a"/><rect fill="url( '#b' )" style="filter:url(#c)"/></svg>`,
		svgHead + `<image href="data:image/png;base64,iVBORw0KGgo="/></svg>`,
		svgHead + `<animate attributeName="opacity" from="0" to="1"/></svg>`,
	} {
		if f := checkSVG([]byte(good)); f != nil {
			t.Errorf("%s: %s", good, f.problem)
		}
	}
	const script, handler, foreign, unreadable = "has a script", "has an event handler", "refers to something outside", "is no SVG"
	for _, c := range []struct{ inner, want string }{
		{`<script>alert(1)</script>`, script},
		{`<SCRIPT/>`, script},
		{`<g><s:script xmlns:s="http://www.w3.org/2000/svg">x</s:script></g>`, script},
		{`<foreignObject><p/></foreignObject>`, script},
		{`<a href="https://example.com/"/>`, script},
		{`<h:iframe xmlns:h="http://www.w3.org/1999/xhtml" src="x"/>`, script},
		{`<g onclick="x()"/>`, handler},
		{`<g ONLOAD="x()"/>`, handler},
		{`<set attributeName="onmouseover" to="x()"/>`, handler},
		{`<image href="https://example.com/x.png"/>`, foreign},
		{`<image xlink:href="//example.com/x.png"/>`, foreign},
		{`<image href="x.png"/>`, foreign},
		{`<image href=" javascript:alert(1)"/>`, foreign},
		{`<use href="data:image/svg+xml;base64,PHN2Zz4="/>`, foreign},
		{`<use href="other.svg#a"/>`, foreign},
		{`<animate attributeName="xlink:href" values="javascript:x"/>`, foreign},
		{`<g xml:base="https://example.com/"/>`, foreign},
		{`<rect fill="url(https://example.com/x.svg#a)"/>`, foreign},
		{`<rect style="background:URL( &quot;//example.com&quot; )"/>`, foreign},
		{`<rect style="background:u\72l(//example.com)"/>`, foreign},
		{`<style>@import "https://example.com/x.css";</style>`, foreign},
		{`<style><![CDATA[.a{fill:url(//example.com/x)}]]></style>`, foreign},
		{`<?xml-stylesheet href="https://example.com/x.css"?>`, foreign},
		{`<g>`, unreadable},
		{`&unknown;`, unreadable},
		{"\x00", unreadable},
	} {
		if f := checkSVG([]byte(svgHead + c.inner + `</svg>`)); f == nil || !strings.HasPrefix(f.problem, c.want) {
			t.Errorf("%s: %v, want %s", c.inner, f, c.want)
		}
	}
	for _, c := range []struct{ whole, want string }{
		{"", unreadable},
		{"GIF89a", unreadable},
		{"<html/>", unreadable},
		{"<!-- -->", unreadable},
		{`<?xml version="1.0" encoding="ISO-8859-1"?>` + svgHead + `</svg>`, unreadable},
		{`<!DOCTYPE svg [<!ENTITY x "y">]>` + svgHead + `</svg>`, "declares entities"},
		{`<?xml-stylesheet href="x.css"?>` + svgHead + `</svg>`, foreign},
	} {
		if f := checkSVG([]byte(c.whole)); f == nil || !strings.HasPrefix(f.problem, c.want) {
			t.Errorf("%s: %v, want %s", c.whole, f, c.want)
		}
	}
}

func TestLogoFiles(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, content, want string }{
		{"a.png", "\x89PNG\r\n\x1a\n...", ""},
		{"a.PNG", "\x89PNG\r\n\x1a\n...", ""},
		{"a.webp", "RIFF\x10\x00\x00\x00WEBPVP8 ", ""},
		{"a.svg", svgHead + "</svg>", ""},
		{"b.png", svgHead + "</svg>", "logo is no PNG inside"},
		{"b.webp", "RIFF\x10\x00\x00\x00WAVE", "logo is no WebP inside"},
		{"c.webp", "RIFF", "logo is no WebP inside"},
		{"b.svg", "\x89PNG\r\n\x1a\n...", "logo is no SVG that can be read"},
		{"d.svg", svgHead + strings.Repeat(" ", maxLogo) + "</svg>", "logo is larger than 200 KiB"},
		{"logo", svgHead + "</svg>", "logo is no .svg, .png or .webp file"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got := strings.TrimPrefix(strings.Join(problemsOf(Page{Logo: path}), "\n"), "page.logo: ")
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzCheckSVG(f *testing.F) {
	f.Add([]byte(svgHead + `<style>.a{fill:url(#b)}</style></svg>`))
	f.Add([]byte(`<!DOCTYPE svg [<!ENTITY x "y">]>` + svgHead + `&x;</svg>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkSVG(data) == nil && strings.Contains(strings.ToLower(string(data)), "<script") && !strings.Contains(string(data), "<!") && !strings.Contains(string(data), "<?") {
			t.Errorf("let a script through: %q", data)
		}
	})
}
