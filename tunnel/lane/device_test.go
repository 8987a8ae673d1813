package lane

import (
	"encoding/binary"
	"slices"
	"testing"

	"tund/tunnel/offload"
)

func TestPadLimit_isTheSmallestRouteThatThePacketFits(t *testing.T) {
	t.Parallel()
	frame := func(size int) []byte { return make([]byte, offload.VirtioHeaderLen+size) }
	super := func(segment int) []byte {
		b := frame(60000)
		b[1] = offload.GSOTCPv4
		binary.NativeEndian.PutUint16(b[4:], uint16(segment))
		return b
	}
	tests := []struct {
		name   string
		routes []int
		buf    []byte
		want   int
	}{
		{"no routes", nil, frame(100), 1420},
		{"fits the smallest", []int{1300, 1350}, frame(1300), 1300},
		{"fits the next", []int{1300, 1350}, frame(1301), 1350},
		{"fits the device only", []int{1300, 1350}, frame(1351), 1420},
		{"larger than the device", []int{1300}, frame(1500), 1420},
		{"in any order, some twice", []int{1350, 1300, 1350}, frame(1), 1300},
		{"above the device", []int{9000}, frame(1), 1420},
		{"superpacket of full segments", []int{1300, 1350}, super(1300 - 40), 1300},
		{"superpacket of longer ones", []int{1300, 1350}, super(1350 - 40), 1350},
		{"superpacket of the longest", []int{1300, 1350}, super(1420 - 40), 1420},
		{"too short to say", []int{1300}, nil, 1420},
	}
	for _, tt := range tests {
		dev := new(Device)
		dev.SetPadLimit(1420)
		given := slices.Clone(tt.routes)
		dev.SetRouteMTUs(given)
		if got := dev.padLimitOf(tt.buf); got != tt.want {
			t.Errorf("%s: padLimit = %d, want %d", tt.name, got, tt.want)
		}
		if !slices.Equal(given, tt.routes) {
			t.Errorf("%s: the caller's slice was changed", tt.name)
		}
	}
}
