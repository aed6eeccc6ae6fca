package cloakroom

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/cloakroom/cloakroom/internal/session"
)

// EndAtProvider is a back-channel logout by sid or subject, as it arrives at the first frontend.
func (h *Handler) EndAtProvider(ctx context.Context, who session.Who) (int, error) {
	who.Provider = "main"
	now := time.Now()
	n, _, err := h.managers()[0].ProviderLogout(ctx, session.Notice{Who: who, ID: rand.Text(), Issued: now, Until: now.Add(time.Minute)})
	return n, err
}
