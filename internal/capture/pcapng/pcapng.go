// Package pcapng writes packets to files that Wireshark and its tools read, with what pcapgo cannot
// write: comments and directions of packets, and secrets.
//
// Sections, interfaces and statistics are written by github.com/google/gopacket/pcapgo; this
// package adds the Enhanced Packet Block with its options and the Decryption Secrets Block
// (draft-ietf-opsawg-pcapng, §4.3 and §4.7). It writes a single section in little endian with
// timestamps in nanoseconds, reads nothing, and decides nothing about packets. A Writer belongs to
// one goroutine.
package pcapng

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Blocks and options, by their codes in the draft.
const (
	blockPacket  = 0x00000006
	blockSecrets = 0x0000000a

	optionEnd     = 0
	optionComment = 1
	optionFlags   = 2 // epb_flags
)

// Direction of a packet, as in epb_flags.
type Direction uint32

// The directions.
const (
	Inbound  Direction = 1
	Outbound Direction = 2
)

// WireGuardKeys is the type of secrets that are the lines of a WireGuard key log ("WGKL").
const WireGuardKeys = 0x57474b4c

// maxComment bounds a comment, in bytes; the length of an option has 16 bits.
const maxComment = 1000

// Section describes the file.
type Section struct {
	Application string // what wrote it
	Comment     string
}

// Interface describes one source of packets.
type Interface struct {
	Name        string
	Description string
	Ethernet    bool // otherwise packets begin with their IP header (LINKTYPE_RAW)
	SnapLength  int  // bytes
	Filter      string
}

// Writer writes one file.
type Writer struct {
	out  *bufio.Writer
	size *counter
	ng   *pcapgo.NgWriter
	head []byte
}

// counter counts what reaches the output.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// bufferSize is how much is gathered for one write, in bytes.
const bufferSize = 256 << 10

// New writes the beginning of a file with at least one interface. What it writes reaches out with
// Flush at the latest.
func New(out io.Writer, s Section, interfaces []Interface) (*Writer, error) {
	size := &counter{w: out}
	w := &Writer{out: bufio.NewWriterSize(size, bufferSize), size: size}
	options := pcapgo.DefaultNgWriterOptions
	options.SectionInfo.Application, options.SectionInfo.Comment = s.Application, s.Comment
	for i := range interfaces {
		one := ngInterface(&interfaces[i])
		var err error
		if i == 0 {
			w.ng, err = pcapgo.NewNgWriterInterface(w.out, one, options)
		} else {
			_, err = w.ng.AddInterface(one)
		}
		if err != nil {
			return nil, err
		}
	}
	return w, w.ng.Flush()
}

func ngInterface(i *Interface) pcapgo.NgInterface {
	one := pcapgo.DefaultNgInterface
	one.Name, one.Description, one.Filter = i.Name, i.Description, i.Filter
	one.SnapLength, one.LinkType = uint32(i.SnapLength), layers.LinkTypeRaw
	if i.Ethernet {
		one.LinkType = layers.LinkTypeEthernet
	}
	return one
}

// Packet is one packet of a file.
type Packet struct {
	Interface int // index in the list given to New
	Time      time.Time
	Data      []byte // borrowed for the call
	Length    int    // bytes before it was cut to the snap length
	Direction Direction
	Comment   string // shortened if it is long; "": none
}

// Packet writes a packet.
func (w *Writer) Packet(p *Packet) error {
	comment := p.Comment[:min(len(p.Comment), maxComment)]
	const fixed, flags, trailer = 28, 8, 4
	options := flags + 4
	if comment != "" {
		options += 4 + padded(len(comment))
	}
	total := fixed + padded(len(p.Data)) + options + trailer
	le, ts := binary.LittleEndian, uint64(p.Time.UnixNano())
	b := w.head[:0]
	b = le.AppendUint32(b, blockPacket)
	b = le.AppendUint32(b, uint32(total))
	b = le.AppendUint32(b, uint32(p.Interface))
	b = le.AppendUint32(b, uint32(ts>>32))
	b = le.AppendUint32(b, uint32(ts))
	b = le.AppendUint32(b, uint32(len(p.Data)))
	b = le.AppendUint32(b, uint32(max(p.Length, len(p.Data))))
	if err := w.write(b, p.Data); err != nil {
		return err
	}
	b = b[:padded(len(p.Data))-len(p.Data)]
	clear(b)
	if comment != "" {
		b = appendOption(b, optionComment, comment)
	}
	b = le.AppendUint16(b, optionFlags)
	b = le.AppendUint16(b, 4)
	b = le.AppendUint32(b, uint32(p.Direction))
	b = le.AppendUint32(b, optionEnd)
	b = le.AppendUint32(b, uint32(total))
	w.head = b
	return w.write(b, nil)
}

// appendOption appends an option with its padding.
func appendOption(b []byte, code uint16, text string) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	return append(b, 0, 0, 0)[:len(b)+padded(len(text))-len(text)]
}

// padded returns n rounded up to whole words of 32 bits.
func padded(n int) int { return (n + 3) &^ 3 }

// Secrets writes secrets, which have to come before the packets that are decrypted with them.
func (w *Writer) Secrets(kind uint32, secrets []byte) error {
	const fixed = 16
	total := uint32(fixed + padded(len(secrets)) + 4)
	le := binary.LittleEndian
	b := le.AppendUint32(nil, blockSecrets)
	b = le.AppendUint32(b, total)
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, uint32(len(secrets)))
	b = append(b, secrets...)
	b = append(b, make([]byte, padded(len(secrets))-len(secrets))...)
	b = le.AppendUint32(b, total)
	return w.write(b, nil)
}

// Statistics writes what became of the packets of one interface between two times: how many were
// received, and how many of these are missing in the file.
func (w *Writer) Statistics(index int, start, end time.Time, received, missing uint64) error {
	err := w.ng.WriteInterfaceStats(index, pcapgo.NgInterfaceStatistics{
		LastUpdate: end, StartTime: start, EndTime: end, PacketsReceived: received, PacketsDropped: missing,
	})
	if err != nil {
		return fmt.Errorf("statistics: %w", err)
	}
	return w.ng.Flush()
}

// Flush passes on what was gathered.
func (w *Writer) Flush() error { return w.out.Flush() }

// Size returns the number of bytes written so far, gathered ones included.
func (w *Writer) Size() int64 { return w.size.n + int64(w.out.Buffered()) }

func (w *Writer) write(first, second []byte) error {
	if _, err := w.out.Write(first); err != nil {
		return err
	}
	_, err := w.out.Write(second)
	return err
}
