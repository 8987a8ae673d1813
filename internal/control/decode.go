package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"tund/internal/names"
)

// maxVLAN is the greatest VLAN id; 0 stands for untagged, 4095 is reserved (IEEE 802.1Q).
const maxVLAN = 4094

// maxPortName bounds a port's name in a request: peers and devices have far shorter ones.
const maxPortName = 256

// decode reads exactly one JSON value without unknown fields: a misspelt filter must not flush everything.
func decode(r io.Reader, into any) error {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", maxBody)}
		case errors.Is(err, io.EOF):
			return invalid("request has no body (want a JSON object)")
		}
		return invalid("request body: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid("request body holds more than one JSON value")
	}
	return nil
}

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

func checkVLAN(vlan int) error {
	if vlan < 0 || vlan > maxVLAN {
		return invalid("vlan %d is not between 0 (untagged) and %d", vlan, maxVLAN)
	}
	return nil
}

// CanonicalMAC checks that text is the MAC address of one station and returns it in lower case with colons.
func CanonicalMAC(text string) (string, error) {
	mac, err := names.Station(text)
	if err != nil {
		return "", fmt.Errorf("%q %w", clip(text, 40), err)
	}
	return net.HardwareAddr(mac[:]).String(), nil
}
