//go:build race

package testnet

// RaceDetector says that everything runs under the race detector: slower, and larger.
const RaceDetector = true
