package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// DeviceLife is how long a browser stays known after a login.
const DeviceLife = 180 * 24 * time.Hour

// forgetTries bounds how often marking is tried against others that do the same.
const forgetTries = 5

// ForgetDevices makes every browser of a person an unknown one: somebody else may have one of them.
func (m *Manager) ForgetDevices(ctx context.Context, issuer, subject string) error {
	for range forgetTries {
		now := m.now()
		rec := store.Record{ID: m.forgottenID(issuer, subject)}
		old, err := m.Store.Load(ctx, rec.ID)
		if err == nil {
			rec.Version = old.Version
		} else if !errors.Is(err, store.ErrNotFound) {
			return &Unavailable{Err: err}
		}
		rec.Head = store.Head{Created: now, LastActive: now, Expires: now.Add(DeviceLife)}
		rec.Blob = append([]byte{NoSession}, strconv.FormatInt(now.Unix(), 10)...)
		_, err = m.Store.Save(ctx, rec)
		if err == nil || !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return &Unavailable{Err: errors.New("session: the devices cannot be marked as forgotten")}
}

// DevicesForgotten is since when no browser of a person counts as known, the zero time if they all do.
func (m *Manager) DevicesForgotten(ctx context.Context, issuer, subject string) (time.Time, error) {
	rec, err := m.Store.Load(ctx, m.forgottenID(issuer, subject))
	if errors.Is(err, store.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	if len(rec.Blob) < 2 || rec.Blob[0] != NoSession {
		return time.Time{}, errRecord
	}
	at, err := strconv.ParseInt(string(rec.Blob[1:]), 10, 64)
	return time.Unix(at, 0), err
}

// forgottenID does not hang on the key ring: the mark must be found after a rotation, too. The hash tells nothing of the
// person without their issuer's name for them.
func (m *Manager) forgottenID(issuer, subject string) store.ID {
	return sha256.Sum256([]byte("cloakroom devices forgotten v1\x00" + m.Frontend + "\x00" + issuer + "\x00" + subject))
}
