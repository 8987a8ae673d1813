package offload

import (
	"math/bits"

	"golang.org/x/sys/cpu"
)

// Below vectorsFrom bytes plain Go is as quick (measured on Zen 5). sumBlocks takes multiples of
// blockLen.
const (
	vectorsFrom = 192
	blockLen    = 32
)

// sumBlocks adds n bytes at p, a multiple of blockLen and at least 128, in little-endian words. It
// needs AVX2.
//
//go:noescape
func sumBlocks(p *byte, n int) uint64

// sumWords returns the running sum of b in little-endian words.
func sumWords(b []byte) uint64 {
	if len(b) < vectorsFrom || !cpu.X86.HasAVX2 {
		return sumWordsGo(b)
	}
	n := len(b) &^ (blockLen - 1)
	sum, carry := bits.Add64(sumBlocks(&b[0], n), sumWordsGo(b[n:]), 0)
	return sum + carry
}
