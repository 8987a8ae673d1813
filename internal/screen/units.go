package screen

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// bytesIEC formats a size in binary units with three significant digits: 1.42 TiB, 884 GiB, 17 B.
func bytesIEC(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value := float64(n)
	unit := 0
	for value >= 999.5 && unit < len(iecUnits)-1 { // 999.5 would round to four digits
		value /= 1024
		unit++
	}
	decimals := 0
	switch {
	case value < 0.9995:
		decimals = 3
	case value < 9.995:
		decimals = 2
	case value < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(value, 'f', decimals, 64) + " " + iecUnits[unit]
}

var iecUnits = [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// age formats a duration in its two greatest units: 48s, 2m05s, 3h02m, 3d4h, 412d.
func age(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	case s < 100*86400:
		return fmt.Sprintf("%dd%dh", s/86400, s/3600%24)
	}
	return fmt.Sprintf("%dd", s/86400)
}

// seconds converts a number of seconds of the control API into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// clockSlack is how far a time may lie in the future before the clock is suspect: the daemon
// rounds.
const clockSlack = 5 * time.Second

// since formats how long ago t was. A time in the future means that the system clock was set back.
func since(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case t.Sub(now) > clockSlack:
		return "clock wound back"
	}
	return age(now.Sub(t)) + " ago"
}

// Plural writes "1 peer", "2 peers".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// Some writes a list of names, or its beginning when it is long.
func Some(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
