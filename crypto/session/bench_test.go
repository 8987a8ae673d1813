package session

import (
	"fmt"
	"testing"
)

func BenchmarkSession(b *testing.B) {
	x, y := ends()
	for _, n := range []int{64, 576, 1424} {
		sc, plain, msg, out := new(Scratch), make([]byte, n), make([]byte, n+32), make([]byte, n)
		b.Run(fmt.Sprintf("Seal-%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				c, _ := x.Reserve(1)
				x.Seal(msg, c, plain, sc)
			}
		})
		b.Run(fmt.Sprintf("Open-%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				if _, ok := y.Open(out, msg, sc); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}
