//go:build !amd64

package offload

// sumWords returns the running sum of b in little-endian words.
func sumWords(b []byte) uint64 { return sumWordsGo(b) }
