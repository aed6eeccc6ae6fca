package config

import (
	"strings"
	"time"
)

// Session says how long sessions live and how their cookie looks.
type Session struct {
	// After how much time without a request a session ends that was begun without "remember me".
	//
	// Default: `24h`, or the lifetime if that is shorter
	IdleTimeout Duration `yaml:"idle_timeout" rule:"set"`

	// The same for a session with "remember me", whose cookie also survives the browser's end.
	//
	// Default: `14d`, or the lifetime if that is shorter
	RememberIdleTimeout Duration `yaml:"remember_idle_timeout" rule:"set"`

	// When a session ends whatever happens, at most `400d`, which is how long browsers keep a cookie.
	//
	// Default: `30d`
	Lifetime Duration `yaml:"lifetime" rule:"set"`

	// The name of the ticket's cookie. On https it begins with `__Host-`, so that no other host can set it.
	//
	// Default: `""`, which is `__Host-Http-cloakroom`, and `cloakroom-<port>` on http loopback
	Cookie string `yaml:"cookie"`

	// When browsers send the ticket: `strict` = only for what the app's own site begins (on page routes Cloakroom
	// makes that equal to lax); `lax` = also when a link on another site leads here.
	//
	// Default: `strict`
	SameSite string `yaml:"same_site" words:"strict lax"`
}

const (
	day         = 24 * time.Hour
	maxLifetime = Duration(400 * day)
)

func (s Session) withDefaults() Session {
	orDefault(&s.Lifetime, Duration(30*day))
	orDefault(&s.IdleTimeout, min(Duration(day), s.Lifetime))
	orDefault(&s.RememberIdleTimeout, min(Duration(14*day), s.Lifetime))
	orDefault(&s.SameSite, "strict")
	return s
}

func (s Session) check(a at, plain bool) {
	switch {
	case s.Lifetime <= 0:
		a.key("lifetime").say("is not above zero", "write a duration like 30d")
	case s.Lifetime > maxLifetime:
		a.key("lifetime").say("is longer than the 400 days that browsers keep a cookie", "write at most 400d")
	default:
		for _, idle := range []struct {
			key   string
			value Duration
		}{{"idle_timeout", s.IdleTimeout}, {"remember_idle_timeout", s.RememberIdleTimeout}} {
			switch {
			case idle.value <= 0:
				a.key(idle.key).say("is not above zero", "write a duration like 24h")
			case idle.value > s.Lifetime:
				a.key(idle.key).say("is longer than the lifetime", "write a shorter one, or a longer lifetime (30d if it is left out)")
			}
		}
	}
	if s.Cookie != "" {
		checkCookie(a.key("cookie"), s.Cookie, plain)
	}
}

func checkCookie(a at, name string, plain bool) {
	lower := strings.ToLower(name)
	switch {
	case !isToken(name) || len(name) > 100:
		a.say("is no cookie name", "use letters, digits, - and _")
	case !plain && !strings.HasPrefix(name, "__Host-"):
		a.say("does not begin with __Host-, so that other hosts could set it", "write it like __Host-Http-cloakroom")
	case plain && strings.HasPrefix(name, "__"):
		a.say("begins with a prefix that browsers refuse on http", "write it without __")
	case strings.HasPrefix(lower, "__host-cloakroom-tx-"), lower == "__host-cloakroom-bound", lower == "__host-http-cloakroom-device":
		a.say("is the name of another cookie of ours", "choose another")
	}
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
	})
}
