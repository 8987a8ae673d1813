// Package capture turns what a daemon sends of the packets it carries (internal/capture/stream)
// into a file for Wireshark (internal/capture/pcapng): it puts the packets of all lanes in order,
// names peers and directions, says why what was dropped was dropped, and ends at a limit.
//
// It looks into no packet, so that nothing that peers send can mislead it. It contacts no daemon
// and opens no file. Save belongs to one goroutine.
package capture

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"tund/internal/capture/pcapng"
	"tund/internal/capture/stream"
)

const (
	// gatherBytes and gatherFor are how much is put in order at a time: enough that little has to
	// wait for its predecessors twice, and soon enough for people who watch.
	gatherBytes = 1 << 20
	gatherFor   = 50 * time.Millisecond
	// maxLag is how old the newest counters may be that are still called complete: the daemon sends
	// some at least each second.
	maxLag = 1500 * time.Millisecond
	// maxHeld bounds the packets that wait for their predecessors, in bytes. The rings of a daemon
	// hold less.
	maxHeld = 1 << 30
)

// Limits end a capture. Zero: there is no such limit.
type Limits struct {
	Packets int64
	Bytes   int64 // of the file
}

// Output is where a capture goes.
type Output struct {
	Packets io.Writer // pcapng
	// Keys gets the lines of a WireGuard key log; nil: they go into Packets.
	Keys io.Writer
}

// Summary says what became of a capture.
type Summary struct {
	Packets int64  // written
	Lost    uint64 // taken by the filter, but nobody read them in time
	// Behind: the capture was ended here while much had not been read yet, so that more may be
	// lost.
	Behind bool
	// Why the capture ended, if not by a limit or because the reader was closed: in words.
	Ended string
	Limit string // the limit that was reached, in words
}

// ErrOutput is wrapped by the errors of Output.
var ErrOutput = errors.New("write packets")

// saver is the state of Save.
type saver struct {
	in     *stream.Reader
	to     Output
	limits Limits
	file   *pcapng.Writer
	start  stream.Start
	began  time.Time // when the first mark came
	mark   stream.Mark
	peers  map[slot]string

	held  []item
	bytes []byte // of those
	spare []byte
	last  time.Time // when they were last put in order

	done Summary
}

// slot is how a record names a peer.
type slot struct {
	ring   uint8
	number uint16
}

// item is a record that waits for its predecessors.
type item struct {
	stream.Header
	at   int // of its payload
	peer string
}

// Save copies a capture from a daemon to files, until it ends, a limit is reached, or reading or
// writing fails. An error of in after its first record is no error of Save if stopped returns true:
// the caller has closed it.
func Save(in io.Reader, to Output, limits Limits, stopped func() bool) (Summary, error) {
	s := &saver{in: stream.NewReader(in), to: to, limits: limits, peers: make(map[slot]string), last: time.Now()}
	err := s.begin()
	for err == nil {
		err = s.next()
	}
	cut := err != errEnded && err != errLimit
	if s.file == nil || errors.Is(err, ErrOutput) {
		return s.done, err
	}
	s.done.Behind = cut && time.Since(s.wall(s.mark.Until)) > maxLag
	if cut && !stopped() {
		s.done.Ended = "the connection to the daemon broke: " + err.Error()
	}
	if err == errLimit {
		return s.done, s.finish()
	}
	if err := s.release(true); err != nil && err != errLimit {
		return s.done, err
	}
	return s.done, s.finish()
}

// Why Save ends without an error.
var (
	errEnded = errors.New("capture ended")
	errLimit = errors.New("limit reached")
)

// begin reads the first record and writes the beginning of the file.
func (s *saver) begin() error {
	h, payload, err := s.in.Next()
	if err != nil {
		return err
	}
	if h.Kind != stream.KindStart || json.Unmarshal(payload, &s.start) != nil || s.start.Schema != stream.Schema || len(s.start.Interfaces) == 0 {
		return fmt.Errorf("the daemon sends packets in a format that this tunctl does not understand (expected %s): "+
			"are tund and tunctl of the same version?", stream.Schema)
	}
	s.mark.Offset = s.start.Offset
	interfaces := make([]pcapng.Interface, len(s.start.Interfaces))
	for n, i := range s.start.Interfaces {
		interfaces[n] = pcapng.Interface{Name: i.Name, SnapLength: s.start.SnapLength, Filter: s.start.Filter, Ethernet: i.Kind == stream.KindTAP}
		switch i.Kind {
		case stream.KindTUN:
			interfaces[n].Description = "packets inside the tunnel"
		case stream.KindTAP:
			interfaces[n].Description = "frames inside the tunnel"
		case stream.KindOuter:
			interfaces[n].Description = "datagrams that carry the tunnel"
		}
	}
	section := pcapng.Section{Application: "tund " + s.start.Version, Comment: "tund instance " + s.start.Instance}
	if s.file, err = pcapng.New(s.to.Packets, section, interfaces); err == nil {
		err = s.file.Flush()
	}
	return output(err)
}

// output marks an error as one of writing.
func output(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrOutput, err)
}

// next handles one record.
func (s *saver) next() error {
	h, payload, err := s.in.Next()
	if err != nil {
		return err
	}
	switch h.Kind {
	case stream.KindPeer:
		if key, name, ok := stream.ParsePeer(payload); ok {
			s.peers[slot{h.Ring, h.Peer}] = cmp.Or(name, base64.StdEncoding.EncodeToString(key[:6])+"…")
		}
	case stream.KindPacket, stream.KindSecret:
		s.held = append(s.held, item{Header: h, at: len(s.bytes), peer: s.peers[slot{h.Ring, h.Peer}]})
		s.bytes = append(s.bytes, payload...)
		if len(s.bytes) > maxHeld {
			return s.release(true)
		}
	case stream.KindMark:
		if err := json.Unmarshal(payload, &s.mark); err != nil {
			return fmt.Errorf("mark: %w", err)
		}
		if s.began.IsZero() {
			s.began = s.wall(s.mark.Until)
		}
		if now := time.Now(); len(s.bytes) >= gatherBytes || now.Sub(s.last) >= gatherFor {
			s.last = now
			return s.release(false)
		}
	case stream.KindEnd:
		s.done.Ended = string(payload)
		return errEnded
	}
	return nil
}

