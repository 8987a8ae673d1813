package handshake

import (
	"hash/maphash"
	"net/netip"
	"testing"
	"time"

	"tund/internal/boottime"
)

func TestSourceLimiter_refillsSweepsAndStaysBounded(t *testing.T) {
	t.Parallel()
	var l sourceLimiter
	now := boottime.Time(time.Hour)
	src := netip.MustParseAddr("2001:db8:1:2::1")
	allowed := 0
	for i := range 1000 { // a second, one each millisecond
		if l.allow(src, now.Add(time.Duration(i)*time.Millisecond)) {
			allowed++
		}
	}
	if want := handshakeBurst + handshakesPerSecond - 1; allowed < want-1 || allowed > want+1 {
		t.Errorf("%d in a second, want about %d", allowed, want)
	}
	now = now.Add(time.Second)
	if l.allow(netip.MustParseAddr("2001:db8:1:2:ffff::9"), now.Add(-30*time.Millisecond)) {
		t.Error("another host of the same /64 has tokens of its own")
	}
	if !l.allow(netip.MustParseAddr("2001:db8:1:3::1"), now) {
		t.Error("the /64 beside it was refused")
	}
	for i := range 2 * maxSources {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(l.sources); n > maxSources {
		t.Errorf("%d sources remembered, want at most %d", n, maxSources)
	}
	now = now.Add(3 * time.Second)
	if !l.allow(netip.MustParseAddr("192.0.2.1"), now) || len(l.sources) != 1 {
		t.Errorf("after a pause %d sources are remembered, want 1", len(l.sources))
	}
}

func TestCookieBudget_isBySource(t *testing.T) {
	t.Parallel()
	budget := cookieBudget{seed: maphash.MakeSeed()}
	now := boottime.Time(time.Hour)
	flooder, genuine := netip.MustParseAddr("192.0.2.1"), 0
	n := 0
	for range 1000 {
		if budget.allow(flooder, now) {
			n++
		}
	}
	if n != cookiesPerCell {
		t.Errorf("%d cookies for one source in one second, want %d", n, cookiesPerCell)
	}
	for i := range 20000 { // invented sources
		budget.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	for i := range 256 {
		if budget.allow(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), now) {
			genuine++
		}
	}
	if genuine < 200 {
		t.Errorf("%d of 256 genuine sources got a cookie beside a flood of 20,000 a second", genuine)
	}
	if !budget.allow(flooder, now.Add(time.Second)) {
		t.Error("no cookie in the next second")
	}
}

func TestICMP_isLookedAtSeldom(t *testing.T) {
	t.Parallel()
	q := newICMPQueue()
	now, n := boottime.Time(time.Hour), 0
	for range 100_000 {
		if q.allow(now) {
			n++
		}
	}
	if n != ICMPPerSecond {
		t.Errorf("%d messages were looked at in no time, want %d", n, ICMPPerSecond)
	}
	if !q.allow(now.Add(time.Second)) {
		t.Error("none in the next second")
	}
}
