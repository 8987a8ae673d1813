//go:build race

package ethernet

// raceDetector says that everything runs under the race detector: slower, and larger.
const raceDetector = true
