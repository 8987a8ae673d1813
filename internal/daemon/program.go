package daemon

import (
	"fmt"
	"os"

	"tund/internal/statusview"
)

// program is the file that this process was started from. An upgrade puts another file in its
// place, and the process goes on with the old one until it is restarted.
type program struct {
	path    string
	started os.FileInfo // nil: not known
}

// ownProgram returns the file of this process.
func ownProgram() program {
	path, err := os.Executable()
	if err != nil {
		return program{}
	}
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return program{}
	}
	return program{path, info}
}

// replaced reports whether another file is in its place now.
func (p *program) replaced() bool {
	if p.started == nil {
		return false
	}
	info, err := os.Stat(p.path)
	return err == nil && !os.SameFile(info, p.started)
}

// checkProgram notes that another version is installed than the one that runs.
func (d *Daemon) checkProgram() {
	if !d.program.replaced() {
		d.problems.Solved(statusview.KindProgram, "")
		return
	}
	d.problems.Note(statusview.KindProgram, "", fmt.Sprintf("%s was replaced after this process (version %s) was started from it: "+
		"`systemctl restart tund@%s` runs the installed one, and loses no packet", d.program.path, d.process.Version, d.instance()))
}
