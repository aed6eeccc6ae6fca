package login

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// mostAccounts is how many accounts one browser is known at; the one not used for longest is forgotten first.
const mostAccounts = 5

// device is a browser that has logged in before. It rests sealed in a cookie of its own and opens nothing: it only tells
// the limits that this browser is no stranger to an account.
type device struct {
	ID       string    `json:"i"`
	Accounts []knownAt `json:"a"`
}

type knownAt struct {
	Account string `json:"a"` // key of the limits: a hash
	Issuer  string `json:"i"`
	Subject string `json:"s"`
	Since   int64  `json:"t"` // Unix seconds
}

// deviceOf reads a request's device cookie; a new device where there is none.
func (h *Handler) deviceOf(r *http.Request) device {
	var d device
	if !h.Transactions.GetDevice(r, &d) || d.ID == "" || len(d.Accounts) > mostAccounts {
		return device{ID: web.NewID()}
	}
	return d
}

// knows reports whether the browser is known at an account. A person may have made all browsers unknown since; where
// that cannot be found out, it is a stranger.
func (h *Handler) knows(ctx context.Context, d device, account string) bool {
	i := slices.IndexFunc(d.Accounts, func(k knownAt) bool { return k.Account == account })
	if i < 0 {
		return false
	}
	k := d.Accounts[i]
	since := time.Unix(k.Since, 0)
	if time.Since(since) > session.DeviceLife {
		return false
	}
	forgotten, err := h.Sessions.DevicesForgotten(ctx, k.Issuer, k.Subject)
	return err == nil && since.After(forgotten)
}

// remember makes the browser known at the account that it has just logged in to.
func (h *Handler) remember(w http.ResponseWriter, r *http.Request, account string, c oidc.Claims) {
	d := h.deviceOf(r)
	d.Accounts = slices.DeleteFunc(d.Accounts, func(k knownAt) bool { return k.Account == account })
	d.Accounts = append(d.Accounts, knownAt{account, c.Issuer, c.Subject, time.Now().Unix()})
	if n := len(d.Accounts); n > mostAccounts {
		d.Accounts = d.Accounts[n-mostAccounts:]
	}
	h.Transactions.PutDevice(w, d) // if it does not fit, the browser stays a stranger
}
