package config

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "12h": 12 * time.Hour, "30d": 720 * time.Hour, "0s": 0, "007s": 7 * time.Second, "106751d": 106751 * day,
	} {
		if got, err := ParseDuration(in); err != nil || got.Std() != want {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "s", "1", "1w", "-1s", "+1s", "1.5h", "1h30m", "1 h", " 1h", "1h ", "1H", "1ms", "106752d", "99999999999999999999s", "١s"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
	for want, in := range map[string]time.Duration{"90s": 90 * time.Second, "1d": 24 * time.Hour, "25h": 25 * time.Hour, "0s": 0, "1m": time.Minute} {
		if got := Duration(in).String(); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]Size{"64MiB": 64 << 20, "512KiB": 512 << 10, "1GiB": 1 << 30, "100B": 100, "0B": 0} {
		var got Size
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want || got.String() != in {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "64", "64MB", "64mib", "-1B", "1.5MiB", "MiB", "9999999999GiB", "64 MiB"} {
		var got Size
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
}

func TestRate(t *testing.T) {
	for in, want := range map[string]Rate{"10/15m": {10, 15 * time.Minute}, "1/1s": {1, time.Second}, "100/1d": {100, day}} {
		var got Rate
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want || got.String() != in {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "10", "10/", "/15m", "0/15m", "10/0s", "-1/15m", "+1/15m", "10/15", "10/15m/1", "10 / 15m", "4294967296/1s"} {
		var got Rate
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
	if (Rate{}).String() != "" {
		t.Error("the zero rate is a default, not 0/0s")
	}
}
