package session

import (
	"bytes"
	"testing"

	"tund/crypto/wire"
)

func FuzzOpen(f *testing.F) {
	a, b := ends()
	for _, n := range []int{0, 1, 16, 100} {
		msg := make([]byte, n+32)
		a.Seal(msg, uint64(n), make([]byte, n), new(Scratch))
		f.Add(msg)
		f.Add(msg[:n+31])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		out, sc := bytes.Repeat([]byte{0xdd}, 256), new(Scratch)
		n, ok := b.Open(out, msg, sc)
		if !ok {
			if n != 0 {
				t.Errorf("failed with n = %d", n)
			}
			return
		}
		again := make([]byte, n+32)
		a.Seal(again, wire.TransportCounter(msg), out[:n], sc)
		if !bytes.Equal(again[8:], msg[8:]) {
			t.Error("a forged message opened")
		}
	})
}
