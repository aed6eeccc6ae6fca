package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// The provider ends sessions. Both addresses are entered by others, so the guard does not judge them, and they look at
// no cookie: the back channel has a signature, the front channel names a session that only the provider can name.

const (
	// maxLogoutBody is ample: a logout token has about a kilobyte.
	maxLogoutBody = 64 << 10
	// logoutTime bounds what a provider's logout may take, also when the provider does not wait for the answer.
	logoutTime = 10 * time.Second

	backChannel  = "back_channel"
	frontChannel = "front_channel"
)

// BackChannelLogout serves POST /auth/backchannel-logout (OpenID Connect Back-Channel Logout 1.0 section 2.5). The
// answers are 200, 400 for what does not hold, and 503 for what cannot be checked or carried out now. The
// specification has 400 for the last, too; but providers that try again do so on 5xx, and a logout that is lost is a
// session that lives on.
func (h *Handler) BackChannelLogout(w http.ResponseWriter, r *http.Request) {
	raw, err := readLogoutToken(w, r)
	if err != nil {
		h.refuseLogout(w, r, "", err)
		return
	}
	name, err := h.addressee(raw)
	if err != nil {
		h.refuseLogout(w, r, "", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
	defer cancel()
	t, err := h.Providers[name].VerifyLogout(ctx, raw)
	if err != nil {
		h.refuseLogout(w, r, name, err)
		return
	}
	ended, repeated, err := h.Sessions.ProviderLogout(ctx, session.Notice{
		Who: session.Who{Provider: name, Subject: t.Subject, SID: t.SID}, ID: t.ID, Issued: t.IssuedAt, Until: t.Until,
	})
	if err != nil {
		h.failLogout(w, r, name, err)
		return
	}
	detail := fmt.Sprintf("ended %d", ended)
	if repeated {
		detail = "a repeat of one that is done"
	}
	if !t.Typed {
		detail += "; the token's typ is not logout+jwt"
	}
	h.audit(r, event.Audit{Kind: event.ProviderLogout, Provider: name, Reason: backChannel, Detail: detail})
	w.WriteHeader(http.StatusOK)
}

// readLogoutToken reads the one parameter that counts. What the query says is not looked at: it would be in logs.
func readLogoutToken(w http.ResponseWriter, r *http.Request) (string, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", badLogout("content_type")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogoutBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return "", badLogout("too_large")
	}
	if err != nil {
		return "", badLogout("body")
	}
	form, err := parseForm(body)
	if err != nil || len(form["logout_token"]) != 1 {
		return "", badLogout("logout_token")
	}
	return form.Get("logout_token"), nil
}

// badLogout is a request that breaks a rule before any token is looked at.
func badLogout(rule string) *oidc.Error {
	return &oidc.Error{Kind: oidc.Rejected, Act: "logout_token", Code: rule}
}

// addressee is the provider that a token says it is from, and whose client here it is for. Nothing is believed yet.
func (h *Handler) addressee(raw string) (name string, err error) {
	issuer, audience, err := oidc.IssuerOf(raw)
	if err != nil {
		return "", err
	}
	rule := "iss"
	for _, name := range h.from(issuer) {
		if slices.Contains(audience, h.Providers[name].ClientID) {
			return name, nil
		}
		rule = "aud"
	}
	return "", badLogout(rule)
}

// from are the names of the providers with this issuer, in order.
func (h *Handler) from(issuer string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(h.Providers)), func(name string) bool {
		return h.Providers[name].Issuer() != issuer
	})
}

// FrontChannelLogout serves GET /auth/frontchannel-logout (OpenID Connect Front-Channel Logout 1.0), which the provider
// loads in a frame. It is the one GET that ends something, so it must name the session: both iss and sid.
func (h *Handler) FrontChannelLogout(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["iss"]) != 1 || len(q["sid"]) != 1 || q.Get("iss") == "" || q.Get("sid") == "" {
		h.refuseLogout(w, r, "", badLogout("iss_and_sid"))
		return
	}
	names := h.from(q.Get("iss"))
	ancestors := "'none'"
	if len(names) > 0 {
		for _, origin := range origins(q.Get("iss")) { // as configured: it equals the issuer
			ancestors = origin
		}
	}
	if r.Method == http.MethodGet { // HEAD must have no effect
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
		defer cancel()
		if err := h.endInFront(ctx, r, names, q.Get("sid")); err != nil {
			h.failLogout(w, r, names[0], err)
			return
		}
	}
	hd := w.Header()
	hd.Set("Content-Type", "text/html; charset=utf-8")
	hd.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors "+ancestors)
	hd.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "<!doctype html><title>Logged out</title>") // the frame may be gone
}

// endInFront ends what a front-channel logout names. An issuer that is not ours names nobody.
func (h *Handler) endInFront(ctx context.Context, r *http.Request, names []string, sid string) error {
	if len(names) == 0 {
		h.audit(r, event.Audit{Kind: event.LogoutRefused, Reason: "iss", Detail: frontChannel})
	}
	for _, name := range names {
		ended, err := h.Sessions.FrontChannelLogout(ctx, session.Who{Provider: name, SID: sid})
		if err != nil {
			return err
		}
		if ended > 0 {
			h.audit(r, event.Audit{
				Kind: event.ProviderLogout, Provider: name, Reason: frontChannel, Detail: fmt.Sprintf("ended %d", ended),
			})
		}
	}
	return nil
}

// refuseLogout answers what does not hold, or cannot be checked now. Such requests are counted by address. Good ones
// are not: whoever shares an address with the provider must not be able to shut out its logouts.
func (h *Handler) refuseLogout(w http.ResponseWriter, r *http.Request, provider string, err error) {
	if ok, wait := h.PerAddress.Take("logout " + limit.Address(clientOf(r))); !ok {
		h.audit(r, event.Audit{Kind: event.LimitHit, Provider: provider, Reason: "per_address"})
		web.NewProblem(web.CodeTooManyAttempts, "Too many logouts from here did not hold.").After(wait).Because(err).Write(w, r)
		return
	}
	var e *oidc.Error
	if !errors.As(err, &e) || e.Kind != oidc.Rejected {
		h.failLogout(w, r, provider, err)
		return
	}
	h.audit(r, event.Audit{Kind: event.LogoutRefused, Provider: provider, Reason: e.Code})
	web.NewProblem(web.CodeInvalidLogout, "It breaks the rule: "+e.Code+".").Because(err).Write(w, r)
}

// failLogout answers that a logout could not be checked or carried out now. The same request may come again.
func (h *Handler) failLogout(w http.ResponseWriter, r *http.Request, provider string, err error) {
	code := web.CodeStoreUnavailable
	if e := new(oidc.Error); errors.As(err, &e) {
		code = web.CodeProviderUnavailable
	}
	h.audit(r, event.Audit{Kind: event.LogoutFailed, Provider: provider, Detail: err.Error()})
	web.NewProblem(code, "The logout is not carried out. Send it again in a moment.").After(5*time.Second).Because(err).Write(w, r)
}

func clientOf(r *http.Request) netip.Addr {
	if info := web.InfoOf(r); info != nil {
		return info.Client
	}
	return netip.Addr{}
}
