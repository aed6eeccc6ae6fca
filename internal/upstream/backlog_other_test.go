//go:build !linux

package upstream

import "testing"

func fullListener(*testing.T) (string, bool) { return "", false }
