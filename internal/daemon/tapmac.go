package daemon

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"tund/crypto/keys"
)

// tapMAC returns the Ethernet address of the TAP device of an instance.
//
// A Linux bridge to which nobody gave an address takes the lowest of its ports, so an address drawn
// at random at each start would now and then become the bridge's, and the LAN would go on sending
// to the old one until its ARP entries ran out. So the address is the same at each start, and
// begins with fe:ff, which is above those of network cards, virtual machines and containers. A
// bridge that has no other port takes it; since the public key is in it, no two sites of one LAN
// have the same.
func tapMAC(key keys.PublicKey, instance, device string) [6]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "tund TAP address\x00%s\x00%s\x00%s", key, instance, device))
	return [6]byte{0xfe, 0xff, sum[0], sum[1], sum[2], sum[3]}
}

// switchNode returns the name of an instance's switch: the same at each start, so that peers need
// not take a new one from it, which they do only so often, however often it is restarted.
func switchNode(key keys.PublicKey) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "tund switch\x00%s", key))
	return binary.BigEndian.Uint64(sum[:]) | 1 // never 0
}
