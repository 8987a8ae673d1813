//go:build race

package e2e

// raceDetector says that everything runs under the race detector: slower, and larger.
const raceDetector = true
