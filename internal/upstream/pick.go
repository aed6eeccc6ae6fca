package upstream

import "math/rand/v2"

// pick chooses the less busy of two members by chance (power of two choices): nearly as even as asking all of them, and
// no crowd runs to the one that is idle. A member that is not to be asked again is passed over; without another, nil.
func (p *Pool) pick(not *member) *member {
	from := *p.live.Load()
	if not != nil {
		if from = without(from, not); len(from) == 0 {
			from = without(p.members, not)
		}
	}
	switch len(from) {
	case 0:
		return nil
	case 1:
		return from[0]
	}
	i, j := rand.IntN(len(from)), rand.IntN(len(from)-1) //nolint:gosec // not a secret
	if j >= i {
		j++
	}
	if from[j].running.Load() < from[i].running.Load() {
		return from[j]
	}
	return from[i]
}

func without(members []*member, not *member) []*member {
	var rest []*member
	for _, m := range members {
		if m != not {
			rest = append(rest, m)
		}
	}
	return rest
}
