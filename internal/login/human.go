package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
)

// Human asks an outside service whether a challenge was solved, in the way that Turnstile, hCaptcha and reCAPTCHA share: a
// form with secret, response and remoteip, and JSON with "success" as the answer.
type Human struct {
	VerifyURL string
	Secret    config.Secret
	HTTP      *http.Client
	Events    event.Sink
}

// NewHuman makes a check, nil where none is configured.
func NewHuman(c config.Challenge, events event.Sink) *Human {
	if c.VerifyURL == "" {
		return nil
	}
	client := &http.Client{Timeout: verifyTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Human{VerifyURL: c.VerifyURL, Secret: c.Secret, HTTP: client, Events: events}
}

const (
	verifyTime  = 5 * time.Second
	maxResponse = 2048 // reCAPTCHA's, the longest, has about 2000
	maxVerdict  = 64 << 10
)

// challengeFields are the names under which the answer may come: ours, and those that the widgets put into a form.
var challengeFields = []string{"challenge", "cf-turnstile-response", "h-captcha-response", "g-recaptcha-response"}

// passed asks about an answer. A service that does not answer has not said yes: the limits are as for everybody else.
func (c *Human) passed(ctx context.Context, response, address string) bool {
	if c == nil || response == "" || len(response) > maxResponse {
		return false
	}
	begun := time.Now()
	ok, err := c.ask(ctx, response, address)
	call := event.Call{Time: begun, Provider: "challenge", Act: "verify", Outcome: "ok", Duration: time.Since(begun)}
	switch {
	case err != nil:
		call.Outcome = "failed"
	case !ok:
		call.Outcome = "refused"
	}
	c.Events.Emit(&call)
	return ok && err == nil
}

func (c *Human) ask(ctx context.Context, response, address string) (bool, error) {
	form := url.Values{"secret": {c.Secret.Reveal()}, "response": {response}, "remoteip": {address}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.VerifyURL, strings.NewReader(form.Encode()))
	if err != nil {
		return false, errors.New("the address of the challenge cannot be asked")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.HTTP.Do(req)
	if err != nil {
		return false, errors.New("the challenge's service does not answer")
	}
	defer res.Body.Close()
	var verdict struct {
		Success bool `json:"success"`
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxVerdict))
	if err != nil || res.StatusCode != http.StatusOK || json.Unmarshal(body, &verdict) != nil {
		return false, fmt.Errorf("the challenge's service answers with %d", res.StatusCode)
	}
	return verdict.Success, nil
}
