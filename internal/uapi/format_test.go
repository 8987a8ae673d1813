package uapi

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/tunnel"
)

func sample() Device {
	private := keys.PrivateKey(key32(8))
	private.Clamp()
	return Device{
		PrivateKey: private, ListenPort: 51820, FwMark: 51820,
		Peers: []tunnel.PeerStatus{
			{
				PublicKey: key32(2), PresharedKey: key32(3), Endpoint: netip.MustParseAddrPort("[2001:db8::1]:51820"),
				LastHandshake: time.Unix(1700000000, 0), TxBytes: 1 << 40, RxBytes: 7, Keepalive: 25 * time.Second,
				AllowedIPs: prefixes("10.0.0.0/8", "::/0"), State: tunnel.StateUp,
			},
			{PublicKey: key32(4), State: tunnel.StateIdle},
		},
	}
}

func TestAppendGet_keysAndTheirOrder(t *testing.T) {
	t.Parallel()
	want := "private_key=" + hexKey(8)[:62] + "48\nlisten_port=51820\nfwmark=51820\n" +
		"public_key=" + hexKey(2) + "\npreshared_key=" + hexKey(3) + "\nprotocol_version=1\n" +
		"endpoint=[2001:db8::1]:51820\nlast_handshake_time_sec=1700000000\nlast_handshake_time_nsec=1\n" +
		"tx_bytes=1099511627776\nrx_bytes=7\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=::/0\ntund_state=up\n" +
		"public_key=" + hexKey(4) + "\npreshared_key=" + hexKey(0) + "\nprotocol_version=1\n" +
		"last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\ntund_state=idle\n"
	if got := string(appendGet(nil, sample())); got != want {
		t.Errorf("appendGet:\n got %s\nwant %s", got, want)
	}
}

func TestAppendGet_leavesOutWhatIsNotSet(t *testing.T) {
	t.Parallel()
	if got := string(appendGet(nil, Device{})); got != "" {
		t.Errorf("a device with nothing set: %q, want no lines", got)
	}
}

// wgctrl splits each line at "=" and wants two parts.
func TestAppendGet_noValueHoldsAnEqualsSign(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(string(appendGet(nil, sample()))) {
		if n := strings.Count(line, "="); n != 1 {
			t.Errorf("%q has %d equals signs, want 1", line, n)
		}
	}
}

func TestHandshakeTime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		at        time.Time
		sec, nsec uint64
	}{
		{time.Time{}, 0, 0},
		{time.Unix(5, 0), 5, 1},
		{time.Unix(5, 999999999), 5, 999999999},
	}
	for _, tt := range tests {
		if sec, nsec := handshakeTime(tt.at); sec != tt.sec || nsec != tt.nsec {
			t.Errorf("handshakeTime(%v) = %d, %d, want %d, %d", tt.at, sec, nsec, tt.sec, tt.nsec)
		}
	}
}
