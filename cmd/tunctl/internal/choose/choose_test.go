package choose

import (
	"errors"
	"strings"
	"testing"

	"tund/internal/control"
	"tund/internal/screen/screentest"
)

func TestPeer_choosesOne(t *testing.T) {
	t.Parallel()
	instances := []control.Instance{screentest.Office(), screentest.Lab()}
	for wanted, want := range map[string]string{
		"branch-oslo": "branch-oslo", "branch-o": "branch-oslo", "osloxxx": "branch-oslo", screentest.Key("ana"): "laptop-ana",
		"branch-": "fits 2 peers: branch-berlin, branch-oslo", "vmhost-3": `did you mean "vm-host-3"?`, "munich": "there is ",
	} {
		found, err := Peer(instances, wanted)
		var none *None
		switch {
		case err == nil:
			if len(found) != 1 || len(found[0].Peers) != 1 || found[0].Peers[0].Name != want {
				t.Errorf("%s: %+v", wanted, found)
			}
		case !strings.Contains(err.Error(), want) || errors.As(err, &none) == strings.Contains(want, "fits"):
			t.Errorf("%s: %v", wanted, err)
		}
	}
	same := screentest.Office()
	same.Name, same.Peers = "home", []control.Peer{{Name: "branch-oslo", PublicKey: screentest.Key("another")}}
	_, err := Peer([]control.Instance{instances[0], same}, "branch-oslo")
	if err == nil || !strings.Contains(err.Error(), "branch-oslo of home, branch-oslo of office (choose an instance with -i)") {
		t.Errorf("one name in two instances: %v", err)
	}
	if len(instances[0].Peers) != 4 {
		t.Error("what was given has changed")
	}
}
