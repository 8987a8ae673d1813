package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxEpoch bounds the name of an epoch in bytes.
const maxEpoch = 64

// sourceReader reads the body of a change of a source as a stream: no more than one element is in
// memory at a time.
type sourceReader struct {
	json   *json.Decoder
	body   *elements // what json reads
	whole  bool
	change SourceChange
	head   SourceHead
	seen   map[string]bool
}

// maxElement bounds one element of a list in bytes: a peer with a hundred thousand allowed IPs. An
// element is decoded as a whole, and then takes many times as much memory.
const maxElement = 4 << 20

// elements bounds how much of a body is read for one of its elements.
type elements struct {
	io.Reader
	left int // bytes that may still be read for this one
}

// Read implements io.Reader.
func (e *elements) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("request body has an element of more than %d bytes", maxElement)}
	}
	n, err := e.Reader.Read(b[:min(len(b), e.left)])
	e.left -= n
	return n, err
}

// decodeSource reads a change and hands its elements over as they come.
func decodeSource(r io.Reader, whole bool, change SourceChange) (SourceHead, error) {
	body := &elements{r, maxElement}
	d := &sourceReader{json: json.NewDecoder(body), body: body, whole: whole, change: change, seen: make(map[string]bool)}
	d.json.DisallowUnknownFields()
	if err := d.object("the request", d.member); err != nil {
		return SourceHead{}, d.explain(err)
	}
	if _, err := d.json.Token(); !errors.Is(err, io.EOF) {
		return SourceHead{}, d.explain(errors.Join(invalid("request body holds more than one JSON value"), err))
	}
	required := []string{"epoch", "generation"}
	if !whole {
		required = append(required, "if_generation")
	} else {
		// A whole state without peers is a mistake, and no empty state.
		required = append(required, "peers")
	}
	for _, key := range required {
		if !d.seen[key] {
			return SourceHead{}, invalid("%q is missing", key)
		}
	}
	d.head.Hosts, d.head.Neighbors = d.seen["fdb"], d.seen["neighbors"]
	return d.head, nil
}

// explain gives an error the code that clients expect.
func (d *sourceReader) explain(err error) error {
	var tooLarge *http.MaxBytesError
	var own *Error
	switch {
	case errors.As(err, &tooLarge):
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", tooLarge.Limit)}
	case errors.As(err, &own):
		return own
	case errors.Is(err, io.EOF):
		return invalid("request body ends early (want a JSON object)")
	}
	return invalid("request body: %v", err)
}

// object reads an object and calls member for each of its keys, at the value.
func (d *sourceReader) object(what string, member func(key string) error) error {
	if err := d.delim(what, '{'); err != nil {
		return err
	}
	for d.json.More() {
		token, err := d.json.Token()
		if err != nil {
			return err
		}
		if err := member(token.(string)); err != nil { // a key is always a string
			return err
		}
	}
	_, err := d.json.Token()
	return err
}

// array reads an array and calls element for each element, at the value.
func (d *sourceReader) array(what string, element func() error) error {
	if err := d.delim(what, '['); err != nil {
		return err
	}
	for d.json.More() {
		d.body.left = maxElement
		if err := element(); err != nil {
			return err
		}
	}
	_, err := d.json.Token()
	return err
}

func (d *sourceReader) delim(what string, want json.Delim) error {
	token, err := d.json.Token()
	if err != nil {
		return err
	}
	if token != want {
		kind := "an object"
		if want == '[' {
			kind = "a list"
		}
		return invalid("%s: want %s", what, kind)
	}
	return nil
}

// member reads what stands at a key of the request.
func (d *sourceReader) member(key string) error {
	if d.seen[key] {
		return invalid("%q is given twice", clip(key, 32))
	}
	d.seen[key] = true
	switch {
	case key == "epoch":
		if err := d.json.Decode(&d.head.Epoch); err != nil {
			return err
		}
		if len(d.head.Epoch) > maxEpoch {
			return invalid("epoch is longer than %d bytes", maxEpoch)
		}
		return nil
	case key == "generation":
		return d.json.Decode(&d.head.Generation)
	case key == "if_generation" && !d.whole:
		return d.json.Decode(&d.head.IfGeneration)
	case key == "hold_s" && d.whole:
		return d.hold()
	case key == "peers", key == "fdb", key == "neighbors":
		set, remove := d.elements(key)
		if d.whole {
			return d.array(key, set)
		}
		return d.object(key, func(part string) error { return d.part(key, part, set, remove) })
	}
	return invalid("unknown key %q", clip(key, 32))
}

// maxHold is the longest that an agent may be silent without losing what it has handed in, if that
// is to be lost at all: a week, in seconds.
const maxHold = 7 * 24 * 3600

// hold reads for how long what the agent hands in stays when it falls silent.
func (d *sourceReader) hold() error {
	var seconds float64
	if err := d.json.Decode(&seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > maxHold {
		return invalid("hold_s %v is not between 0 (no limit) and %d seconds", seconds, maxHold)
	}
	d.head.Hold = time.Duration(seconds * float64(time.Second))
	return nil
}

// elements returns what reads an element of a list, and what reads one that is to be removed.
func (d *sourceReader) elements(list string) (set, remove func() error) {
	switch list {
	case "fdb":
		return element(d, d.change.Host), element(d, d.change.RemoveHost)
	case "neighbors":
		return element(d, d.change.Neighbor), element(d, d.change.RemoveNeighbor)
	}
	return d.peer, element(d, d.change.Remove)
}

// element returns what reads a value and hands it over.
func element[T any](d *sourceReader, take func(T)) func() error {
	return func() error {
		var value T
		if err := d.json.Decode(&value); err != nil {
			return err
		}
		take(value)
		return nil
	}
}

// part reads one of the lists of a change of some elements.
func (d *sourceReader) part(list, part string, set, remove func() error) error {
	name := list + "." + part
	if d.seen[name] {
		return invalid("%s: %q is given twice", list, clip(part, 32))
	}
	d.seen[name] = true
	switch part {
	case "set":
		return d.array(list+": set", set)
	case "remove":
		return d.array(list+": remove", remove)
	}
	return invalid("%s: unknown key %q", list, clip(part, 32))
}

// peer reads one peer. What is an object, and no peer, is for the change to refuse.
func (d *sourceReader) peer() error {
	var values map[string]any
	if err := d.json.Decode(&values); err != nil {
		return err
	}
	if values == nil {
		values = map[string]any{}
	}
	for key, value := range values {
		if whole, err := wholeNumbers(value); err == nil { // a fraction is a fault of the value
			values[key] = whole
		}
	}
	d.change.Peer(values)
	return nil
}
