package web

import (
	"net/http"
	"strings"

	"github.com/mileusna/useragent"
)

// maxUserAgent bounds what is parsed of the header; no browser sends as much.
const maxUserAgent = 1024

// DeviceOf is what people call the device that a request says it comes from, like "Firefox on Linux": for lists of
// sessions, never for a decision. "" if it does not say.
func DeviceOf(r *http.Request) string {
	header := r.UserAgent()
	if header == "" || len(header) > maxUserAgent {
		return ""
	}
	ua := useragent.Parse(header)
	name, system := ua.Name, ua.OS
	if brand := brandOf(r.Header.Get("Sec-CH-UA")); brand != "" { // what the user agent string does not tell any more
		name = brand
	}
	if ua.Device != "" && ua.Mobile && !strings.EqualFold(ua.Device, system) {
		system = ua.Device
	}
	switch {
	case ua.Bot, name == "" && system == "":
		return short(name)
	case system == "":
		return short(name)
	case name == "":
		return short(system)
	}
	return short(name + " on " + system)
}

// brandOf is the browser among the brands of Sec-CH-UA that are no engine and no filler.
func brandOf(header string) string {
	if len(header) > maxUserAgent {
		return ""
	}
	for brand := range strings.SplitSeq(header, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(brand), ";")
		name = strings.Trim(name, `"`)
		switch {
		case name == "", name == "Chromium", name == "Google Chrome", strings.Contains(strings.ToLower(name), "brand"):
		default:
			return name
		}
	}
	return ""
}

// short cuts a name to what a list has room for, and drops what is not printable.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > 0x024f {
			return -1
		}
		return r
	}, s)
	if len(s) > 60 {
		s = s[:60]
	}
	return strings.TrimSpace(strings.ToValidUTF8(s, ""))
}
