package rotation

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time as policies write it: "90d", "24h", "15m",
// "30s", "500ms", combined as "1d12h", or "forever". A day is 24 hours. The zero
// Duration stands for a member that was left out; a policy cannot write it.
type Duration time.Duration

// Forever is longer than any time that is waited for.
const Forever Duration = math.MaxInt64

// maxDuration bounds what a policy may ask for, so that no sum of two overflows.
const maxDuration = 100 * 365 * day

// ParseDuration reads what String writes.
func ParseDuration(s string) (Duration, error) {
	if s == "forever" {
		return Forever, nil
	}
	rest, total := s, time.Duration(0)
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > uint64(maxDuration/day) {
			return 0, badDuration(s)
		}
		total, rest = time.Duration(n)*day, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > maxDuration {
			return 0, badDuration(s)
		}
		total += d
	}
	if total <= 0 || total > maxDuration {
		return 0, badDuration(s)
	}
	return Duration(total), nil
}

func badDuration(s string) error {
	return fmt.Errorf("reading duration %q: expected more than zero and at most 100 years, as 90d, 24h, 1d12h, 15m or 30s", clip(s))
}

// String returns the shortest form: 90d, 24h, 1d12h, 15m, 1m30s, forever; nothing for zero.
func (d Duration) String() string {
	switch {
	case d == 0:
		return ""
	case d == Forever:
		return "forever"
	}
	t := time.Duration(d)
	if t > day && t%day == 0 {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	text := ""
	if t > day {
		text = strconv.FormatInt(int64(t/day), 10) + "d"
		t %= day
	}
	rest := t.String()
	if strings.HasSuffix(rest, "m0s") {
		rest = strings.TrimSuffix(rest, "0s")
	}
	if strings.HasSuffix(rest, "h0m") {
		rest = strings.TrimSuffix(rest, "0m")
	}
	return text + rest
}

// MarshalText is for JSON and YAML.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// std returns d for the standard library; Forever is the longest there is.
func (d Duration) std() time.Duration { return time.Duration(d) }
