package cloakroom

import (
	"context"
	"time"

	"github.com/cloakroom/cloakroom/internal/session"
)

// EndAtProvider is a back-channel logout by sid or subject, as it arrives at the first frontend.
func (h *Handler) EndAtProvider(ctx context.Context, who session.Who) (int, error) {
	who.Provider = "main"
	return h.managers()[0].ProviderLogout(ctx, who, time.Now())
}
