package view

import "testing"

// An empty value is no document, also where there is none yet: a store that shows one first does
// not keep out what signers and sites have signed.
func TestView_emptyValuesAreRefused(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 2)
	key := "site/" + siteOf(1).ID() + "/rec"
	signed := n.values[key]
	n.values["crl"], n.values[key] = []byte{}, []byte{}
	v := New(Options{Trust: trust, Self: siteOf(0)})
	if err := v.List(n.values, noon); err == nil || v.Refused()[BadValue] != 2 {
		t.Errorf("%v, refused: %v", err, v.Refused())
	}
	n.values[key] = signed
	n.revoke(0, 1)
	if err := v.List(n.values, noon); err != nil {
		t.Error(err)
	}
	if names := peerNames(v.Decide(noon)); names != "" {
		t.Errorf("the site that was revoked is a peer: %q", names)
	}
}
