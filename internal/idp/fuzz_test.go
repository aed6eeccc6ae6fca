package idp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzBodies sends bodies of any kind to the addresses that read one. None may be answered with a failure of ours.
func FuzzBodies(f *testing.F) {
	providers := map[string]*Provider{}
	for dialect, path := range issuers {
		p, err := New(Config{Issuer: "http://idp.test" + path, Dialect: dialect, Users: DemoUsers(), Clients: []Client{{ID: "app"}}})
		if err != nil {
			f.Fatal(err)
		}
		providers[dialect] = p
	}
	f.Add("auth0", "/mfa/associate", "application/json", `{"authenticator_types":["oob"],"client_id":"app"}`)
	f.Add("auth0", "/oauth/token", "application/x-www-form-urlencoded", "grant_type=password&username=otp&password=open-sesame&client_id=app")
	f.Add("okta", "/oauth2/default/v1/challenge", "application/x-www-form-urlencoded", "client_id=app&mfa_token=%")
	f.Add("cognito", "InitiateAuth", awsType, `{"ClientId":"app","AuthFlow":"USER_PASSWORD_AUTH","AuthParameters":{"USERNAME":"otp"}}`)
	f.Add("cognito", "RespondToAuthChallenge", awsType, `{"Session":"x","ChallengeName":"MFA_SETUP","ChallengeResponses":[]}`)
	f.Add("keycloak", "/realms/demo/protocol/openid-connect/logout", "application/json", `null`)
	f.Fuzz(func(t *testing.T, dialect, path, kind, body string) {
		p, ok := providers[dialect]
		if !ok || strings.ContainsAny(path, " \t\r\n%?#:") {
			return
		}
		req := httptest.NewRequest(http.MethodPost, "http://idp.test/", strings.NewReader(body))
		req.URL.Path = "/" + strings.TrimPrefix(path, "/")
		if dialect == "cognito" {
			req.URL.Path = "/"
			req.Header.Set("X-Amz-Target", awsTarget+path)
		}
		req.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, req); w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
