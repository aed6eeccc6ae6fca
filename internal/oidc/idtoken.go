package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// skew is how far our clock and the provider's may be apart.
	skew       = time.Minute
	maxIDToken = 64 << 10
	maxSubject = 255 // OIDC Core section 2
)

// asymmetric are the algorithms that may be used at all: never none, never one keyed with a shared secret.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// rejected is an ID token that does not hold. rule names the check.
func rejected(rule string) *Error { return &Error{Kind: Rejected, Act: "id_token", Code: rule} }

// verify checks an ID token by OIDC Core section 3.1.3.7, every rule, the signature always.
func (p *Provider) verify(ctx context.Context, raw, access string, e Expect) (Claims, error) {
	c, payload, alg, err := p.verified(ctx, raw)
	if err != nil {
		return Claims{}, err
	}
	if err := p.judge(c, e); err != nil {
		return Claims{}, err
	}
	if h := payload.AtHash; h != "" && h != accessHash(alg, access) {
		return Claims{}, rejected("at_hash")
	}
	return c, nil
}

// verifyRefreshed checks an ID token that came with a refresh (OIDC Core section 12.2): the same person, issuer and
// login as before.
func (p *Provider) verifyRefreshed(ctx context.Context, t TokenSet, raw string, e Expect) (Claims, error) {
	c, err := p.verify(ctx, raw, t.Access, Expect{})
	switch {
	case err != nil:
		return Claims{}, err
	case e.Issuer != "" && c.Issuer != e.Issuer:
		return Claims{}, rejected("iss")
	case e.Subject != "" && c.Subject != e.Subject:
		return Claims{}, rejected("subject_changed")
	}
	return c, nil
}

// payload is an ID token's body as far as we read it.
type payload struct {
	Issuer        string          `json:"iss"`
	Subject       string          `json:"sub"`
	Audience      audience        `json:"aud"`
	Party         *string         `json:"azp"`
	Expires       *json.Number    `json:"exp"`
	IssuedAt      *json.Number    `json:"iat"`
	NotBefore     *json.Number    `json:"nbf"`
	AuthTime      *json.Number    `json:"auth_time"`
	Nonce         string          `json:"nonce"`
	ACR           string          `json:"acr"`
	AMR           json.RawMessage `json:"amr"`
	SID           string          `json:"sid"`
	AtHash        string          `json:"at_hash"`
	SessionExpiry *json.Number    `json:"session_expiry"`
}

// audience is one string or several.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// verified checks the signature and reads the claims.
func (p *Provider) verified(ctx context.Context, raw string) (Claims, payload, jose.SignatureAlgorithm, error) {
	var none payload
	switch {
	case raw == "":
		return Claims{}, none, "", rejected("missing")
	case len(raw) > maxIDToken:
		return Claims{}, none, "", rejected("too_large")
	}
	jws, err := jose.ParseSignedCompact(raw, p.algorithms())
	if err != nil || len(jws.Signatures) != 1 {
		return Claims{}, none, "", rejected("form")
	}
	head := jws.Signatures[0].Protected
	if typ, ok := head.ExtraHeaders[jose.HeaderType]; ok && !strings.EqualFold(asString(typ), "JWT") {
		return Claims{}, none, "", rejected("typ")
	}
	for name := range head.ExtraHeaders {
		if name == "crit" {
			return Claims{}, none, "", rejected("crit")
		}
	}
	keys, err := p.keys.candidates(ctx, head.KeyID)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return Claims{}, none, "", e
		}
		return Claims{}, none, "", rejected("key")
	}
	body, ok := open(jws, keys, head.Algorithm)
	if !ok {
		return Claims{}, none, "", rejected("signature")
	}
	c, pl, err := claimsOf(body)
	return c, pl, jose.SignatureAlgorithm(head.Algorithm), err
}

