package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that YAML writes as 90s, 15m, 12h or 30d.
type Duration time.Duration

// Std returns the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// unit is a word for a multiple.
type unit struct {
	word string
	size int64
}

var durationUnits = []unit{{"d", int64(day)}, {"h", int64(time.Hour)}, {"m", int64(time.Minute)}, {"s", int64(time.Second)}}

var sizeUnits = []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// The errors of the scalars quote nothing: the text may be a secret in the wrong field.
var (
	errDuration = errors.New("not a duration like 90s, 15m, 12h or 30d")
	errSize     = errors.New("not a size like 512KiB, 64MiB or 1GiB")
	errRate     = errors.New("not a rate like 10/15m")
	errCount    = errors.New("not a whole number")
)

// parseUnits reads a whole number and its unit.
func parseUnits(s string, units []unit) (int64, bool) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.word)
		if !ok || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		return n * u.size, err == nil && n <= math.MaxInt64/u.size
	}
	return 0, false
}

// formatUnits writes n in the largest unit of which it is a whole multiple.
func formatUnits(n int64, units []unit) string {
	smallest := units[len(units)-1]
	for _, u := range units {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.word
		}
	}
	return strconv.FormatInt(n/smallest.size, 10) + smallest.word
}

// ParseDuration reads a whole number and one of the units s, m, h and d.
func ParseDuration(s string) (Duration, error) {
	n, ok := parseUnits(s, durationUnits)
	if !ok {
		return 0, errDuration
	}
	return Duration(n), nil
}

// String is the shortest form that ParseDuration reads; what is below a second is cut off.
func (d Duration) String() string { return formatUnits(int64(d), durationUnits) }

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDuration.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// Size is a number of bytes that YAML writes as 512KiB, 64MiB or 1GiB.
type Size int64

// String is the shortest form that UnmarshalText reads.
func (s Size) String() string { return formatUnits(int64(s), sizeUnits) }

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a whole number and one of the units B, KiB, MiB and GiB.
func (s *Size) UnmarshalText(b []byte) error {
	n, ok := parseUnits(string(b), sizeUnits)
	if !ok {
		return errSize
	}
	*s = Size(n)
	return nil
}

// Rate is "10/15m": ten at once, and as many again spread over each 15 minutes. The zero value is the default.
type Rate struct {
	Burst int
	Per   time.Duration
}

// String is "10/15m", empty for the zero value.
func (r Rate) String() string {
	if r == (Rate{}) {
		return ""
	}
	return strconv.Itoa(r.Burst) + "/" + Duration(r.Per).String()
}

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a whole number above zero, a slash and a duration above zero.
func (r *Rate) UnmarshalText(b []byte) error {
	burst, per, _ := strings.Cut(string(b), "/")
	n, err := strconv.ParseUint(burst, 10, 31)
	d, errPer := ParseDuration(per)
	if err != nil || errPer != nil || n == 0 || d == 0 {
		return errRate
	}
	*r = Rate{int(n), d.Std()}
	return nil
}

// Count is a whole number from 0.
type Count int

// String is the number in digits.
func (c Count) String() string { return strconv.Itoa(int(c)) }

// MarshalText is String.
func (c Count) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads decimal digits.
func (c *Count) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil {
		return errCount
	}
	*c = Count(n)
	return nil
}
