package gate

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// Need says whether a session is asked for.
type Need int

// The three answers of a route's `session` setting.
const (
	Required Need = iota
	Optional
	None
)

// Requirement is what an address asks of a request.
type Requirement struct {
	Session Need
	Token   session.Need // which access token
	Pages   bool         // people navigate here: pages and files routes, /auth/ pages
	Action  bool         // one of our own /auth/ addresses: guarded even without a cookie
	Quiet   bool         // never counts as activity (/auth/session)
	StepUp  StepUp
}

// Pass is a yes.
type Pass struct {
	Live  *session.Live    // nil = no session
	Token oidc.AccessToken // when one was asked for, and there is a session or none is needed for it
	Clear bool             // the ticket's cookie opens nothing: take it back

	need session.Need
}

// Refusal is a no. Exactly one of Login, Reload and the bare problem is what the browser gets.
type Refusal struct {
	Problem *web.Problem
	Login   string // go there instead: a navigation without a session
	Reload  bool   // the tiny page that comes back as a same-origin request, with the Strict ticket
	Clear   bool   // take the ticket's cookie back
	GRPC    bool   // the client is one of gRPC, and asks us, not the proxy in front of us
}

// Sessions is what the gate needs of session.Manager.
type Sessions interface {
	Lookup(ctx context.Context, t session.Ticket) (*session.Live, error)
	Access(ctx context.Context, l *session.Live, need session.Need) (oidc.AccessToken, error)
	Renew(ctx context.Context, l *session.Live, need session.Need, rejected uint64) (oidc.AccessToken, bool, error)
	Rejected(l *session.Live, need session.Need, generation uint64)
	Touch(l *session.Live)
}

// Options make a Gate.
type Options struct {
	Origin   string   // the frontend's
	Allowed  []string // further same-site origins
	Cookies  web.Cookies
	Sessions Sessions
	Reloader func(http.ResponseWriter, *http.Request)               // shows the reload page
	Page     func(http.ResponseWriter, *http.Request, *web.Problem) // shows a problem to a person
	Events   event.Sink
}

// Gate judges the requests of one frontend.
type Gate struct {
	Options
	origin  string
	allowed map[string]bool
}

// New makes a gate.
func New(o Options) *Gate {
	g := &Gate{Options: o, origin: o.Origin, allowed: map[string]bool{}}
	for _, a := range o.Allowed {
		g.allowed[a] = true
	}
	return g
}

// Facts reads the facts of a request to this gate's frontend.
func (g *Gate) Facts(r *http.Request) Facts { return FactsOf(r, g.Cookies) }

// Decide judges one request. The second result is nil exactly when it may pass.
func (g *Gate) Decide(ctx context.Context, f Facts, need Requirement) (Pass, *Refusal) {
	if (f.Cookies.Any || need.Action) && !g.guard(f, need.Pages) {
		g.audit(ctx, event.CrossOrigin, f.Site+" "+f.Mode+" "+f.Origin)
		return Pass{}, &Refusal{Problem: web.NewProblem(web.CodeCrossOrigin,
			"Only the app's own pages may send this. A page of another origin, or a client without the header X-Cloakroom: 1, sent it.")}
	}
	if need.Session == None {
		return g.withToken(ctx, f, need, Pass{})
	}
	live, clear, refusal := g.lookup(ctx, f, need)
	if refusal != nil {
		return Pass{}, refusal
	}
	if live == nil {
		return g.withToken(ctx, f, need, Pass{Clear: clear})
	}
	if need.StepUp != (StepUp{}) && !need.StepUp.met(live.Session()) {
		return Pass{}, g.StepUp(f, need.StepUp)
	}
	pass, refusal := g.withToken(ctx, f, need, Pass{Live: live})
	if refusal != nil || pass.Live == nil {
		return pass, refusal
	}
	if !need.Quiet && !f.Passive {
		g.Sessions.Touch(live)
	}
	if info := web.InfoFrom(ctx); info != nil {
		info.Session = live.Session().Handle
	}
	return pass, nil
}

// lookup finds the session of the ticket. Without one it is nil where that is allowed, else a refusal.
func (g *Gate) lookup(ctx context.Context, f Facts, need Requirement) (*session.Live, bool, *Refusal) {
	if f.Cookies.Tickets == 0 {
		if need.Session == Optional {
			return nil, false, nil
		}
		if need.Pages && f.Site == "cross-site" && f.Navigation() && g.Cookies.Strict() {
			return nil, false, &Refusal{Reload: true}
		}
		return nil, false, g.noSession(f, web.CodeSessionRequired, "Log in first.")
	}
	live, err := g.open(ctx, f.Cookies)
	switch {
	case err == nil:
		return live, false, nil
	case !errors.Is(err, session.ErrEnded):
		return nil, false, &Refusal{Problem: unavailable(err, web.CodeStoreUnavailable)}
	case need.Session == Optional:
		return nil, true, nil
	}
	refusal := g.noSession(f, web.CodeSessionEnded, "Log in again.")
	refusal.Clear = true
	return nil, false, refusal
}

