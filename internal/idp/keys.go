package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// readKeys takes the keys from the state.
func (p *Provider) readKeys() error {
	key, err := x509.ParsePKCS1PrivateKey(p.state.Key)
	if err != nil {
		return fmt.Errorf("idp: the key in %s: %w", p.StateFile, err)
	}
	p.key = key
	for _, raw := range p.state.Old {
		key, err := x509.ParsePKCS1PrivateKey(raw)
		if err != nil {
			return fmt.Errorf("idp: a key in %s: %w", p.StateFile, err)
		}
		p.old = append(p.old, key)
	}
	return nil
}

func (p *Provider) newKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	p.key, p.state.Key = key, x509.MarshalPKCS1PrivateKey(key)
	return p.save()
}

// RotateKeys signs with a new key from now on. The keys of before stay published, unless they are to be forgotten: then
// what they signed cannot be checked any more.
func (p *Provider) RotateKeys(forget bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old, p.state.Old = append(p.old, p.key), append(p.state.Old, p.state.Key)
	if forget {
		p.old, p.state.Old = nil, nil
	}
	return p.newKey()
}

func (p *Provider) keyID() string { return idOf(p.key) }

func idOf(key *rsa.PrivateKey) string { return hash(key.N.String())[:12] }

func (p *Provider) jwks(c *call) {
	p.mu.Lock()
	keys := append([]*rsa.PrivateKey{p.key}, p.old...)
	p.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: idOf(key), Algorithm: "RS256", Use: "sig"})
	}
	writeJSON(c.w, http.StatusOK, set)
}

// What a login was: claim acr.
const (
	acrPassword = "urn:demo:pwd"
	acrFactor   = "urn:demo:mfa"
)

// acr is urn:demo:mfa once a second factor was shown.
func acr(amr []string) string {
	if len(amr) > 1 {
		return acrFactor
	}
	return acrPassword
}

// idToken makes an ID token of a family.
func (p *Provider) idToken(f *family, nonce string) (string, error) {
	u, _ := p.find(f.Subject)
	now := p.now()
	amr := f.AMR
	if len(amr) == 0 { // the state of an older version
		amr = []string{"pwd"}
	}
	claims := map[string]any{
		"iss": p.Issuer, "sub": f.Subject, "aud": f.Client, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": f.Since.Unix(), "amr": amr, "acr": acr(amr), "name": u.Name, "email": u.Email, "preferred_username": u.Username,
	}
	if f.SID != "" {
		claims["sid"] = f.SID
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if p.dialect.claims != nil {
		p.dialect.claims(u, f, claims)
	}
	p.bend(claims)
	return p.sign("JWT", claims)
}

// sign makes a JWT of a type.
func (p *Provider) sign(typ string, claims map[string]any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.keyID()}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
