package idp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// noticeLife is how long a logout token is good: the specification's advice.
	noticeLife = 2 * time.Minute
	noticeTime = 5 * time.Second // one try
	noticeTry  = 3               // tries, where the app does not answer or answers 5xx
	// mostNotices bounds those that are on the way at once; further ones are dropped, and the log says so.
	mostNotices = 32
)

// notifyAll tells the apps that a session here is over (OpenID Connect Back-Channel Logout 1.0): every client that got
// tokens in it and has an address for that. It does not wait for them.
func (p *Provider) notifyAll(s session) {
	p.mu.Lock()
	told := map[string]bool{}
	for _, f := range p.state.Families {
		told[f.Client] = told[f.Client] || f.SID == s.ID
	}
	p.mu.Unlock()
	for _, c := range p.Clients {
		if c.BackchannelLogoutURI == "" || !told[c.ID] {
			continue
		}
		select {
		case p.notices <- struct{}{}:
			go func() {
				defer func() { <-p.notices }()
				u, _ := p.find(s.Subject)
				p.log("backchannel_logout", p.notify(c, s), u.Username)
			}()
		default:
			p.log("backchannel_logout", "dropped: too many at once", "")
		}
	}
}

// notify posts one logout token until the app has an answer to it, and returns what came of it.
func (p *Provider) notify(c Client, s session) string {
	token, err := p.logoutToken(c, s, p.now())
	if err != nil {
		return "server_error"
	}
	p.witness("logout token", token)
	outcome := ""
	for try := range noticeTry {
		if try > 0 {
			<-time.After(time.Duration(try) * time.Second)
		}
		status := p.post(c.BackchannelLogoutURI, url.Values{"logout_token": {token}})
		switch status {
		case http.StatusOK, http.StatusNoContent:
			return "ok"
		case 0:
			outcome = "the app does not answer"
		default:
			outcome = fmt.Sprintf("status %d", status)
		}
		if status != 0 && status < 500 {
			break // it would be refused again
		}
	}
	return outcome
}

// logoutToken is what a client is told: the session, not the person, so that their other sessions stay.
func (p *Provider) logoutToken(c Client, s session, now time.Time) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sign("logout+jwt", p.logoutClaims(c, s, now))
}

func (p *Provider) logoutClaims(c Client, s session, now time.Time) map[string]any {
	return map[string]any{
		"iss": p.Issuer, "aud": c.ID, "sub": s.Subject, "sid": s.ID, "jti": secret("")[:22],
		"iat": now.Unix(), "exp": now.Add(noticeLife).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": struct{}{}},
	}
}

// post sends a form and returns the answer's status, 0 for none.
func (p *Provider) post(to string, form url.Values) int {
	ctx, cancel := context.WithTimeout(context.Background(), noticeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := p.HTTP.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	return res.StatusCode
}

// noticeClient follows no redirect: a token goes to the registered address or nowhere.
func noticeClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
