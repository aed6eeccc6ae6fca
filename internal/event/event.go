// Package event holds what Cloakroom says about itself: one wide [Request] event per request, one [Audit] event per
// security act, one [Call] per request to a provider. Logs, metrics and the demo's log are consumers of one [Sink].
// No event ever holds a secret: no ticket, no token, no password, no query string.
package event

import "time"

// Sink takes events. It must not block for long and may be called by many goroutines at once. nil is allowed
// where a Sink is asked for: use Emit.
type Sink func(Event)

// Emit hands e to the sink if there is one.
func (s Sink) Emit(e Event) {
	if s != nil {
		s(e)
	}
}

// Event is one of *Request, *Audit, *Call.
type Event interface{ event() }

// Request is one request that was answered.
type Request struct {
	Time     time.Time     `json:"time"`
	ID       string        `json:"request_id"`
	Frontend string        `json:"frontend,omitempty"` // its origin
	Method   string        `json:"method"`
	Path     string        `json:"path"` // without the query
	Route    string        `json:"route,omitempty"`
	Status   int           `json:"status"`
	Code     string        `json:"code,omitempty"` // problem code, if one was answered
	Duration time.Duration `json:"duration"`
	Bytes    int64         `json:"bytes"`
	Session  string        `json:"session,omitempty"` // handle
	Client   string        `json:"client,omitempty"`  // address
	Cause    string        `json:"cause,omitempty"`   // why it failed, for the operator
}

// Kinds of Audit.
const (
	Login           = "login"
	LoginFailed     = "login_failed"
	LoginStep       = "login_step" // a login by form goes on; Reason: challenge | enroll | password_change | redirect, Detail: why or with what
	LimitHit        = "limit_hit"
	Logout          = "logout"
	ProviderLogout  = "provider_logout"         // a provider's logout was carried out; Reason: back_channel | front_channel
	LogoutRefused   = "provider_logout_refused" // it does not hold; Reason: the rule it breaks
	LogoutFailed    = "provider_logout_failed"  // it could not be checked or carried out now: sessions may live on
	SessionEnded    = "session_ended"
	UserEnd         = "user_end" // a person ended other sessions of theirs: Session is the one that asked, Detail says which
	RefreshRejected = "refresh_rejected"
	RefreshLost     = "refresh_lost"
	ProviderIll     = "provider_ill"  // its answers failed in a row, or it asked for time: it is left alone for a while
	ProviderWell    = "provider_well" // and it answers again
	CrossOrigin     = "cross_origin"
	DuplicateCookie = "duplicate_cookie"
	CookieDropped   = "cookie_dropped" // an upstream tried to set one of our cookies
	SubjectChanged  = "subject_changed"
	RecordCorrupt   = "record_corrupt"
	TouchFailed     = "touch_failed" // activity could not be written yet
	KeyRing         = "key_ring"     // the keys that a process began with
	KeyMissing      = "key_missing"
	KeysRewrapped   = "keys_rewrapped"
	AdminRefused    = "admin_refused" // a request to the operator's API without its token, or from a page of another site
	UpstreamOut     = "upstream_out"  // an address of an upstream is left out; Reason: failures | health, Detail: which and why
	UpstreamIn      = "upstream_in"   // and it is used again; Reason: pause_over | health, Detail: which
	FeedBroken      = "feed_broken"   // the change feed broke: every request asks the store until it stands again
)

// Audit is one act that matters to security.
type Audit struct {
	Time      time.Time `json:"time"`
	Kind      string    `json:"audit"`
	RequestID string    `json:"request_id,omitempty"`
	Frontend  string    `json:"frontend,omitempty"`
	Provider  string    `json:"provider,omitempty"`
	Session   string    `json:"session,omitempty"` // handle
	Client    string    `json:"client,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Revoked   string    `json:"revoked,omitempty"` // yes | no, for ends
	Detail    string    `json:"detail,omitempty"`
}

// Call is one request that we sent to a provider.
type Call struct {
	Time     time.Time     `json:"time"`
	Provider string        `json:"provider"`
	Act      string        `json:"act"` // discovery | keys | authorization_code | password | refresh_token | revoke
	Status   int           `json:"status,omitempty"`
	Outcome  string        `json:"outcome"` // ok, or the error's kind and code
	Duration time.Duration `json:"duration"`
	Session  string        `json:"session,omitempty"` // handle, where one is known
}

func (*Request) event() {}
func (*Audit) event()   {}
func (*Call) event()    {}
