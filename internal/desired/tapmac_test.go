package desired

import (
	"testing"

	"tund/crypto/keys"
)

func TestTapMAC_isTheSameAtEachStartAndNobodyElses(t *testing.T) {
	t.Parallel()
	mine, theirs := keys.PublicKey{1}, keys.PublicKey{2}
	mac := TapMAC(mine, "office", "tap0")
	if mac[0] != 0xfe || mac[1] != 0xff {
		t.Errorf("%x does not begin with fe:ff, and may become the address of a bridge", mac)
	}
	if again := TapMAC(mine, "office", "tap0"); again != mac {
		t.Errorf("the second start has %x, the first had %x", again, mac)
	}
	for what, other := range map[string][6]byte{
		"another site":     TapMAC(theirs, "office", "tap0"),
		"another instance": TapMAC(mine, "lab", "tap0"),
		"another device":   TapMAC(mine, "office", "tap1"),
	} {
		if other == mac {
			t.Errorf("%s has the same address, %x", what, mac)
		}
	}
}

func TestSwitchNode_isTheSameAtEachStartAndNobodyElses(t *testing.T) {
	t.Parallel()
	mine := SwitchNode(keys.PublicKey{1})
	if mine == 0 || mine != SwitchNode(keys.PublicKey{1}) || mine == SwitchNode(keys.PublicKey{2}) {
		t.Errorf("the node is %x, then %x, another's is %x", mine, SwitchNode(keys.PublicKey{1}), SwitchNode(keys.PublicKey{2}))
	}
}
