package fdbverbs

import (
	"errors"
	"fmt"
	"testing"

	"tund/internal/control"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// table notes what it is asked, and fails with err.
type table struct {
	asked string
	err   error
}

func (t *table) FlushFDB(f l2.Filter, port string) (int, error) {
	t.asked = fmt.Sprintf("flush port %q static %v", port, f.Static)
	if f.MAC != nil {
		t.asked += fmt.Sprintf(" mac %v", *f.MAC)
	}
	if f.VLAN != nil {
		t.asked += fmt.Sprintf(" vlan %d", *f.VLAN)
	}
	return 3, t.err
}

func (t *table) PinFDB(vlan uint16, mac l2.MAC, port string) error {
	t.asked = fmt.Sprintf("pin %v vlan %d port %q", mac, vlan, port)
	return t.err
}

func TestFlush_asksForWhatIsNamed(t *testing.T) {
	t.Parallel()
	vlan := 7
	for _, test := range []struct {
		filter control.FDBFilter
		want   string
	}{
		{control.FDBFilter{}, `flush port "" static false`},
		{control.FDBFilter{Port: "paris", Static: true}, `flush port "paris" static true`},
		{control.FDBFilter{MAC: "02:00:00:00:00:01", VLAN: &vlan}, `flush port "" static false mac 02:00:00:00:00:01 vlan 7`},
	} {
		s := &table{}
		if n, err := Flush(s, test.filter); n != 3 || err != nil || s.asked != test.want {
			t.Errorf("%+v: asked %q, %d, %v, want %q", test.filter, s.asked, n, err, test.want)
		}
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	s := &table{}
	err := Pin(s, control.FDBPin{MAC: "02-00-00-00-00-01", VLAN: 7, Port: "paris"})
	if want := `pin 02:00:00:00:00:01 vlan 7 port "paris"`; err != nil || s.asked != want {
		t.Errorf("asked %q, %v, want %q", s.asked, err, want)
	}
}

func TestErrors_haveTheCodesOfTheAPI(t *testing.T) {
	t.Parallel()
	const mac = "02:00:00:00:00:01"
	for _, test := range []struct {
		mac  string
		err  error
		code control.Code
	}{
		{mac, tunnel.ErrNoEthernet, control.CodeUnsupported},
		{mac, fmt.Errorf("x: %w", l2.ErrNoPort), control.CodeNotFound},
		{mac, errors.New("other"), control.CodeInvalid},
		{"03:00:00:00:00:01", nil, control.CodeInvalid}, // a group
		{"nonsense", nil, control.CodeInvalid},
	} {
		s := &table{err: test.err}
		_, flush := Flush(s, control.FDBFilter{MAC: test.mac, Port: "paris"})
		for _, err := range []error{flush, Pin(s, control.FDBPin{MAC: test.mac, Port: "paris"})} {
			var coded *control.Error
			if !errors.As(err, &coded) || coded.Code != test.code {
				t.Errorf("%s, %v: %v, want code %s", test.mac, test.err, err, test.code)
			}
		}
	}
}