// wall returns the time of day at a time of the daemon's clock.
func (s *saver) wall(t int64) time.Time { return time.Unix(0, t+s.mark.Offset) }

// release writes what has no predecessors outstanding, or everything, in order of time. Keys come
// before the packets of the same time, which may need them.
func (s *saver) release(all bool) error {
	slices.SortStableFunc(s.held, func(a, b item) int {
		if c := cmp.Compare(a.Time, b.Time); c != 0 || a.Kind == b.Kind {
			return c
		}
		return cmp.Compare(b.Kind, a.Kind) // KindSecret is the greater
	})
	n := len(s.held)
	if !all {
		n, _ = slices.BinarySearchFunc(s.held, s.mark.Until, func(i item, until int64) int { return cmp.Compare(i.Time, until) })
	}
	for i := range s.held[:n] {
		if err := s.write(&s.held[i]); err != nil {
			return err
		}
	}
	rest := s.spare[:0]
	kept := s.held[:0]
	for _, i := range s.held[n:] {
		payload := s.bytes[i.at : i.at+int(i.Payload)]
		i.at = len(rest)
		rest = append(rest, payload...)
		kept = append(kept, i)
	}
	s.held, s.bytes, s.spare = kept, rest, s.bytes
	return output(s.file.Flush())
}

// write writes one packet, or keys.
func (s *saver) write(i *item) error {
	payload := s.bytes[i.at : i.at+int(i.Payload)]
	if i.Kind == stream.KindSecret {
		return s.writeKeys(payload)
	}
	if int(i.Interface) >= len(s.start.Interfaces) {
		return nil
	}
	p := pcapng.Packet{
		Interface: int(i.Interface), Time: s.wall(i.Time), Data: payload, Length: int(i.Length), Direction: pcapng.Outbound,
		Comment: s.comment(i),
	}
	if i.Flags&stream.In != 0 {
		p.Direction = pcapng.Inbound
	}
	if err := s.room(len(payload) + len(p.Comment)); err != nil {
		return err
	}
	if err := s.file.Packet(&p); err != nil {
		return output(err)
	}
	if s.done.Packets++; s.done.Packets == s.limits.Packets {
		s.done.Limit = "the number of packets is reached"
		return errLimit
	}
	return nil
}

// room returns errLimit if n further bytes would make the file larger than it may be.
func (s *saver) room(n int) error {
	if s.limits.Bytes > 0 && s.file.Size()+int64(n+overhead) > s.limits.Bytes {
		s.done.Limit = "the file has reached its size"
		return errLimit
	}
	return nil
}

// overhead is the most that a packet takes in a file beside its bytes and its comment, and what the
// statistics at the end take.
const overhead = 64 + 3*80

// comment says of a packet what is not in it.
func (s *saver) comment(i *item) string {
	text := ""
	switch {
	case i.peer == "":
	case i.Flags&stream.In != 0:
		text = "from peer " + i.peer
	default:
		text = "to peer " + i.peer
	}
	add := func(more string) {
		if text != "" {
			text += ", "
		}
		text += more
	}
	if i.Reason != 0 {
		name := fmt.Sprintf("reason %d", i.Reason)
		if int(i.Reason) < len(s.start.Reasons) {
			name = s.start.Reasons[i.Reason]
		}
		add("dropped: " + name)
	}
	if i.Flags&stream.Waits != 0 {
		add("waits for a session")
	}
	if i.Segments > 1 {
		add(fmt.Sprintf("%d segments", i.Segments))
	}
	return text
}

// writeKeys writes the keys of a handshake, as the lines that Wireshark reads
// (epan/dissectors/packet-wireguard.c, wg.keylog_file).
func (s *saver) writeKeys(payload []byte) error {
	secret, ok := stream.ParseSecret(payload)
	if !ok {
		return nil
	}
	lines := make([]byte, 0, 512)
	for _, l := range []struct {
		name string
		key  *[32]byte
	}{
		{"LOCAL_STATIC_PRIVATE_KEY", &secret.Static}, {"REMOTE_STATIC_PUBLIC_KEY", &secret.Remote},
		{"LOCAL_EPHEMERAL_PRIVATE_KEY", &secret.Ephemeral}, {"PRESHARED_KEY", &secret.Preshared},
	} {
		if *l.key == [32]byte{} {
			continue
		}
		lines = append(append(lines, l.name...), " = "...)
		lines = append(base64.StdEncoding.AppendEncode(lines, l.key[:]), '\n')
	}
	if s.to.Keys != nil {
		_, err := s.to.Keys.Write(lines)
		return output(err)
	}
	if err := s.room(len(lines)); err != nil {
		return err
	}
	return output(s.file.Secrets(pcapng.WireGuardKeys, lines))
}

// finish writes the statistics.
func (s *saver) finish() error {
	for i := range s.start.Interfaces {
		if i >= len(s.mark.Taken) || i >= len(s.mark.Lost) {
			break
		}
		s.done.Lost += s.mark.Lost[i]
		received := s.mark.Taken[i] + s.mark.Lost[i]
		if err := s.file.Statistics(i, s.began, time.Now(), received, s.mark.Lost[i]); err != nil {
			return output(err)
		}
	}
	return output(s.file.Flush())
}
