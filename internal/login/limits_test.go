package login

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/store/memstore"
)

func limitsFor(perAccount, perAddress, perProvider config.Rate) Limits {
	st := memstore.New()
	half := config.Rate{Burst: perProvider.Burst / 2, Per: perProvider.Per}
	return Limits{
		PerAddress: limit.NewCounter("address", perAddress, st), PerAccount: limit.NewCounter("account", perAccount, st),
		PerDevice: limit.NewCounter("device", perAccount, st), PerHuman: limit.NewCounter("human", perAccount, st),
		Strangers: limit.NewCounter("strangers", half, st), Known: limit.NewCounter("known", half, st),
	}
}

// 10,000 tries from 1,000 addresses on 10 accounts within an hour, while the owners log in from browsers that are known.
func TestOwnersGetInUnderAttack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limitsFor(config.Rate{Burst: 10, Per: 15 * time.Minute}, config.Rate{Burst: 100, Per: 15 * time.Minute}, config.Rate{Burst: 200, Per: time.Minute})
		asked := map[string]int{}
		for i := range 10_000 {
			time.Sleep(360 * time.Millisecond)
			a := attemptOf{Provider: "main", Account: fmt.Sprint("account", i%10), Address: fmt.Sprint("address", i%1000)}
			if _, _, hit := l.take(t.Context(), a); hit == "" {
				asked[a.Account]++
			}
			if i%50 == 0 { // an owner, from the browser of last time
				mine := attemptOf{Provider: "main", Account: fmt.Sprint("account", i/50%10), Device: "device"}
				if _, wait, hit := l.take(t.Context(), mine); hit != "" {
					t.Fatalf("an owner is kept out by %s for %s", hit, wait)
				}
				l.refund(t.Context(), mine)
			}
		}
		for account, n := range asked {
			if n > 10+40+1 { // ten at once, and ten more in each quarter of an hour
				t.Errorf("%s: %d guesses in an hour", account, n)
			}
		}
	})
}

// 100,000 pairs of a leaked list from as many addresses: the provider is asked as often as is configured, and whoever is
// known still gets in.
func TestStuffingCostsTheProviderABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limitsFor(config.Rate{Burst: 10, Per: 15 * time.Minute}, config.Rate{Burst: 100, Per: 15 * time.Minute}, config.Rate{Burst: 60, Per: time.Minute})
		asked, begun := 0, time.Now()
		for i := range 100_000 {
			time.Sleep(10 * time.Millisecond)
			if _, _, hit := l.take(t.Context(), attemptOf{Provider: "main", Account: fmt.Sprint("account", i), Address: fmt.Sprint("address", i)}); hit == "" {
				asked++
			}
			if i%5_000 == 0 {
				if _, _, hit := l.take(t.Context(), attemptOf{Provider: "main", Account: "mine", Device: "device"}); hit != "" {
					t.Fatalf("a known browser is kept out by %s", hit)
				}
			}
		}
		minutes := time.Since(begun).Minutes()
		if most := 30 + int(30*minutes) + 1; asked > most || asked < most-2 {
			t.Errorf("asked %d times in %.1f minutes, want at most %d", asked, minutes, most)
		}
		if _, _, hit := l.take(context.Background(), attemptOf{Provider: "other", Account: "x", Address: "y"}); hit != "" {
			t.Error("another provider's budget is touched")
		}
	})
}

// What is refused costs nothing, and a success gives back what it took, but for the provider's budget.
func TestAttemptsAreGivenBack(t *testing.T) {
	l := limitsFor(config.Rate{Burst: 1, Per: time.Hour}, config.Rate{Burst: 3, Per: time.Hour}, config.Rate{Burst: 100, Per: time.Hour})
	a := attemptOf{Provider: "main", Account: "a", Address: "x"}
	for range 10 {
		if _, _, hit := l.take(t.Context(), a); hit != "" {
			t.Fatal(hit)
		}
		l.refund(t.Context(), a)
	}
	if _, _, hit := l.take(t.Context(), a); hit != "" {
		t.Fatal(hit)
	}
	for range 10 {
		if _, wait, hit := l.take(t.Context(), a); hit != "per_account" || wait <= 0 {
			t.Fatal(hit, wait)
		}
	}
	b := attemptOf{Provider: "main", Account: "b", Address: "x"}
	if _, _, hit := l.take(t.Context(), b); hit != "" {
		t.Errorf("refused tries at one account used up the address: %s", hit)
	}
	human := attemptOf{Provider: "main", Account: "a", Address: "x", Human: true}
	if _, _, hit := l.take(t.Context(), human); hit != "" {
		t.Errorf("who solved the challenge is kept out by %s", hit)
	}
}
