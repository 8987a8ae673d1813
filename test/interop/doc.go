// Package interop holds tund's handshake against implementations that are not ours, message by
// message and without a network: flynn/noise for Noise_IKpsk2, wireguard-go for cookies. It has no
// code but tests, needs no root, and does not run programs: packages e2e and compat do.
package interop
