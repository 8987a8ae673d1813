package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"tund/internal/names"
)

// maxVLAN is the greatest VLAN id; 0 stands for untagged, 4095 is reserved (IEEE 802.1Q).
const maxVLAN = 4094

// maxPortName bounds a port's name in a request: peers and devices have far shorter ones.
const maxPortName = 256

// decode reads exactly one JSON value without unknown fields: a misspelt filter must not flush
// everything.
func decode(r io.Reader, into any) error {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", maxBody)}
		case errors.Is(err, io.EOF):
			return errNoBody
		}
		return invalid("request body: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid("request body holds more than one JSON value")
	}
	return nil
}

// errNoBody is returned by decode for a request without a body.
var errNoBody = invalid("request has no body (want a JSON object)")

func invalid(format string, args ...any) error {
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf(format, args...)}
}

// decodeLogLevel reads the body of POST /v1/log-level.
func decodeLogLevel(r io.Reader) (logLevel, error) {
	var l logLevel
	if err := decode(r, &l); err != nil {
		return logLevel{}, err
	}
	if !ValidLogLevel(l.Level) {
		return logLevel{}, invalid("log level %q is not one of debug, info, warn, error", clip(l.Level, 20))
	}
	return l, nil
}

// reload is the body of POST /v1/reload, which may be left out.
type reload struct {
	ConfirmS float64 `json:"confirm_s,omitempty"` // 0: the new configuration stays
}

// Bounds of the time within which a reload is to be confirmed.
const (
	MinConfirm = time.Second
	MaxConfirm = 24 * time.Hour
)

// CheckConfirm refuses a time for the confirmation of a reload that is out of bounds.
func CheckConfirm(d time.Duration) error {
	if d < MinConfirm || d > MaxConfirm {
		return invalid("time for a confirmation %v: want %v to %v", d, MinConfirm, MaxConfirm)
	}
	return nil
}

// decodeReload reads the body of POST /v1/reload.
func decodeReload(r io.Reader) (confirm time.Duration, err error) {
	var body reload
	switch err := decode(r, &body); {
	case errors.Is(err, errNoBody), err == nil && body.ConfirmS == 0:
		return 0, nil
	case err != nil:
		return 0, err
	}
	confirm = time.Duration(min(max(body.ConfirmS, 0), 2*MaxConfirm.Seconds()) * float64(time.Second))
	return confirm, CheckConfirm(confirm)
}

// decodeFilter reads the body of POST /v1/fdb/flush, with the MAC in canonical form.
func decodeFilter(r io.Reader) (FDBFilter, error) {
	var f FDBFilter
	if err := decode(r, &f); err != nil {
		return FDBFilter{}, err
	}
	if f.MAC != "" {
		mac, err := CanonicalMAC(f.MAC)
		if err != nil {
			return FDBFilter{}, invalid("%v", err)
		}
		f.MAC = mac
	}
	if len(f.Port) > maxPortName {
		return FDBFilter{}, invalid("port name is longer than %d bytes", maxPortName)
	}
	if f.VLAN != nil {
		if err := checkVLAN(*f.VLAN); err != nil {
			return FDBFilter{}, err
		}
	}
	return f, nil
}

// decodePin reads the body of POST /v1/fdb/pin, with the MAC in canonical form.
func decodePin(r io.Reader) (FDBPin, error) {
	var p FDBPin
	if err := decode(r, &p); err != nil {
		return FDBPin{}, err
	}
	mac, err := CanonicalMAC(p.MAC)
	if err != nil {
		return FDBPin{}, invalid("%v", err)
	}
	p.MAC = mac
	if p.Port == "" {
		return FDBPin{}, invalid("pin needs a port: the name of a peer, or of the TAP device")
	}
	if len(p.Port) > maxPortName {
		return FDBPin{}, invalid("port name is longer than %d bytes", maxPortName)
	}
	if err := checkVLAN(p.VLAN); err != nil {
		return FDBPin{}, err
	}
	return p, nil
}

// decodePeerChange reads the body of POST /v1/peer, with numbers as int64. What the values may be
// is for the configuration to say.
func decodePeerChange(r io.Reader) (PeerChange, error) {
	var c PeerChange
	if err := decode(r, &c); err != nil {
		return PeerChange{}, err
	}
	switch {
	case c.Op != "add" && c.Op != "set" && c.Op != "remove":
		return PeerChange{}, invalid("op %q is not one of add, set, remove", clip(c.Op, 20))
	case c.Op == "add" && c.Peer != "":
		return PeerChange{}, invalid("add takes no peer: its name is one of the values")
	case c.Op != "add" && c.Peer == "":
		return PeerChange{}, invalid("%s needs a peer: its name or public key", c.Op)
	case c.Op == "remove" && len(c.Values) > 0:
		return PeerChange{}, invalid("remove takes no values")
	}
	for key, value := range c.Values {
		whole, err := wholeNumbers(value)
		if err != nil {
			return PeerChange{}, invalid("%s: %v", clip(key, 32), err)
		}
		c.Values[key] = whole
	}
	return c, nil
}

// wholeNumbers turns the numbers of JSON into those that a configuration has.
func wholeNumbers(value any) (any, error) {
	switch v := value.(type) {
	case float64:
		n := int64(v)
		if float64(n) != v {
			return nil, errors.New("is not a whole number")
		}
		return n, nil
	case []any:
		for i := range v {
			whole, err := wholeNumbers(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = whole
		}
	}
	return value, nil
}

// CheckVLAN returns why a number is none of a VLAN in a FDBFilter or FDBPin, where 0 stands for
// untagged frames.
func CheckVLAN(vlan int) error {
	if vlan < 0 || vlan > maxVLAN {
		return fmt.Errorf("%d is not between 0 (untagged) and %d", vlan, maxVLAN)
	}
	return nil
}

func checkVLAN(vlan int) error {
	if err := CheckVLAN(vlan); err != nil {
		return invalid("vlan %v", err)
	}
	return nil
}

// CanonicalMAC checks that text is the MAC address of one station and returns it in lower case with
// colons.
func CanonicalMAC(text string) (string, error) {
	mac, err := names.Station(text)
	if err != nil {
		return "", fmt.Errorf("%q %w", clip(text, 40), err)
	}
	return net.HardwareAddr(mac[:]).String(), nil
}
