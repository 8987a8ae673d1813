// Package compat shows that tund is at home among WireGuard's tools: Debian's wg and wg-quick, the
// library wgctrl, WireGuard's own tests, and the properties of the kernel's self-test. It holds
// nothing but tests.
//
// Where wireguard-go can do the same, it is asked the same, and the answers are compared.
// Everything runs with a /var/run/wireguard of its own, in a mount namespace of the test process,
// so that it sees no other device and disturbs none.
//
// The tests need root (testnet.Require). TUND_TEST_SOAK=1 runs those of other projects too, which
// take minutes. TUND_TEST_BIN names a tund to test instead of one built from this checkout.
package compat
