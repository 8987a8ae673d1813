package stamps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"

	"tund/crypto/keys"
	"tund/internal/atomicfile"
)

const (
	contactsName   = "contacts"
	contactsHeader = "tund contacts 1\n"
)

// Contact is a peer that was tund and had a session, and where it was then.
type Contact struct {
	Peer     keys.PublicKey
	Endpoint netip.AddrPort
}

// Contacts keeps, beyond the lifetime of a process, which peers are to be asked for a session at
// the next start, in a file beside that of the timestamps. It belongs to one goroutine at a time.
type Contacts struct {
	path  string
	saved []byte // text of the file; nil: not known
	last  []Contact
}

// OpenContacts reads what an earlier process saved in dir, which Open has made. The Contacts are
// usable whatever the error, which explains why nothing is remembered.
func OpenContacts(dir string) (*Contacts, []Contact, error) {
	c := &Contacts{path: filepath.Join(dir, contactsName)}
	text, err := read(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil, nil
	}
	if err != nil {
		return c, nil, fmt.Errorf("read the peers of the last run: %w", err)
	}
	list, err := parseContacts(text)
	if err != nil {
		return c, nil, fmt.Errorf("read the peers of the last run: %s %w; it is replaced", c.path, err)
	}
	c.saved, c.last = text, list
	return c, list, nil
}

// parseContacts reads all lines of a file, or none: a header, lines with a key and an endpoint, and
// a checksum over everything before it.
func parseContacts(text []byte) ([]Contact, error) {
	body, sum, ok := cutSum(text)
	if !ok || !bytes.Equal(sum, checksum(body)) {
		return nil, errors.New("is damaged")
	}
	body, ok = bytes.CutPrefix(body, []byte(contactsHeader))
	if !ok {
		return nil, errors.New("is of another version")
	}
	var list []Contact
	for line := range bytes.Lines(body) {
		name, place, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		key, bad := keys.ParsePublic(string(name))
		at, err := netip.ParseAddrPort(string(place))
		if err != nil || bad != nil {
			return nil, fmt.Errorf("has an invalid line: %q", line)
		}
		list = append(list, Contact{key, at})
	}
	return list, nil
}

// Save writes the file if list says something else than it. It returns the number of bytes written.
func (c *Contacts) Save(list []Contact) (size int, err error) {
	if c.saved != nil && slices.Equal(list, c.last) {
		return 0, nil
	}
	c.last = slices.Clone(list)
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Contact) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	text := []byte(contactsHeader)
	for _, one := range list {
		text = fmt.Appendf(text, "%s %s\n", one.Peer, one.Endpoint)
	}
	text = append(text, checksum(text)...)
	if bytes.Equal(text, c.saved) || c.saved == nil && len(list) == 0 {
		return 0, nil
	}
	if err := atomicfile.Replace(c.path, text, 0o600); err != nil {
		c.last, c.saved = nil, nil
		return 0, fmt.Errorf("save the peers of this run: %w", err)
	}
	c.saved = text
	return len(text), nil
}
