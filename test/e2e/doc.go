// Package e2e runs the real programs in network namespaces and looks at them from outside: packets,
// processes, files, logs and the kernel's tables. It holds nothing but tests.
//
// It shows what only whole processes can show: that two gateways carry traffic over both families,
// that other implementations of WireGuard are peers, that starts and stops leave nothing behind,
// that noise from the network is dropped in silence and counted, and that what a host does to its
// network does not end a tunnel. What a package can show alone is tested there. Layer 2 has its own
// tests.
//
// The tests need root (testnet.Require). TUND_TEST_SOAK=1 runs the long variants too. TUND_TEST_BIN
// names a tund to test instead of one built from this checkout. Tests run beside each other, those
// that want the processor to themselves one after another.
package e2e
