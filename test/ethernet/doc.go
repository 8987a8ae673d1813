// Package ethernet runs whole instances of tund with [tap] in network namespaces and looks at the
// LANs that they join: what crosses, what does not, and what an attacker, a loop or a flood can do.
// It holds nothing but tests.
//
// The underlay of a test is one namespace with a bridge. A site is a namespace with a tund, a
// bridge "br0" and hosts behind it, each a namespace of its own. Attack frames come from hosts (raw
// sockets) and from peers that are not tund at all but a handshake and a session made of package
// crypto, which says whatever a test wants.
//
// The tests need root (testnet.Require). TUND_TEST_SOAK=1 runs the heavy ones too. TUND_TEST_BIN
// names a tund to test instead of one built from this checkout. Tests run beside each other, those
// that want the processor to themselves one after another.
package ethernet
