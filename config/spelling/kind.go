package spelling

import (
	"strconv"
	"strings"
	"time"
)

// Kind is what a key takes. The zero Kind is that of an unknown key.
type Kind uint8

// The kinds.
const (
	Section Kind = iota + 1
	Text
	Secret // text that is never shown
	Number
	Seconds // a number, and people write durations
	Boolean
	List
)

// examples are values for messages, of keys whose form people get wrong.
var examples = map[string]string{
	"address":     `["10.9.0.1/24", "fd09::1/64"]`,
	"allowed_ips": `["10.20.0.0/16", "10.9.0.2/32"]`,
	"endpoint":    `"berlin.example.org:51820"`,
	"macs":        `["02:00:00:00:00:01"]`,
	"vlans":       `[10, "20-29"]`,
	"trust":       `["dhcp", "ra"]`,
}

// HasExample reports whether key is one whose form people get wrong.
func HasExample(key string) bool { return examples[key] != "" }

// Example returns an assignment to key as it should be, with the value that the file has, or with
// another if value is "". Both are shown.
func Example(key string, kind Kind, value string) string {
	if value == "" && examples[key] != "" {
		return key + " = " + examples[key]
	}
	if value == "" {
		value = "…"
	}
	value = strconv.Quote(value)
	if kind == List {
		value = "[" + value + "]"
	}
	return key + " = " + value
}

// WithoutUnit says how to write a number that has a unit, or is in quotes.
func WithoutUnit(key string, kind Kind, value string) string {
	if d, err := time.ParseDuration(value); kind == Seconds && err == nil && d > 0 && d%time.Second == 0 {
		return "want a number of seconds, without a unit: " + key + " = " + strconv.FormatInt(int64(d/time.Second), 10)
	}
	digits := value[:len(value)-len(strings.TrimLeft(value, "0123456789"))]
	if len(digits) == 0 || len(digits) > 10 {
		return "want a number, without quotes and without a unit"
	}
	return "want a number, without quotes and without a unit: " + key + " = " + digits
}
