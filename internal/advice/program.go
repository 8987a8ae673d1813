package advice

import (
	"fmt"
	"os"

	"tund/config"
	"tund/internal/statusview"
)

// Program is the file that this process was started from. An upgrade puts another file in its
// place, and the process goes on with the old one until it is restarted.
type Program struct {
	path    string
	started os.FileInfo // nil: not known
}

// OwnProgram returns the file of this process.
func OwnProgram() Program {
	path, err := os.Executable()
	if err != nil {
		return Program{}
	}
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return Program{}
	}
	return Program{path, info}
}

// replaced reports whether another file is in its place now.
func (p *Program) replaced() bool {
	if p.started == nil {
		return false
	}
	info, err := os.Stat(p.path)
	return err == nil && !os.SameFile(info, p.started)
}

// checkProgram notes that another version is installed than the one that runs.
func (a *Adviser) checkProgram(c *config.Config) {
	if !a.Program.replaced() {
		a.Problems.Solved(statusview.KindProgram, "")
		return
	}
	a.Problems.Note(statusview.KindProgram, "", fmt.Sprintf("%s was replaced after this process (version %s) was started from it: "+
		"`systemctl restart tund@%s` runs the installed one, and loses no packet", a.Program.path, a.Version, c.Instance))
}
