package login

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/cloakroom/cloakroom/internal/dialect"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
)

// progress is a login by form between its steps. It rests in the store, sealed under a key that only the browser's
// cookie gives, so that a cookie that is sent again brings back no tries and no spent step.
type progress struct {
	Provider, Issuer string
	ReturnTo         string
	Remember         bool
	Started          time.Time
	State            dialect.State
	Who              attemptOf // what the limits counted, to be given back when the login is done
	Session          string    // handle of the session that steps up, "" = a new login
	Subject          string    // whose that is

	Codes int // codes that were tried
	Sends int // codes that were asked for, factors chosen or set up
	Asked time.Time
	// Busy is until when one step is being taken. Steps are taken one at a time: the provider's secret may change with
	// each, and two at once would lose one.
	Busy time.Time
}

const (
	mostCodes = 8                // as many tries as codes: fewer than the ten after which providers stop answering
	mostSends = 10               // SMS cost money
	stepTime  = 35 * time.Second // longer than callTime: then whoever was busy is gone
	stepWait  = 10 * time.Second // how long a step waits for another one
	stepPoll  = 100 * time.Millisecond
)

var (
	errNoProgress = errors.New("login: no login by form is in progress in this browser")
	errBusy       = errors.New("login: another step of the same login is being taken")
	errTooMany    = errors.New("login: too many tries in one login")
)

// running is a progress with its place.
type running struct {
	progress
	id     string // names the cookie; public
	secret []byte
	record store.Record
}

// progresses keeps logins in progress.
type progresses struct {
	web.Transactions
	store store.Store
}

// begin keeps a login whose password was right, and hands the browser its cookie.
func (p progresses) begin(ctx context.Context, w http.ResponseWriter, r *http.Request, v progress) (*running, error) {
	run := &running{progress: v, id: web.NewID(), secret: make([]byte, 32)}
	rand.Read(run.secret)
	run.record = store.Record{ID: p.idOf(run.secret), Head: store.Head{Created: v.Started, LastActive: v.Started, Expires: v.Started.Add(web.TransactionLife)}}
	if err := p.save(ctx, run); err != nil {
		return nil, err
	}
	p.Room(w, r)
	p.Cookies.SetTransaction(w, run.id, base64.RawURLEncoding.EncodeToString(run.secret), http.SameSiteLaxMode)
	return run, nil
}

// find opens the login that a request means: by its id, or the newest one of this browser.
func (p progresses) find(ctx context.Context, r *http.Request, id string) (*running, error) {
	ids := []string{id}
	if id == "" {
		ids = p.Cookies.TransactionIDs(r)
	}
	for _, one := range slices.Backward(ids) {
		value, ok := p.Cookies.Transaction(r, one)
		secret, err := base64.RawURLEncoding.Strict().DecodeString(value)
		if !ok || err != nil || len(secret) != 32 || !web.ValidID(one) {
			continue // a login at the hosted page, or nothing of ours
		}
		run := &running{id: one, secret: secret}
		if err := p.load(ctx, run); !errors.Is(err, errNoProgress) || id != "" {
			return run, err
		}
	}
	return nil, errNoProgress
}

func (p progresses) load(ctx context.Context, run *running) error {
	rec, err := p.store.Load(ctx, p.idOf(run.secret))
	if errors.Is(err, store.ErrNotFound) {
		return errNoProgress
	}
	if err != nil {
		return err
	}
	if len(rec.Blob) < 1 || rec.Blob[0] != session.NoSession {
		return errNoProgress
	}
	sealed, err := p.Ring.Open(p.context(rec.ID), rec.Blob[1:])
	if err != nil {
		return errNoProgress
	}
	plain, err := seal.OpenWith(p.key(run.secret), p.context(rec.ID), sealed)
	if err != nil || json.Unmarshal(plain, &run.progress) != nil {
		return errNoProgress
	}
	run.record = rec
	return nil
}

func (p progresses) save(ctx context.Context, run *running) error {
	plain, err := json.Marshal(run.progress)
	if err != nil {
		return err
	}
	c := p.context(run.record.ID)
	run.record.Blob = append([]byte{session.NoSession}, p.Ring.Seal(c, seal.SealWith(p.key(run.secret), c, plain))...)
	version, err := p.store.Save(ctx, run.record)
	if err == nil {
		run.record.Version = version
	}
	return err
}

// take begins a step: count says what it costs, and is counted before the provider is asked. A step that finds
// another one running waits for it and goes on from what that left.
func (p progresses) take(ctx context.Context, run *running, count func(*progress) error) error {
	for deadline := time.Now().Add(stepWait); ; {
		err := errBusy
		if now := time.Now(); !run.Busy.After(now) {
			if err := count(&run.progress); err != nil {
				return err
			}
			run.Busy = now.Add(stepTime)
			err = p.save(ctx, run)
			if err == nil {
				return nil
			}
			if errors.Is(err, store.ErrNotFound) {
				return errNoProgress
			}
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stepPoll):
		}
		if err := p.load(ctx, run); err != nil {
			return err
		}
	}
}

// leave ends a step: the login waits again.
func (p progresses) leave(ctx context.Context, run *running) error {
	run.Busy = time.Time{}
	return p.save(ctx, run)
}

// end forgets a login. One that cannot be forgotten now is over in minutes anyway, and its secret at the provider is
// spent.
func (p progresses) end(ctx context.Context, w http.ResponseWriter, run *running) {
	_ = p.store.Delete(ctx, run.record.ID)
	p.Cookies.ClearTransaction(w, run.id)
}

func (p progresses) idOf(secret []byte) store.ID {
	k := seal.Derive(secret, "cloakroom login id v1", p.Frontend)
	return store.ID(sha256.Sum256(k[:]))
}

func (p progresses) key(secret []byte) [32]byte {
	return seal.Derive(secret, "cloakroom login key v1", p.Frontend)
}

func (p progresses) context(id store.ID) seal.Context {
	return seal.Context{Purpose: "login", Frontend: p.Frontend, ID: id.String(), Field: "progress"}
}
