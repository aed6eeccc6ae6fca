package config

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// checkLogo reads the file: what is in it must be what its name says, and an SVG must draw nothing but itself.
func checkLogo(a at, path string) {
	kind := LogoTypes[strings.ToLower(filepath.Ext(path))]
	if kind == "" {
		a.say("is no .svg, .png or .webp file", "choose another file")
		return
	}
	if !checkSize(a, path, maxLogo, "200 KiB") {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		a.say("cannot be read", "write the path of a file, relative to the configuration")
		return
	}
	switch kind {
	case "image/svg+xml":
		if f := checkSVG(data); f != nil {
			a.say(f.problem, f.mend)
		}
	case "image/png":
		if !bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) {
			a.say("is no PNG inside", "save it as PNG, or name it by what it is")
		}
	default:
		if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WEBP" {
			a.say("is no WebP inside", "save it as WebP, or name it by what it is")
		}
	}
}

// svgBanned are elements that run, or that bring in what is not SVG.
var svgBanned = map[string]bool{
	"script": true, "handler": true, "listener": true, "foreignobject": true, "iframe": true, "object": true, "embed": true,
	"audio": true, "video": true, "a": true,
}

var (
	// cssURL is what CSS names, in a style as in an attribute like fill.
	cssURL = regexp.MustCompile(`(?i)url\(\s*['"]?\s*([^)]*)`)
	// cssOther are the other ways: another sheet, and a url( with letters written as escapes.
	cssOther = regexp.MustCompile(`(?i)@import|\\[^(]*\(`)
)

// checkSVG finds what a logo has no use for and an attacker would have: it says nil for a picture that is complete in
// itself. It is served under a policy that lets nothing run, too; this is so that the operator hears of it.
func checkSVG(data []byte) *fault {
	d := xml.NewDecoder(bytes.NewReader(data))
	first, styles := true, 0
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && !first:
			return nil
		case err != nil:
			return &fault{"is no SVG that can be read", "save it as plain SVG, in UTF-8"}
		}
		switch tok := token.(type) {
		case xml.ProcInst:
			if tok.Target != "xml" {
				return &svgForeign
			}
		case xml.Directive:
			if bytes.ContainsRune(tok, '[') {
				return &fault{"declares entities, which can hide a script", "save it as plain SVG, without a DOCTYPE"}
			}
		case xml.StartElement:
			if first && tok.Name.Local != "svg" {
				return &fault{"is no SVG that can be read", "save it as plain SVG, in UTF-8"}
			}
			first = false
			if f := checkSVGElement(tok); f != nil {
				return f
			}
			if strings.EqualFold(tok.Name.Local, "style") {
				styles++
			}
		case xml.EndElement:
			if strings.EqualFold(tok.Name.Local, "style") {
				styles--
			}
		case xml.CharData:
			if styles > 0 && foreignCSS(string(tok)) {
				return &svgForeign
			}
		}
	}
}

var svgForeign = fault{"refers to something outside of the file", "put all that it draws into it"}

func checkSVGElement(e xml.StartElement) *fault {
	if svgBanned[strings.ToLower(e.Name.Local)] {
		return &fault{"has a script, a link or a foreign element", "save it as plain SVG, with shapes only"}
	}
	for _, attr := range e.Attr {
		name, value := strings.ToLower(attr.Name.Local), strings.TrimSpace(attr.Value)
		lower := strings.ToLower(value)
		switch {
		case name == "xmlns" || attr.Name.Space == "xmlns":
		case strings.HasPrefix(name, "on"), name == "attributename" && strings.HasPrefix(lower, "on"):
			return &fault{"has an event handler", "save it as plain SVG, without on… attributes"}
		case name == "attributename" && strings.HasSuffix(lower, "href"): // an animation would point it elsewhere
			return &svgForeign
		case (name == "href" || name == "src") && !strings.HasPrefix(value, "#") && !isPicture(lower):
			return &svgForeign
		case name == "base" || foreignCSS(value):
			return &svgForeign
		}
	}
	return nil
}

// isPicture reports whether an address is a picture that stands in the address itself.
func isPicture(address string) bool {
	for _, kind := range []string{"png", "jpeg", "webp"} {
		if strings.HasPrefix(address, "data:image/"+kind+";base64,") {
			return true
		}
	}
	return false
}

// foreignCSS reports whether CSS names anything but what is in the same file.
func foreignCSS(css string) bool {
	for _, m := range cssURL.FindAllStringSubmatch(css, -1) {
		if !strings.HasPrefix(m[1], "#") && !isPicture(strings.ToLower(m[1])) {
			return true
		}
	}
	return cssOther.MatchString(css)
}
