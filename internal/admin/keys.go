package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// keyUse is what names a key. Keys have names that tell nothing of them.
type keyUse struct {
	Name    string `json:"name"`
	Known   bool   `json:"known"`   // in the ring of the process that answers
	Seals   bool   `json:"seals"`   // the one that process seals with
	Records int    `json:"records"` // of the store that name it
	Sealers int    `json:"sealers"` // replicas that seal with it, or did until so lately that what they sealed elsewhere may live
}

// replica is a process that uses the store.
type replica struct {
	ID        string    `json:"id"`
	Keys      []string  `json:"keys"` // the one that seals first
	StartedAt time.Time `json:"started_at"`
	SeenAt    time.Time `json:"seen_at"`
	State     string    `json:"state"` // live | silent | ended
}

// claim waits until nothing else reads the whole store.
func (a *api) claim(ctx context.Context) (release func(), err error) {
	select {
	case a.busy <- struct{}{}:
		return func() { <-a.busy }, nil
	case <-ctx.Done():
		return nil, &session.Unavailable{Err: ctx.Err()}
	}
}

// keys is GET /api/keys: what names which key. It reads the whole store.
func (a *api) keys(w http.ResponseWriter, r *http.Request) *web.Problem {
	release, err := a.claim(r.Context())
	if err != nil {
		return problemOf(err)
	}
	defer release()
	// Replicas first: one that began to seal with a key afterwards had the key in its ring before.
	replicas, now, err := a.Replicas.Replicas(r.Context())
	if err != nil {
		return problemOf(err)
	}
	count, err := session.CountKeys(r.Context(), a.Store)
	if err != nil {
		return problemOf(err)
	}
	answer := struct {
		Keys     []keyUse  `json:"keys"`
		Replicas []replica `json:"replicas"`
	}{Keys: []keyUse{}, Replicas: []replica{}}
	sealers, order := map[string]int{}, a.Ring.Names()
	for _, rep := range replicas {
		sealers[rep.Seals()]++
		answer.Replicas = append(answer.Replicas, replicaOf(rep, now))
	}
	foreign := slices.Concat(slices.Sorted(maps.Keys(count)), slices.Sorted(maps.Keys(sealers)))
	for i, name := range append(order, foreign...) {
		if i >= len(order) && slices.ContainsFunc(answer.Keys, func(k keyUse) bool { return k.Name == name }) {
			continue
		}
		answer.Keys = append(answer.Keys, keyUse{
			Name: name, Known: i < len(order), Seals: i == 0, Records: count[name], Sealers: sealers[name],
		})
	}
	web.WriteJSON(w, http.StatusOK, answer)
	return nil
}

func replicaOf(r session.Replica, now time.Time) replica {
	state := "silent"
	switch {
	case r.Ended:
		state = "ended"
	case r.Lives(now):
		state = "live"
	}
	return replica{ID: r.ID, Keys: r.Keys, StartedAt: r.Started.UTC(), SeenAt: r.Seen.UTC(), State: state}
}

// rewrap is POST /api/keys/rewrap: it does now what is done in the background every few minutes.
func (a *api) rewrap(w http.ResponseWriter, r *http.Request) *web.Problem {
	release, err := a.claim(r.Context())
	if err != nil {
		return problemOf(err)
	}
	defer release()
	replicas, now, err := a.Replicas.Replicas(r.Context())
	if err != nil {
		return problemOf(err)
	}
	if !session.Agree(replicas, now, a.Ring.Names()[0]) {
		return web.NewProblem(web.CodeReplicasDisagree, "Some replicas seal with another key still. Restart them with the key file as it is now, then come again.")
	}
	n, err := session.RewrapAll(r.Context(), a.Store, a.Sessions.Managers)
	if err != nil {
		return problemOf(err)
	}
	web.WriteJSON(w, http.StatusOK, struct {
		Rewrapped int `json:"rewrapped"`
	}{n})
	return nil
}
