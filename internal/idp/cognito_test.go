package idp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"
)

// aws calls the JSON API.
func (r *rig) call(operation string, body map[string]any) reply {
	r.t.Helper()
	return r.json("/", body, "Content-Type", awsType, "X-Amz-Target", awsTarget+operation)
}

func hashOf(name string) string {
	mac := hmac.New(sha256.New, []byte("s&cret"))
	mac.Write([]byte(name + "app"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (r *rig) initiate(user, pass string) reply {
	r.t.Helper()
	return r.call("InitiateAuth", map[string]any{
		"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": "app",
		"AuthParameters": map[string]string{"USERNAME": user, "PASSWORD": pass, "SECRET_HASH": hashOf(user)},
	})
}

// respond answers the challenge of an answer.
func (r *rig) respond(to reply, user string, pairs ...string) reply {
	r.t.Helper()
	responses := map[string]string{"USERNAME": user, "SECRET_HASH": hashOf(user)}
	for i := 0; i+1 < len(pairs); i += 2 {
		responses[pairs[i]] = pairs[i+1]
	}
	return r.call("RespondToAuthChallenge", map[string]any{
		"ChallengeName": to.m["ChallengeName"], "ClientId": "app", "Session": to.m["Session"], "ChallengeResponses": responses,
	})
}

func (r *rig) excepts(what string, got reply, kind string) {
	r.t.Helper()
	if got.status != 400 || got.text("__type") != kind || got.header.Get("Content-Type") != awsType {
		r.t.Errorf("%s: %d %s", what, got.status, got.body)
	}
}

// result reads AuthenticationResult.
func (r *rig) result(what string, got reply) map[string]any {
	r.t.Helper()
	result, _ := got.m["AuthenticationResult"].(map[string]any)
	if got.status != 200 || result["AccessToken"] == nil || result["IdToken"] == nil {
		r.t.Fatalf("%s: %d %s", what, got.status, got.body)
	}
	return result
}

func challenged(got reply, name string) bool {
	return got.status == 200 && got.m["ChallengeName"] == name
}

func TestCognitoPasswords(t *testing.T) {
	r := opened(t, "cognito", nil)
	for _, tc := range []struct{ user, pass, kind string }{
		{"alice", "x", "NotAuthorizedException"},
		{"nobody", "x", "NotAuthorizedException"},
		{"locked", "out-of-luck", "NotAuthorizedException"},
		{"breached", "open-sesame", "PasswordResetRequiredException"},
		{"unverified", "open-sesame", "UserNotConfirmedException"},
		{"denied", "open-sesame", "UserLambdaValidationException"},
		{"", "", "InvalidParameterException"},
	} {
		r.excepts(tc.user, r.initiate(tc.user, tc.pass), tc.kind)
	}
	r.excepts("a wrong hash", r.call("InitiateAuth", map[string]any{
		"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": "app", "AuthParameters": map[string]string{"USERNAME": "alice", "PASSWORD": "wonderland", "SECRET_HASH": "x"},
	}), "NotAuthorizedException")
	r.excepts("no such client", r.call("InitiateAuth", map[string]any{"ClientId": "x"}), "ResourceNotFoundException")
	r.excepts("no such operation", r.call("SignUp", map[string]any{"ClientId": "app"}), "UnknownOperationException")
	for range mostWrong {
		r.initiate("bob", "x")
	}
	got := r.initiate("bob", "builder")
	r.excepts("too many", got, "NotAuthorizedException")
	if got.text("message") != "Password attempts exceeded" {
		t.Errorf("%s", got.body)
	}
	result := r.result("alice", r.initiate("alice", "wonderland"))
	claims := r.claims(result["IdToken"].(string))
	if r.amr(claims, "pwd"); claims["token_use"] != "id" || claims["cognito:username"] != "alice" || result["ExpiresIn"] != 30.0 {
		t.Errorf("%v %v", claims, result)
	}
}

func TestCognitoRefresh(t *testing.T) {
	r := opened(t, "cognito", nil)
	rt, _ := r.result("login", r.initiate("alice", "wonderland"))["RefreshToken"].(string)
	if got := r.refresh(rt); got.status != 200 || got.m["refresh_token"] != nil || got.text("id_token") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	again := map[string]any{"ClientId": "app", "ClientSecret": "s&cret", "RefreshToken": rt}
	if result := r.result("its own operation", r.call("GetTokensFromRefreshToken", again)); result["RefreshToken"] != nil {
		t.Error("a new one")
	}
	flow := func(name string) reply {
		return r.call("InitiateAuth", map[string]any{
			"AuthFlow": "REFRESH_TOKEN_AUTH", "ClientId": "app", "AuthParameters": map[string]string{"REFRESH_TOKEN": rt, "SECRET_HASH": hashOf(name)},
		})
	}
	r.result("the flow", flow("alice"))
	r.excepts("the hash of an alias", flow("alice@demo.example"), "NotAuthorizedException")
	if got := r.call("RevokeToken", map[string]any{"ClientId": "app", "ClientSecret": "s&cret", "Token": rt}); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.excepts("after the revocation", r.call("GetTokensFromRefreshToken", again), "NotAuthorizedException")
	if got := r.refresh(rt); got.status != 400 || got.text("error") != "invalid_grant" {
		t.Errorf("%d %s", got.status, got.body)
	}
	r = opened(t, "cognito", func(c *Config) { c.Rotation = rotate })
	rt, _ = r.result("login", r.initiate("alice", "wonderland"))["RefreshToken"].(string)
	r.excepts("the flow with rotation", flow("alice"), "NotAuthorizedException")
	again["RefreshToken"] = rt
	if result := r.result("rotated", r.call("GetTokensFromRefreshToken", again)); result["RefreshToken"] == nil || result["RefreshToken"] == rt {
		t.Errorf("%v", result)
	}
}

func TestCognitoFactors(t *testing.T) {
	r := opened(t, "cognito", nil)
	got := r.initiate("otp", "open-sesame")
	if !challenged(got, "SOFTWARE_TOKEN_MFA") {
		t.Fatalf("%s", got.body)
	}
	r.excepts("wrong", r.respond(got, "otp", "SOFTWARE_TOKEN_MFA_CODE", "000000"), "CodeMismatchException")
	code := r.OTP("otp")
	r.amr(r.claims(r.result("right", r.respond(got, "otp", "SOFTWARE_TOKEN_MFA_CODE", code))["IdToken"].(string)), "pwd", "otp")
	r.excepts("the Session again", r.respond(got, "otp", "SOFTWARE_TOKEN_MFA_CODE", r.OTP("otp")), "NotAuthorizedException")
	r.excepts("the code again", r.respond(r.initiate("otp", "open-sesame"), "otp", "SOFTWARE_TOKEN_MFA_CODE", code), "ExpiredCodeException")
	late := r.initiate("otp", "open-sesame")
	r.Advance(awsSession + time.Second)
	r.excepts("late", r.respond(late, "otp", "SOFTWARE_TOKEN_MFA_CODE", r.OTP("otp")), "NotAuthorizedException")

	got = r.initiate("sms", "open-sesame")
	if parameters, _ := got.m["ChallengeParameters"].(map[string]any); !challenged(got, "SELECT_MFA_TYPE") || parameters["MFAS_CAN_CHOOSE"] != `["SMS_MFA","EMAIL_OTP"]` {
		t.Fatalf("%s", got.body)
	}
	chosen := r.respond(got, "sms", "ANSWER", "EMAIL_OTP")
	if parameters, _ := chosen.m["ChallengeParameters"].(map[string]any); !challenged(chosen, "EMAIL_OTP") || parameters["CODE_DELIVERY_DELIVERY_MEDIUM"] != "EMAIL" {
		t.Fatalf("%s", chosen.body)
	}
	r.excepts("a Session that was used", r.respond(got, "sms", "ANSWER", "SMS_MFA"), "NotAuthorizedException")
	r.amr(r.claims(r.result("e-mail", r.respond(chosen, "sms", "EMAIL_OTP_CODE", r.sentCode("sms")))["IdToken"].(string)), "pwd", "email")
	chosen = r.respond(r.initiate("sms", "open-sesame"), "sms", "ANSWER", "SMS_MFA")
	r.result("sms", r.respond(chosen, "sms", "SMS_MFA_CODE", r.sentCode("sms")))
}

func TestCognitoNewPassword(t *testing.T) {
	r := opened(t, "cognito", nil)
	got := r.initiate("expired", "open-sesame")
	if !challenged(got, "NEW_PASSWORD_REQUIRED") {
		t.Fatalf("%s", got.body)
	}
	r.excepts("too short", r.respond(got, "expired", "NEW_PASSWORD", "x"), "InvalidPasswordException")
	r.result("new", r.respond(got, "expired", "NEW_PASSWORD", "correct-horse"))
	r.excepts("the old one", r.initiate("expired", "open-sesame"), "NotAuthorizedException")
	r.result("the new one", r.initiate("expired", "correct-horse"))
}

func TestCognitoSetup(t *testing.T) {
	r := opened(t, "cognito", nil)
	got := r.initiate("newcomer", "open-sesame")
	if !challenged(got, "MFA_SETUP") {
		t.Fatalf("%s", got.body)
	}
	r.excepts("nothing was set up", r.respond(got, "newcomer"), "NotAuthorizedException")
	secret := r.call("AssociateSoftwareToken", map[string]any{"Session": got.m["Session"]})
	if secret.text("SecretCode") == "" || secret.text("Session") == "" {
		t.Fatalf("%s", secret.body)
	}
	verify := func(code string) reply {
		return r.call("VerifySoftwareToken", map[string]any{"Session": secret.m["Session"], "UserCode": code})
	}
	r.excepts("wrong", verify("000000"), "CodeMismatchException")
	done := verify(codeAt(secret.text("SecretCode"), r.now()))
	if done.text("Status") != "SUCCESS" {
		t.Fatalf("%s", done.body)
	}
	done.m["ChallengeName"] = "MFA_SETUP"
	r.result("set up", r.respond(done, "newcomer"))
	if got := r.initiate("newcomer", "open-sesame"); !challenged(got, "SOFTWARE_TOKEN_MFA") {
		t.Errorf("%s", got.body)
	}
}

func TestCognitoLogout(t *testing.T) {
	r := opened(t, "cognito", nil)
	for _, tc := range []struct {
		query  url.Values
		status int
		to     string
	}{
		{url.Values{"client_id": {"app"}, "logout_uri": {"http://app.test/"}}, 303, "http://app.test/"},
		{url.Values{"client_id": {"app"}, "logout_uri": {"http://evil.test/"}}, 400, ""},
		{url.Values{"logout_uri": {"http://app.test/"}}, 400, ""},
		{url.Values{"client_id": {"app"}, "redirect_uri": {redirectURI}, "response_type": {"code"}, "scope": {"openid"}}, 303, "/oauth2/authorize?client_id=app"},
	} {
		got := r.send("GET", "/logout?"+tc.query.Encode(), "", nil)
		if got.status != tc.status || !strings.HasPrefix(got.header.Get("Location"), tc.to) {
			t.Errorf("%v: %d %s", tc.query, got.status, got.header.Get("Location"))
		}
	}
}
