package noise

import (
	"bytes"
	"encoding/binary"
	"time"
)

const (
	// tai64Epoch is the TAI64 label of the Unix epoch. WireGuard counts UTC seconds from it and ten
	// leap seconds.
	tai64Epoch = 1<<62 + 10
	// whitenerMask are the bits of the nanoseconds that are cleared: 2^24 ns = 16.7 ms.
	whitenerMask = 1<<24 - 1
	// timestampSize is the length of a TAI64N label.
	timestampSize = 12
)

// Timestamp is a TAI64N label: 8 bytes of seconds and 4 of nanoseconds, big endian, so that byte
// order is time order. A peer takes an initiation only when its timestamp is greater than every one
// before. Whitepaper §5.1.
type Timestamp [timestampSize]byte

// NewTimestamp returns the label of t with its nanoseconds rounded down to a multiple of 2^24 (16.7
// ms), so that it tells little about our clock. Two handshakes within one such step have equal
// timestamps, and the second is refused; handshakes are 5 s apart.
func NewTimestamp(t time.Time) Timestamp {
	var ts Timestamp
	binary.BigEndian.PutUint64(ts[:], tai64Epoch+uint64(t.Unix()))
	binary.BigEndian.PutUint32(ts[8:], uint32(t.Nanosecond())&^whitenerMask)
	return ts
}

// After reports whether ts is later than u. The zero Timestamp is before all others.
func (ts Timestamp) After(u Timestamp) bool { return bytes.Compare(ts[:], u[:]) > 0 }

// Time returns the time that ts stands for; the zero time for the zero Timestamp.
func (ts Timestamp) Time() time.Time {
	if ts == (Timestamp{}) {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64(ts[:])-tai64Epoch), int64(binary.BigEndian.Uint32(ts[8:])))
}

// Next returns the earliest label after ts that NewTimestamp could return for a later time: for a
// sender whose clock went back.
func (ts Timestamp) Next() Timestamp {
	sec, ns := binary.BigEndian.Uint64(ts[:]), binary.BigEndian.Uint32(ts[8:])&^whitenerMask
	if ns += whitenerMask + 1; ns >= uint32(time.Second) {
		sec, ns = sec+1, 0
	}
	binary.BigEndian.PutUint64(ts[:], sec)
	binary.BigEndian.PutUint32(ts[8:], ns)
	return ts
}
