package screen

import (
	"testing"
	"time"
	"tund/internal/screen/screentest"
)

func TestBytesIEC_hasThreeDigits(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 10: "10.0 KiB", 102300: "99.9 KiB", 102399: "100 KiB",
		999 << 10: "999 KiB", 1000 << 10: "0.977 MiB", 1023 << 10: "0.999 MiB", 1<<20 - 1: "1.00 MiB", 1 << 20: "1.00 MiB",
		1_561_000_000_000: "1.42 TiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := bytesIEC(n); got != want {
			t.Errorf("bytesIEC(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestAge_hasTwoUnits(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 48 * time.Second: "48s", 125 * time.Second: "2m05s", 3*time.Hour + 2*time.Minute: "3h02m",
		76 * time.Hour: "3d4h", 100 * 24 * time.Hour: "100d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
	if got := since(screentest.Noon().Add(time.Minute), screentest.Noon()); got != "clock wound back" {
		t.Errorf("a time in the future: %q", got)
	}
}
