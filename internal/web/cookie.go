package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// MaxTransactions is how many logins may be in progress in one browser; starting another drops the oldest.
const MaxTransactions = 5

// TransactionLife is how long a login may take.
const TransactionLife = 10 * time.Minute

// Cookies knows the names and attributes of one frontend's cookies (DESIGN.md section 6). On https they carry the
// __Host- prefixes, which browsers enforce; on plain-http loopback the port is part of the name instead, because
// cookies do not know ports.
type Cookies struct {
	ticket   string
	txPrefix string
	device   string
	secure   bool
	sameSite http.SameSite
}

// NewCookies makes the cookies of a frontend, whose URL is a valid origin.
func NewCookies(frontend string, s config.Session) (Cookies, error) {
	u, err := url.Parse(frontend)
	if err != nil {
		return Cookies{}, err
	}
	c := Cookies{secure: u.Scheme == "https", sameSite: http.SameSiteStrictMode}
	if s.SameSite == "lax" {
		c.sameSite = http.SameSiteLaxMode
	}
	if c.secure {
		c.ticket, c.txPrefix, c.device = "__Host-Http-cloakroom", "__Host-cloakroom-tx-", "__Host-Http-cloakroom-device"
	} else {
		port := u.Port()
		if port == "" {
			port = "80"
		}
		c.ticket, c.txPrefix, c.device = "cloakroom-"+port, "cloakroom-"+port+"-tx-", "cloakroom-"+port+"-device"
	}
	if s.Cookie != "" {
		c.ticket = s.Cookie
	}
	return c, nil
}

// TicketName is the name of the ticket's cookie.
func (c Cookies) TicketName() string { return c.ticket }

// Strict reports whether the ticket is kept back on navigations begun by other sites.
func (c Cookies) Strict() bool { return c.sameSite == http.SameSiteStrictMode }

// Ours reports whether a cookie of this name is ours, in any spelling: such a cookie goes to no upstream, and no
// upstream may set it. Browsers compare the prefixes without case, so we do, too.
func (c Cookies) Ours(name string) bool {
	return strings.EqualFold(name, c.ticket) || hasPrefixFold(name, "cloakroom-") ||
		hasPrefixFold(name, "__Host-cloakroom") || hasPrefixFold(name, "__Host-Http-cloakroom") ||
		hasPrefixFold(name, "__Http-cloakroom") || hasPrefixFold(name, "__Secure-cloakroom")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// Carried is what a request carries of our cookies.
type Carried struct {
	Ticket  string // the value, when there is exactly one
	Tickets int    // how many cookies have the ticket's name
	Any     bool   // any cookie of ours at all
}

// Read looks through the request's Cookie headers. It does not allocate.
func (c Cookies) Read(r *http.Request) Carried {
	var got Carried
	for name, value := range pairs(r) {
		if name == c.ticket {
			got.Tickets++
			got.Ticket = value
			got.Any = true
		} else if c.Ours(name) {
			got.Any = true
		}
	}
	if got.Tickets > 1 {
		got.Ticket = ""
	}
	return got
}

// Transaction returns the value of the transaction cookie with this id, and whether there is exactly one.
func (c Cookies) Transaction(r *http.Request, id string) (string, bool) {
	return only(r, c.txPrefix+id)
}

// Device returns the value of the cookie of a known browser, and whether there is exactly one.
func (c Cookies) Device(r *http.Request) (string, bool) { return only(r, c.device) }

// only is the value of the one cookie of a name.
func only(r *http.Request, wanted string) (value string, ok bool) {
	n := 0
	for name, v := range pairs(r) {
		if name == wanted {
			value = v
			n++
		}
	}
	return value, n == 1
}

// TransactionIDs lists the ids of all transaction cookies, in the order the browser sent them: oldest first
// (RFC 6265 section 5.4 sorts by creation time).
func (c Cookies) TransactionIDs(r *http.Request) []string {
	var ids []string
	for name := range pairs(r) {
		if id, ok := strings.CutPrefix(name, c.txPrefix); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// pairs walks over name and value of all cookies, bytes as they are.
func pairs(r *http.Request) func(yield func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for _, line := range r.Header["Cookie"] {
			for line != "" {
				var part string
				part, line, _ = strings.Cut(line, ";")
				name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
				if name != "" && !yield(name, value) {
					return
				}
			}
		}
	}
}

// SetTicket hands the ticket to the browser. maxAge 0 makes it a cookie of the browser session.
func (c Cookies) SetTicket(w http.ResponseWriter, value string, maxAge time.Duration) {
	c.set(w, c.ticket, value, maxAge, c.sameSite)
}

// ClearTicket takes the ticket back, with the attributes it was set with: browsers ignore anything else.
func (c Cookies) ClearTicket(w http.ResponseWriter) {
	c.set(w, c.ticket, "", -1, c.sameSite)
}

// SetTransaction keeps a login in progress in the browser. silent: the login runs in an iframe, whose top may be
// another site's; the cookie is SameSite=None then, where https allows it.
func (c Cookies) SetTransaction(w http.ResponseWriter, id, value string, site http.SameSite) {
	if site == http.SameSiteNoneMode && !c.secure {
		site = http.SameSiteLaxMode
	}
	c.set(w, c.txPrefix+id, value, TransactionLife, site)
}

// SetDevice marks a browser as known. Only our own pages' requests carry it.
func (c Cookies) SetDevice(w http.ResponseWriter, value string, life time.Duration) {
	c.set(w, c.device, value, life, http.SameSiteStrictMode)
}

// ClearTransaction removes a transaction cookie.
func (c Cookies) ClearTransaction(w http.ResponseWriter, id string) {
	c.set(w, c.txPrefix+id, "", -1, http.SameSiteLaxMode)
}

func (c Cookies) set(w http.ResponseWriter, name, value string, maxAge time.Duration, site http.SameSite) {
	age := int(maxAge / time.Second)
	if maxAge < 0 {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: age, Secure: c.secure, HttpOnly: true, SameSite: site,
	})
}