// algorithms are those that the provider says it uses, RS256 where it does not say, and never more than asymmetric.
func (p *Provider) algorithms() []jose.SignatureAlgorithm {
	m := p.known()
	if m == nil || len(m.Algorithms) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}
	}
	var list []jose.SignatureAlgorithm
	for _, a := range asymmetric {
		if slices.Contains(m.Algorithms, string(a)) {
			list = append(list, a)
		}
	}
	return list
}

// open tries the keys that fit the algorithm.
func open(jws *jose.JSONWebSignature, keys []jose.JSONWebKey, alg string) ([]byte, bool) {
	for _, k := range keys {
		if k.Algorithm != "" && k.Algorithm != alg {
			continue
		}
		if body, err := jws.Verify(k.Key); err == nil {
			return body, true
		}
	}
	return nil, false
}

// protocol are the claims that are no display data.
var protocol = []string{
	"iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "s_hash", "azp", "auth_time", "acr", "amr", "sid",
	"session_expiry", "jti",
}

func claimsOf(body []byte) (Claims, payload, error) {
	var pl payload
	user := map[string]json.RawMessage{}
	if uniqueJSON(body) != nil || json.Unmarshal(body, &pl) != nil || json.Unmarshal(body, &user) != nil {
		return Claims{}, pl, rejected("claims")
	}
	for _, name := range protocol {
		delete(user, name)
	}
	c := Claims{
		Issuer: pl.Issuer, Subject: pl.Subject, SID: pl.SID, Audience: pl.Audience, Nonce: pl.Nonce, ACR: pl.ACR, User: user,
		IssuedAt: moment(pl.IssuedAt), Expires: moment(pl.Expires), AuthTime: moment(pl.AuthTime), SessionExpiry: moment(pl.SessionExpiry),
	}
	if len(pl.AMR) > 0 && json.Unmarshal(pl.AMR, &c.AMR) != nil {
		var one string // some providers send a bare string
		if json.Unmarshal(pl.AMR, &one) == nil {
			c.AMR = []string{one}
		}
	}
	if pl.NotBefore != nil && moment(pl.NotBefore).After(time.Now().Add(skew)) {
		return Claims{}, pl, rejected("nbf")
	}
	if pl.Party != nil && (*pl.Party == "" || !slices.Contains(pl.Audience, *pl.Party)) {
		return Claims{}, pl, rejected("azp")
	}
	return c, pl, nil
}

// judge checks what the claims say.
func (p *Provider) judge(c Claims, e Expect) error {
	now := time.Now()
	switch {
	case c.Issuer != p.Config.Issuer:
		return rejected("iss")
	case len(c.Audience) != 1 || c.Audience[0] != p.ClientID: // a second audience is one we do not trust
		return rejected("aud")
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return rejected("sub")
	case c.Expires.IsZero() || !now.Before(c.Expires.Add(skew)):
		return rejected("exp")
	case c.IssuedAt.IsZero() || c.IssuedAt.After(now.Add(skew)):
		return rejected("iat")
	case e.Nonce != "" && c.Nonce != e.Nonce:
		return rejected("nonce")
	case e.MaxAge > 0 && (c.AuthTime.IsZero() || now.Sub(c.AuthTime) > e.MaxAge+skew):
		return rejected("auth_time")
	case e.ACRValues != "" && !slices.Contains(strings.Fields(e.ACRValues), c.ACR):
		return rejected("acr")
	}
	return nil
}

// moment reads a NumericDate (RFC 7519 section 2).
func moment(n *json.Number) time.Time {
	if n == nil {
		return time.Time{}
	}
	f, err := n.Float64()
	if err != nil || f <= 0 || f > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(f), 0)
}

// accessHash is at_hash: the left half of the token's hash (OIDC Core section 3.1.3.6).
func accessHash(alg jose.SignatureAlgorithm, access string) string {
	var sum []byte
	switch {
	case strings.HasSuffix(string(alg), "384"):
		s := sha512.Sum384([]byte(access))
		sum = s[:]
	case strings.HasSuffix(string(alg), "512"), alg == jose.EdDSA:
		s := sha512.Sum512([]byte(access))
		sum = s[:]
	default:
		s := sha256.Sum256([]byte(access))
		sum = s[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}
