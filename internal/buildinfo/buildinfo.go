// Package buildinfo returns the version of the running program, as recorded by the build. It knows
// nothing of releases or compatibility.
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
