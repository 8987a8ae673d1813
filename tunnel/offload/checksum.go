package offload

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the 16-bit big-endian words of b to initial, with end-around carry (RFC 1071). An odd
// last byte counts as the high half of a word, so only the last of several pieces may be odd. The
// result is a running sum: pass it on as the next initial, add small numbers to it, and end with
// fold. It does not allocate.
func Sum(b []byte, initial uint64) uint64 {
	sum, carry := bits.Add64(uint64(bits.ReverseBytes16(fold(sumWords(b)))), initial, 0)
	return sum + carry
}

// sumWordsGo returns the running sum of b in little-endian words, on any machine. RFC 1071 §2(B):
// the order of the bytes may be swapped once at the end instead of at each word.
func sumWordsGo(b []byte) uint64 {
	var sum, carry uint64
	for len(b) >= 64 {
		w := b[:64]
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[0:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var last uint64
		if len(b) >= 4 {
			last = uint64(binary.LittleEndian.Uint32(b))
			b = b[4:]
			switch len(b) {
			case 3:
				last |= uint64(b[2])<<48 | uint64(b[1])<<40 | uint64(b[0])<<32
			case 2:
				last |= uint64(b[1])<<40 | uint64(b[0])<<32
			case 1:
				last |= uint64(b[0]) << 32
			}
		} else {
			for i, v := range b {
				last |= uint64(v) << (8 * i)
			}
		}
		sum, carry = bits.Add64(sum, last, carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	return sum + carry
}

// fold reduces a running sum to 16 bits with end-around carry. It is zero only when every word
// summed was.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// pseudoSum returns the running sum of the pseudo-header of an IP packet without its length: both
// addresses and the protocol. RFC 9293 §3.1, RFC 8200 §8.1.
func pseudoSum(ip []byte, version uint8, proto uint8) uint64 {
	if version == 4 {
		return sum32(ip[12:]) + sum32(ip[16:]) + uint64(proto)
	}
	_ = ip[39]
	return sum32(ip[8:]) + sum32(ip[12:]) + sum32(ip[16:]) + sum32(ip[20:]) +
		sum32(ip[24:]) + sum32(ip[28:]) + sum32(ip[32:]) + sum32(ip[36:]) + uint64(proto)
}

// sum32 returns the first four bytes of b as a part of a running sum: two words at once, because
// 2^16 is 1 in the arithmetic of this checksum.
func sum32(b []byte) uint64 { return uint64(binary.BigEndian.Uint32(b)) }

// ipv4Sum returns the running sum of the 20 fixed bytes of an IPv4 header.
func ipv4Sum(ip []byte) uint64 {
	_ = ip[19]
	return sum32(ip[0:]) + sum32(ip[4:]) + sum32(ip[8:]) + sum32(ip[12:]) + sum32(ip[16:])
}
