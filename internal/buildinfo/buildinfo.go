// Package buildinfo says which version of the programs is running. It knows what the build
// recorded, and nothing of releases or compatibility.
package buildinfo

import "runtime/debug"

// Version returns stamped, which the build writes into a program (-ldflags -X main.version=…).
// Where a build did not, as `go install module@version` does not, it returns the version of the
// main module, or "unknown".
func Version(stamped string) string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
