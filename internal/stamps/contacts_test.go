package stamps

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tund/crypto/keys"
)

func contact(n byte, at string) Contact {
	return Contact{keys.PublicKey{n}, netip.MustParseAddrPort(at)}
}

func TestContacts_areReadBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, list, err := OpenContacts(dir)
	if err != nil || list != nil {
		t.Fatalf("%v, %v", list, err)
	}
	if n, err := c.Save(nil); n != 0 || err != nil {
		t.Errorf("nothing to save: %d bytes, %v", n, err)
	}
	want := []Contact{contact(1, "192.0.2.1:51820"), contact(2, "[2001:db8::1]:7")}
	if n, err := c.Save([]Contact{want[1], want[0]}); n == 0 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if n, err := c.Save(want); n != 0 || err != nil {
		t.Errorf("saved again without need: %d bytes, %v", n, err)
	}
	c, list, err = OpenContacts(dir)
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v, want %v", list, err, want)
	}
	if n, err := c.Save(nil); n == 0 || err != nil {
		t.Errorf("the last one has gone: %d bytes, %v", n, err)
	}
	if _, list, err := OpenContacts(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if info, err := os.Stat(filepath.Join(dir, contactsName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestContacts_damagedFileIsForgotten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, _, _ := OpenContacts(dir)
	if _, err := c.Save([]Contact{contact(1, "192.0.2.1:51820")}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, contactsName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		bad := slices.Clone(whole)
		bad[n] ^= 1
		if list, err := parseContacts(bad); err == nil {
			t.Fatalf("byte %d changed: %v", n, list)
		}
		if list, err := parseContacts(whole[:n]); err == nil {
			t.Fatalf("cut after %d bytes: %v", n, list)
		}
	}
	if err := os.WriteFile(path, whole[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	c, list, err := OpenContacts(dir)
	if err == nil || list != nil {
		t.Errorf("%v, %v", list, err)
	}
	if n, err := c.Save([]Contact{contact(1, "192.0.2.1:51820")}); n == 0 || err != nil {
		t.Errorf("not replaced: %d bytes, %v", n, err)
	}
}

func FuzzContacts(f *testing.F) {
	body := []byte(contactsHeader + keys.PublicKey{1}.String() + " 192.0.2.1:51820\n")
	f.Add(append(body, checksum(body)...))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = parseContacts(text)
		_, _ = parseContacts(append(text[:len(text):len(text)], checksum(text)...))
	})
}
