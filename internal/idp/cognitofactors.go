package idp

import (
	"encoding/json"
	"slices"
	"strings"
)

// awsFactors are the factors that Cognito knows.
var awsFactors = map[string]string{"sms": "SMS_MFA", "otp": "SOFTWARE_TOKEN_MFA", "email": "EMAIL_OTP"}

// awsFactor asks for the second factor: the only kind, a choice of kinds, or a first one to set up.
func (p *Provider) awsFactor(at *attempt, u User) (any, verdict) {
	var can []string
	for _, kind := range kinds(u.Factors) {
		if name, ok := awsFactors[kind]; ok {
			can = append(can, name)
		}
	}
	switch len(can) {
	case 0:
		return p.awsChallenge(at, "MFA_SETUP", map[string]string{"MFAS_CAN_SETUP": `["SOFTWARE_TOKEN_MFA"]`}), ""
	case 1:
		return p.awsChosen(at, u, can[0])
	}
	list, err := json.Marshal(can)
	if err != nil {
		return nil, badRequest
	}
	return p.awsChallenge(at, "SELECT_MFA_TYPE", map[string]string{"MFAS_CAN_CHOOSE": string(list)}), ""
}

func (p *Provider) awsChosen(at *attempt, u User, name string) (any, verdict) {
	for kind, have := range awsFactors {
		f, ok := first(u.Factors, kind)
		if have != name || !ok {
			continue
		}
		if v := p.choose(at, f); v != "" {
			return nil, v
		}
		parameters := map[string]string{}
		if sent(f) {
			parameters["CODE_DELIVERY_DELIVERY_MEDIUM"], parameters["CODE_DELIVERY_DESTINATION"] = strings.ToUpper(kind), f.Name
		} else {
			parameters["FRIENDLY_DEVICE_NAME"] = f.Name
		}
		return p.awsChallenge(at, name, parameters), ""
	}
	return nil, noSuchFactor
}

// awsChallenge makes a Session, which is good once.
func (p *Provider) awsChallenge(at *attempt, name string, parameters map[string]string) map[string]any {
	at.stage = verdict(name)
	parameters["USER_ID_FOR_SRP"] = p.userOf(at).Username
	return map[string]any{"ChallengeName": name, "ChallengeParameters": parameters, "Session": p.awsSession(at)}
}

func (p *Provider) awsSession(at *attempt) string {
	value := p.begin("Session", "AYAB", at)
	at.Ends = p.now().Add(awsSession)
	return value
}

// awsTake takes a Session out of use. A wrong code leaves it, so that the person can type again.
func (p *Provider) awsTake(a asked) (*attempt, verdict) {
	session := a.form.Get("Session")
	at, ok := p.memory.attempts[hash(session)]
	if !ok || a.client.ID != "" && at.Client != a.client.ID {
		return nil, attemptUnknown
	}
	if p.now().After(at.Ends) {
		return nil, attemptOver
	}
	return at, ""
}

func (p *Provider) awsRespond(a asked) (any, verdict) {
	at, v := p.awsTake(a)
	if v != "" {
		return nil, v
	}
	response := func(name string) string { return a.form.Get("ChallengeResponses." + name) }
	u, name := p.userOf(at), a.form.Get("ChallengeName")
	switch {
	case !secretHash(a.client, response("SECRET_HASH"), u.Username, u.subject(), response("USERNAME")):
		return nil, unknownClient
	case name != string(at.stage):
		return nil, badRequest
	case name == "SELECT_MFA_TYPE":
		p.forget(at)
		return p.awsChosen(at, u, response("ANSWER"))
	case name == "NEW_PASSWORD_REQUIRED":
		v = p.renew(at, response("NEW_PASSWORD"))
	case name == "MFA_SETUP":
		if !slices.Contains(at.Settled, needsFactor) {
			v = attemptUnknown
		}
	default:
		v = p.answer(at, response(name+"_CODE"))
	}
	if v != "" {
		return nil, v
	}
	p.forget(at)
	return p.awsGoOn(a, at, p.userOf(at).obstacle(at.Settled))
}

// awsAssociate begins an authenticator app.
func (p *Provider) awsAssociate(a asked) (any, verdict) {
	at, v := p.awsTake(a)
	if v != "" {
		return nil, v
	}
	if at.stage != "MFA_SETUP" {
		return nil, badRequest
	}
	p.forget(at)
	if v := p.enrol(at, "otp", ""); v != "" {
		return nil, v
	}
	at.recovery = "" // Cognito has none
	return map[string]any{"SecretCode": at.factor.Secret, "Session": p.awsSession(at)}, ""
}

// awsVerify ends it: the first code shows that the app has the secret.
func (p *Provider) awsVerify(a asked) (any, verdict) {
	at, v := p.awsTake(a)
	if v == "" && (at.stage != "MFA_SETUP" || !at.enrols) {
		v = badRequest
	}
	if v == "" {
		v = p.answer(at, a.form.Get("UserCode"))
	}
	if v != "" {
		return nil, v
	}
	p.forget(at)
	return map[string]any{"Status": "SUCCESS", "Session": p.awsSession(at)}, ""
}
