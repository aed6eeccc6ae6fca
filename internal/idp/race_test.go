package idp

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestManyAtOnce has no expectation of its own: the race detector does.
func TestManyAtOnce(t *testing.T) {
	r := opened(t, "auth0", func(c *Config) {
		c.Deliver = func(Message) {}
		c.Log = func(Entry) {}
	})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			user := DemoUsers()[3+i].Username
			for range 5 {
				got := r.login(user, "open-sesame")
				if token := got.text("mfa_token"); token != "" {
					r.challengeOf(token, "otp oob", "")
					r.grant(grantURI+"mfa-otp", "mfa_token", token, "otp", r.OTP(user))
				}
				b := newBrowser(t, r)
				b.press(b.authorize(nil), "username", user, "password", "open-sesame")
				r.steer("PATCH", "/users/"+user, fmt.Sprintf(`{"name":"n%d"}`, i))
				r.Fail(Fault{Act: "nothing", Status: 500})
				r.Advance(time.Second)
				r.Requests()
				r.Messages("")
			}
		})
	}
	all.Go(func() {
		for range 5 {
			if err := r.Reset(); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
}
