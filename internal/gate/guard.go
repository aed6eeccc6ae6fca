package gate

// guard decides whether a request with our cookies, or to one of our actions, may have been sent by the app
// itself (DESIGN.md section 7). pages says that people navigate to this address from anywhere.
//
// SameSite alone does not stop a taken-over sibling subdomain, and a header alone is forgotten on images and
// downloads; Fetch metadata is what every current browser sends and no page can forge.
func (g *Gate) guard(f Facts, pages bool) bool {
	if f.Upgrade {
		return g.ownOrigin(f.Origin) // browsers send no Fetch metadata on WebSocket handshakes
	}
	switch f.Site {
	case "same-origin":
		return true
	case "none": // typed, bookmarked, opened by the browser itself
		return f.safe()
	case "":
		return g.guardWithoutMetadata(f, pages)
	}
	if g.allowed[f.Origin] {
		return true
	}
	return pages && f.Navigation()
}

func (g *Gate) guardWithoutMetadata(f Facts, pages bool) bool {
	if f.Origin != "" {
		return g.ownOrigin(f.Origin)
	}
	return f.Custom || pages && f.Navigation()
}

// ownOrigin reports whether origin is the frontend's or one it allows. Empty and "null" are neither.
func (g *Gate) ownOrigin(origin string) bool {
	return origin == g.origin || g.allowed[origin]
}
