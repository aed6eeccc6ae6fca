package lean

// Idle says how many connections wait for a request.
func (t *Transport) Idle() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// Open says how many connections there are, and how many requests wait for one.
func (t *Transport) Open() (conns, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open, t.waiting.len()
}
