package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	jws, err := p.parseIDToken(raw)
	if err != nil {
		return Claims{}, err
	}
	head := jws.Signatures[0].Protected
	keys, err := p.keysFor(ctx, head.KeyID)
	if errors.Is(err, errNoKey) {
		return Claims{}, rejected("key")
	}
	if err != nil {
		return Claims{}, err
	}
	body, ok := open(jws, keys, head.Algorithm)
	if !ok {
		return Claims{}, rejected("signature")
	}
	c, err := parseClaims(body)
	if err != nil {
		return Claims{}, err
	}
	if rule := p.broken(c, e, time.Now()); rule != "" {
		return Claims{}, rejected(rule)
	}
	if c.hash != "" && subtle.ConstantTimeCompare([]byte(c.hash), []byte(accessHash(head.Algorithm, access))) != 1 {
		return Claims{}, rejected("at_hash")
	}
	return c.Claims, nil
}

// verifyRefreshed checks an ID token that came with a refresh (OIDC Core section 12.2): the same person, issuer and
// login as before. It returns no claims and no error for one that cannot be judged now.
func (p *Provider) verifyRefreshed(ctx context.Context, t TokenSet, e Expect) (Claims, error) {
	c, err := p.verify(ctx, t.ID, t.Access, Expect{})
	if err != nil && !IsKind(err, Rejected) {
		c, err = p.unverified(t.ID)
		if err == nil && (e.Subject == "" || c.Subject == e.Subject) {
			return Claims{}, nil
		}
	}
	switch {
	case err != nil:
		return Claims{}, err
	case e.Issuer != "" && c.Issuer != e.Issuer:
		return Claims{}, rejected("iss")
	case e.Subject != "" && c.Subject != e.Subject:
		return Claims{}, rejected("subject_changed")
	case !e.AuthTime.IsZero() && !p.profile.authTimeMoves && c.AuthTime.After(e.AuthTime.Add(skew)):
		return Claims{}, rejected("auth_time") // another login than the one the session began with
	}
	return c, nil
}

// unverified reads a token whose signature cannot be checked now. It may only ever serve to refuse it.
func (p *Provider) unverified(raw string) (Claims, error) {
	jws, err := p.parseIDToken(raw)
	if err != nil {
		return Claims{}, err
	}
	c, err := parseClaims(jws.UnsafePayloadWithoutVerification())
	return c.Claims, err
}

// parseIDToken takes a token apart and refuses what its header must not say. Keys and addresses of keys in the header
// are not looked at; an extension that must be understood (crit) is none that we understand.
func (p *Provider) parseIDToken(raw string) (*jose.JSONWebSignature, error) {
	return p.parseJWT(raw, "JWT", "")
}

func (p *Provider) parseJWT(raw string, types ...string) (*jose.JSONWebSignature, error) {
	switch {
	case raw == "":
		return nil, rejected("missing")
	case len(raw) > maxIDToken:
		return nil, rejected("too_large")
	}
	allowed := p.algorithms()
	if len(allowed) == 0 {
		return nil, rejected("alg")
	}
	jws, err := jose.ParseSignedCompact(raw, allowed)
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return nil, rejected("alg")
	case err != nil || len(jws.Signatures) != 1:
		return nil, rejected("form")
	}
	head := jws.Signatures[0].Protected.ExtraHeaders
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := head[name]; ok {
			return nil, rejected("crit")
		}
	}
	typ, ok := head[jose.HeaderType]
	if !typeAllowed(typ, ok, types) {
		return nil, rejected("typ")
	}
	return jws, nil
}

// algorithms are those that the provider says it uses, RS256 where it does not say, and never more than asymmetric.
func (p *Provider) algorithms() []jose.SignatureAlgorithm {
	m := p.known()
	if m == nil || len(m.algorithms) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}
	}
	var list []jose.SignatureAlgorithm
	for _, a := range asymmetric {
		if slices.Contains(m.algorithms, string(a)) {
			list = append(list, a)
		}
	}
	return list
}

// open tries the keys that fit the algorithm.
func open(jws *jose.JSONWebSignature, keys keySet, alg string) ([]byte, bool) {
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

// broken names the first rule that the claims break, "" for none.
func (p *Provider) broken(c idClaims, e Expect, now time.Time) string {
	late := now.Add(skew)
	switch {
	case c.Issuer != p.Config.Issuer:
		return "iss"
	case len(c.Audience) == 0, slices.ContainsFunc(c.Audience, func(a string) bool { return a != p.ClientID }):
		return "aud" // a second audience is one we do not trust
	case c.hasParty && c.party != p.ClientID:
		return "azp"
	case !goodSubject(c.Subject):
		return "sub"
	case c.Expires.IsZero() || !now.Before(c.Expires.Add(skew)):
		return "exp"
	case c.before > late.Unix():
		return "nbf"
	case c.IssuedAt.IsZero() || c.IssuedAt.After(late):
		return "iat"
	case e.Nonce != "" && subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(e.Nonce)) != 1:
		return "nonce"
	case c.AuthTime.After(late), e.MaxAge > 0 && (c.AuthTime.IsZero() || now.Sub(c.AuthTime) > e.MaxAge+skew):
		return "auth_time"
	case e.ACRValues != "" && !slices.Contains(strings.Fields(e.ACRValues), c.ACR):
		return "acr"
	}
	return ""
}

// goodSubject wants a name of a person.
func goodSubject(s string) bool { return goodName(s, maxSubject) }

// goodName wants a name of at most this many bytes that no other name can be mistaken for.
func goodName(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return r == utf8.RuneError || unicode.IsControl(r)
	})
}

// accessHash is at_hash: the left half of the token's hash (OIDC Core section 3.1.3.6). The hash is that of the
// algorithm, SHA-512 for EdDSA over Curve25519.
func accessHash(alg, access string) string {
	var sum []byte
	switch {
	case strings.HasSuffix(alg, "384"):
		s := sha512.Sum384([]byte(access))
		sum = s[:]
	case strings.HasSuffix(alg, "512"), alg == string(jose.EdDSA):
		s := sha512.Sum512([]byte(access))
		sum = s[:]
	default:
		s := sha256.Sum256([]byte(access))
		sum = s[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
