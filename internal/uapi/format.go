package uapi

import (
	"encoding/hex"
	"strconv"
	"time"
)

// appendGet appends the answer to a get request, without the errno that ends it. The keys and their
// order are wireguard-go's; what is zero is left out, but for a preshared key and the numbers of a
// peer. wg and wgctrl skip keys they do not know; of those tund adds one per peer, its state in a
// word.
func appendGet(b []byte, d Device) []byte {
	if !d.PrivateKey.IsZero() {
		b = appendKey(b, "private_key=", d.PrivateKey[:])
	}
	if d.ListenPort != 0 {
		b = appendNumber(b, "listen_port=", uint64(d.ListenPort))
	}
	if d.FwMark != 0 {
		b = appendNumber(b, "fwmark=", uint64(d.FwMark))
	}
	for i := range d.Peers {
		p := &d.Peers[i]
		b = appendKey(b, "public_key=", p.PublicKey[:])
		b = appendKey(b, "preshared_key=", p.PresharedKey[:])
		b = append(b, "protocol_version=1\n"...)
		if p.Endpoint.IsValid() {
			b = append(b, "endpoint="...)
			b = append(p.Endpoint.AppendTo(b), '\n')
		}
		sec, nsec := handshakeTime(p.LastHandshake)
		b = appendNumber(b, "last_handshake_time_sec=", sec)
		b = appendNumber(b, "last_handshake_time_nsec=", nsec)
		b = appendNumber(b, "tx_bytes=", p.TxBytes)
		b = appendNumber(b, "rx_bytes=", p.RxBytes)
		b = appendNumber(b, "persistent_keepalive_interval=", uint64(p.Keepalive/time.Second))
		for _, prefix := range p.AllowedIPs {
			b = append(b, "allowed_ip="...)
			b = append(prefix.AppendTo(b), '\n')
		}
		b = append(append(append(b, "tund_state="...), p.State...), '\n')
	}
	return b
}

// appendErrno appends the line that ends every answer. wg prints a positive number of a get and a
// negative one of a set in words, and not the other way round.
func appendErrno(b []byte, errno int64) []byte {
	b = append(b, "errno="...)
	return append(strconv.AppendInt(b, errno, 10), "\n\n"...)
}

func appendKey(b []byte, name string, key []byte) []byte {
	return append(hex.AppendEncode(append(b, name...), key), '\n')
}

func appendNumber(b []byte, name string, n uint64) []byte {
	return append(strconv.AppendUint(append(b, name...), n, 10), '\n')
}

// handshakeTime splits a time as the protocol does. wgctrl takes zero nanoseconds for "never", so a
// handshake on the second is one nanosecond late.
func handshakeTime(t time.Time) (sec, nsec uint64) {
	if t.IsZero() {
		return 0, 0
	}
	return uint64(max(t.Unix(), 0)), uint64(max(t.Nanosecond(), 1))
}
