package proxy

import "strings"

// preferences are the weights of an Accept-Encoding header in thousandths (RFC 9110 section 12.5.3).
type preferences struct{ zstd, br, gzip, identity int }

const unsaid = -1

// accepted reads the header's lines. What is not named has the weight of `*`; without `*`, only the file as it is may
// be sent, as the least wanted. An element that makes no sense counts as not said.
func accepted(lines []string) preferences {
	p, star := preferences{unsaid, unsaid, unsaid, unsaid}, unsaid
	for _, line := range lines {
		for line != "" {
			var element string
			element, line, _ = strings.Cut(line, ",")
			coding, params, _ := strings.Cut(element, ";")
			weight, ok := quality(params)
			if !ok {
				continue
			}
			switch coding = strings.Trim(coding, " \t"); {
			case strings.EqualFold(coding, "zstd"):
				p.zstd = weight
			case strings.EqualFold(coding, "br"):
				p.br = weight
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				p.gzip = weight
			case strings.EqualFold(coding, "identity"):
				p.identity = weight
			case coding == "*":
				star = weight
			}
		}
	}
	for _, w := range []*int{&p.zstd, &p.br, &p.gzip, &p.identity} {
		if *w == unsaid {
			*w = star
		}
	}
	return p
}

// quality reads `q=0.5`: at most three decimals, at most 1. Nothing is 1.
func quality(params string) (int, bool) {
	params = strings.Trim(params, " \t")
	if params == "" {
		return 1000, true
	}
	if len(params) < 3 || params[0]|0x20 != 'q' || params[1] != '=' {
		return 0, false
	}
	whole, decimals := params[2], params[3:]
	if whole != '0' && whole != '1' || len(decimals) > 4 || decimals != "" && decimals[0] != '.' {
		return 0, false
	}
	weight, unit := int(whole-'0')*1000, 100
	for i := 1; i < len(decimals); i++ {
		if decimals[i] < '0' || decimals[i] > '9' {
			return 0, false
		}
		weight += int(decimals[i]-'0') * unit
		unit /= 10
	}
	return weight, weight <= 1000
}

// best is the representation with the highest weight, of equals the smallest. If the client takes none, it gets the
// file as it is: that is more use to it than a refusal, which RFC 9110 section 15.5.7 leaves to us.
func (p preferences) best(reps []representation) *representation {
	best, top := &reps[0], 0
	for i := range reps {
		rep := &reps[i]
		var weight int
		switch rep.encoding {
		case "zstd":
			weight = p.zstd
		case "br":
			weight = p.br
		case "gzip":
			weight = p.gzip
		default:
			if weight = p.identity; weight == unsaid {
				continue // the first, which it is if nothing else is wanted
			}
		}
		if weight > top || weight > 0 && weight == top && rep.size < best.size {
			best, top = rep, weight
		}
	}
	return best
}
