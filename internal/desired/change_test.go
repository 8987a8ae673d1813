package desired

import (
	"errors"
	"testing"

	"tund/config"
	"tund/internal/control"
)

// What a configuration could not say is refused as a fault of the configuration, so that `tunctl
// peer set` ends as it does with --save, and a peer that is not there as something else.
func TestWithChange_saysWhatIsWrong(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("office.toml", []byte(`[tunnel]
private_key = "oLiDbyHRlgE5GRGCwEdtPm2LxsrTBvxFLCcDIA3lE2I="
[tun]
[[peer]]
name = "berlin"
public_key = "pDVEWeZVJyU5sCi2gUmHsNLDAPtUN8brbKTrlSfDBVE="
[[peer]]
name = "oslo"
public_key = "DZnvG2kMiGLpV1RJmHKBtFOuzwpXbU2bQMkHQLZtYg8="
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		change control.PeerChange
		want   control.Code // "": none
	}{
		{control.PeerChange{Op: "set", Peer: "berlin", Values: map[string]any{"keepalive": int64(25)}}, ""},
		{control.PeerChange{Op: "set", Peer: "berlin", Values: map[string]any{"keepalive": int64(-1)}}, control.CodeConfig},
		{control.PeerChange{Op: "set", Peer: "berlin", Values: map[string]any{"name": "oslo"}}, control.CodeConfig},
		{control.PeerChange{Op: "set", Peer: "berlin", Values: map[string]any{"public_key": "x"}}, control.CodeConfig},
		{control.PeerChange{Op: "add", Values: map[string]any{"name": "rome", "public_key": "nonsense"}}, control.CodeConfig},
		{control.PeerChange{Op: "set", Peer: "rome", Values: map[string]any{"keepalive": int64(25)}}, control.CodeNotFound},
		{control.PeerChange{Op: "remove", Peer: "rome"}, control.CodeNotFound},
	} {
		_, _, err := WithChange(c, test.change)
		var refused *control.Error
		if got := errors.As(err, &refused); got != (test.want != "") || got && refused.Code != test.want {
			t.Errorf("%+v: %v, want code %q", test.change, err, test.want)
		}
	}
}
