package pcapng

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// block is one block of a file.
type block struct {
	kind uint32
	body []byte
}

// blocks takes a file apart, and checks that both lengths of each block agree.
func blocks(t *testing.T, file []byte) (list []block) {
	t.Helper()
	le := binary.LittleEndian
	for len(file) > 0 {
		n := int(le.Uint32(file[4:]))
		if n%4 != 0 || n > len(file) || int(le.Uint32(file[n-4:])) != n {
			t.Fatalf("block of %d bytes in %d", n, len(file))
		}
		list = append(list, block{le.Uint32(file), file[8 : n-4]})
		file = file[n:]
	}
	return list
}

func TestWriter_packetsAreReadBack(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	w, err := New(&file, Section{Application: "tund 1", Comment: "office"}, []Interface{
		{Name: "office", SnapLength: 100, Filter: "tcp"}, {Name: "lan0", Ethernet: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1700000000, 123456789)
	comment := "from peer zürich, dropped: foreign-source"
	for n := range 9 {
		err := w.Packet(&Packet{Interface: n % 2, Time: at, Data: []byte("packets!!")[:n], Length: 1400 * (n % 2), Direction: Inbound, Comment: comment[:len(comment)-n]})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Secrets(WireGuardKeys, []byte("K = x\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Statistics(1, at, at, 20, 11); err != nil {
		t.Fatal(err)
	}
	before := w.Size()
	if err := w.Flush(); err != nil || before != int64(file.Len()) {
		t.Errorf("size %d of %d, %v", before, file.Len(), err)
	}

	r, err := pcapgo.NewNgReader(bytes.NewReader(file.Bytes()), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 9 {
		data, info, err := r.ReadPacketData()
		if err != nil || string(data) != "packets!!"[:n] || info.Length != max(n, 1400*(n%2)) || info.InterfaceIndex != n%2 || !info.Timestamp.Equal(at) {
			t.Errorf("packet %d: %q %+v, %v", n, data, info, err)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	one, err := r.Interface(1)
	if err != nil || one.Name != "lan0" || one.LinkType != layers.LinkTypeEthernet || one.Statistics.PacketsDropped != 11 || one.Statistics.PacketsReceived != 20 {
		t.Errorf("interface %+v, %v", one, err)
	}
	comments, secrets := 0, 0
	for _, b := range blocks(t, file.Bytes()) {
		switch b.kind {
		case blockPacket:
			if options := b.body[20+padded(int(binary.LittleEndian.Uint32(b.body[12:]))):]; !bytes.HasPrefix(options, []byte{optionComment, 0, byte(len(comment) - comments), 0, 'f', 'r', 'o', 'm'}) ||
				!bytes.HasSuffix(options, []byte{optionFlags, 0, 4, 0, byte(Inbound), 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("options of packet %d: %q", comments, options)
			}
			comments++
		case blockSecrets:
			secrets++
			if !bytes.HasPrefix(b.body, []byte("LKGW\x06\x00\x00\x00K = x\n\x00\x00")) {
				t.Errorf("secrets %q", b.body)
			}
		}
	}
	if comments != 9 || secrets != 1 {
		t.Errorf("%d comments, %d secrets", comments, secrets)
	}
}

func TestWriter_commentIsBounded(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	w, err := New(&file, Section{}, []Interface{{Name: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Packet(&Packet{Comment: strings.Repeat("x", 100_000)}); err != nil {
		t.Fatal(err)
	}
	_ = w.Flush()
	if list := blocks(t, file.Bytes()); len(list[len(list)-1].body) > maxComment+64 {
		t.Errorf("a block of %d bytes", len(list[len(list)-1].body))
	}
}
