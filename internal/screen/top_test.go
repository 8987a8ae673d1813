package screen

import (
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/live"
	"tund/internal/screen/screentest"
)

// Peers of several instances may have one name, so what tells them apart is left out last.
func TestTop_namesTheInstanceInEightyColumns(t *testing.T) {
	t.Parallel()
	var m live.Meter
	instances := []control.Instance{screentest.Office(), screentest.Lab()}
	for n := range 3 {
		m.Look(screentest.Noon().Add(time.Duration(n)*time.Second), instances)
	}
	top := Top{Instances: m.Instances, Peers: m.Peers, Selected: -1, Key: "traffic"}
	for width, want := range map[int]string{80: "INSTANCE", 120: "TRAFFIC"} {
		page := NewPage(Style{UTF8: true, Width: width}, screentest.Noon(), false)
		page.Top(&top)
		if text := page.String(); !strings.Contains(text, want) {
			t.Errorf("%d columns: no %s in\n%s", width, want, text)
		}
	}
}

func TestTop_saysThatNobodyFits(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]string{"": "\n  no peers\n", "oslo": "\n  no peer has \"oslo\" in its name\n"} {
		page := NewPage(Style{}, screentest.Noon(), false)
		page.Top(&Top{Selected: -1, Key: "traffic", Filter: filter})
		if text := page.String(); !strings.HasSuffix(text, want) {
			t.Errorf("%q: %q", filter, text)
		}
	}
}

// A column that says nothing gives way to one that would have to be shortened.
func TestTable_leavesOutWhatIsEmptyFirst(t *testing.T) {
	t.Parallel()
	instance := control.FDBInstance{Name: "office", Limit: 100, FDB: []control.FDBEntry{
		{MAC: "02:00:00:00:00:01", Port: "office-tap", Kind: "local", BridgePort: "office-tap", IPs: []string{"10.7.0.1"}},
		{MAC: "02:00:00:00:00:02", Port: "berlin", Kind: "learned", IPs: []string{"10.7.0.2"}},
	}}
	page := NewPage(Style{UTF8: true, Width: 80}, screentest.Noon(), false)
	page.FDB([]control.FDBInstance{instance})
	if text := page.String(); strings.Contains(text, "NOTE") || strings.Count(text, "office-tap") != 2 {
		t.Errorf("in 80 columns:\n%s", text)
	}
}