// open looks the ticket up. Two cookies of the ticket's name mean that somebody planted one: neither is used.
func (g *Gate) open(ctx context.Context, c web.Carried) (*session.Live, error) {
	if c.Tickets > 1 {
		g.audit(ctx, event.DuplicateCookie, g.Cookies.TicketName())
		return nil, session.ErrEnded
	}
	ticket, err := session.ParseTicket(c.Ticket)
	if err != nil {
		return nil, session.ErrEnded
	}
	return g.Sessions.Lookup(ctx, ticket)
}

// withToken adds the access token to a yes. Only our client's own needs no session.
func (g *Gate) withToken(ctx context.Context, f Facts, need Requirement, pass Pass) (Pass, *Refusal) {
	if need.Token.Kind == session.NoToken || pass.Live == nil && need.Token.Kind != session.Client {
		return pass, nil
	}
	token, err := g.Sessions.Access(ctx, pass.Live, need.Token)
	if err != nil {
		return g.withoutToken(f, need, err)
	}
	pass.Token, pass.need = token, need.Token
	return pass, nil
}

func (g *Gate) withoutToken(f Facts, need Requirement, err error) (Pass, *Refusal) {
	switch {
	case errors.Is(err, session.ErrEnded):
		if need.Session == Optional {
			return Pass{Clear: true}, nil
		}
		refusal := g.noSession(f, web.CodeSessionEnded, "Log in again.")
		refusal.Clear = true
		return Pass{}, refusal
	case errors.Is(err, session.ErrStepUp) && need.Token.Own():
		return Pass{}, g.Wanted(f)
	case errors.Is(err, session.ErrStepUp): // the person has to say yes to another API
		return Pass{}, g.StepUp(f, StepUp{Now: true})
	case errors.Is(err, session.ErrDenied):
		return Pass{}, &Refusal{Problem: web.NewProblem(web.CodeAccessDenied, "The provider gives no token for this part of the app.").Because(err)}
	}
	return Pass{}, &Refusal{Problem: unavailable(err, web.CodeProviderUnavailable)}
}

// Renew asks for a token after an upstream rejected the one it got (invalid_token). false: there is nothing newer
// to try.
func (g *Gate) Renew(ctx context.Context, p Pass) (Pass, bool, error) {
	token, ok, err := g.Sessions.Renew(ctx, p.Live, p.need, p.Token.Generation)
	if err != nil || !ok {
		return p, false, err
	}
	p.Token = token
	return p, true, nil
}

// Rejected is told that a renewed token was rejected, too, so that no API can drive refreshes.
func (g *Gate) Rejected(p Pass) { g.Sessions.Rejected(p.Live, p.need, p.Token.Generation) }

// noSession is the answer where a session is needed: a person on the way to a page goes to the login, a script
// gets a problem. Never a redirect to a fetch.
func (g *Gate) noSession(f Facts, code, detail string) *Refusal {
	problem := web.NewProblem(code, detail).Login("/auth/login")
	if !f.Navigation() {
		return &Refusal{Problem: problem}
	}
	login := "/auth/login"
	if target, ok := web.ReturnTo(f.URL.RequestURI()); ok && target != "/" {
		login += "?return_to=" + url.QueryEscape(target)
	}
	return &Refusal{Problem: problem, Login: login}
}

// unavailable is the answer when the provider or the store cannot be reached: the session stays.
func unavailable(err error, code string) *web.Problem {
	after := 5 * time.Second
	var u *session.Unavailable
	if errors.As(err, &u) && u.RetryAfter > 0 {
		after = u.RetryAfter
	}
	return web.NewProblem(code, "You are still logged in. Try again in a moment.").After(after).Because(err)
}

func (g *Gate) audit(ctx context.Context, kind, detail string) {
	a := &event.Audit{Time: time.Now(), Kind: kind, Frontend: g.origin, Detail: printable(detail)}
	if info := web.InfoFrom(ctx); info != nil {
		a.RequestID, a.Client = info.ID, info.Client.String()
	}
	g.Events.Emit(a)
}

// printable cuts what a client sent to what may stand in a log.
func printable(s string) string {
	out := make([]byte, 0, 200)
	for i := 0; i < len(s) && len(out) < 200; i++ {
		if c := s[i]; c >= 0x20 && c < 0x7f {
			out = append(out, c)
		}
	}
	return string(out)
}
