package idp

import "time"

// Auth0's limits of second factors: ten at once, and one more each time.
const (
	bucketSize = 10
	codeRefill = 6 * time.Minute // wrong codes
	sendRefill = time.Hour       // codes that are sent
)

// bucket is what is left of ten, and since when.
type bucket struct {
	left float64
	at   time.Time
}

// level is a bucket as it is now.
func (p *Provider) level(key string, refill time.Duration) bucket {
	now := p.now()
	b, ok := p.memory.buckets[key]
	if !ok {
		return bucket{bucketSize, now}
	}
	return bucket{min(bucketSize, b.left+float64(now.Sub(b.at))/float64(refill)), now}
}

func (p *Provider) dry(key string, refill time.Duration) bool { return p.level(key, refill).left < 1 }

// draw takes one, and reports whether there was one.
func (p *Provider) draw(key string, refill time.Duration) bool {
	b := p.level(key, refill)
	if b.left < 1 {
		return false
	}
	b.left--
	if len(p.memory.buckets) >= mostKept {
		clear(p.memory.buckets)
	}
	p.memory.buckets[key] = b
	return true
}
