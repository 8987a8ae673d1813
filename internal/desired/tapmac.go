package desired

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"tund/crypto/keys"
)

// TapMAC returns the Ethernet address of the TAP device of an instance.
//
// A Linux bridge without a configured address takes the lowest address of its ports. An address
// drawn at random at each start would therefore now and then become the bridge's, and the LAN would
// continue to send to the old one until its ARP entries expired. So the address is the same at each
// start, and begins with fe:ff, which is above those of network cards, virtual machines and
// containers. A bridge without other ports takes it; since it depends on the public key, no two
// sites of one LAN have the same.
func TapMAC(key keys.PublicKey, instance, device string) [6]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "tund TAP address\x00%s\x00%s\x00%s", key, instance, device))
	return [6]byte{0xfe, 0xff, sum[0], sum[1], sum[2], sum[3]}
}

// SwitchNode returns the node of an instance's switch. It is the same at each start, because peers
// accept a new one only at a limited rate, and an instance may be restarted often.
func SwitchNode(key keys.PublicKey) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "tund switch\x00%s", key))
	return binary.BigEndian.Uint64(sum[:]) | 1 // never 0
}
