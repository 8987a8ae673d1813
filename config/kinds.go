package config

import (
	"strconv"
	"strings"
	"time"
)

// kind is what a key takes.
type kind uint8

const (
	kindSection kind = iota + 1
	kindText
	kindSecret // text that is never shown
	kindNumber
	kindSeconds // a number, and people write durations
	kindBoolean
	kindList
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

// example returns an assignment to key as it should be, with the value that the file has when that
// may be shown.
func example(key string, kind kind, value string) string {
	switch {
	case len(key) > maxShownKey || looksLikeKey(key):
		key = "key"
	case value == "" && examples[key] != "":
		return key + " = " + examples[key]
	}
	if value == "" {
		value = "…"
	}
	value = strconv.Quote(value)
	if kind == kindList {
		value = "[" + value + "]"
	}
	return key + " = " + value
}

// withoutUnit says how to write a number that has a unit, or is in quotes.
func withoutUnit(key string, kind kind, value string) string {
	if d, err := time.ParseDuration(value); kind == kindSeconds && err == nil && d > 0 && d%time.Second == 0 {
		return "want a number of seconds, without a unit: " + key + " = " + strconv.FormatInt(int64(d/time.Second), 10)
	}
	digits := value[:len(value)-len(strings.TrimLeft(value, "0123456789"))]
	if len(digits) == 0 || len(digits) > 10 {
		return "want a number, without quotes and without a unit"
	}
	return "want a number, without quotes and without a unit: " + key + " = " + digits
}
