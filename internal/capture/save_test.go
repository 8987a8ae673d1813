package capture

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"tund/internal/capture/stream"
)

// ms is a time of a daemon's clock.
func ms(n int64) int64 { return n * int64(time.Millisecond) }

// recorded is what a daemon may send: two rings whose packets are not in the order of time.
func recorded(more ...stream.Header) []byte {
	b := stream.AppendJSON(nil, stream.KindStart, stream.Start{
		Schema: stream.Schema, Offset: 1e18, Instance: "office", SnapLength: 100, Reasons: []string{"none", "no-peer", "foreign-source"},
		Interfaces: []stream.Interface{{Name: "office", Kind: stream.KindTUN}, {Name: "outer", Kind: stream.KindOuter}},
	})
	peer := func(ring uint8, name string) {
		b = stream.Append(b, stream.Header{Kind: stream.KindPeer, Ring: ring, Peer: 5}, append(make([]byte, 32), name...))
	}
	packet := func(h stream.Header) {
		h.Kind, h.Length = stream.KindPacket, 1400
		b = stream.Append(b, h, []byte{byte(h.Time / ms(1))})
	}
	peer(1, "berlin")
	packet(stream.Header{Ring: 1, Peer: 5, Time: ms(20), Flags: stream.In})
	packet(stream.Header{Ring: 1, Peer: 5, Time: ms(40), Flags: stream.In, Reason: 2})
	peer(2, "")
	packet(stream.Header{Ring: 2, Peer: 5, Time: ms(10), Segments: 47})
	peer(2, "paris")
	packet(stream.Header{Ring: 2, Peer: 5, Time: ms(30), Flags: stream.Waits})
	packet(stream.Header{Ring: 2, Time: ms(50), Reason: 1})
	b = stream.Append(b, stream.Header{Kind: stream.KindSecret, Time: ms(60)}, bytes.Repeat([]byte{7}, stream.SecretSize))
	for _, h := range more {
		packet(h)
	}
	b = stream.AppendJSON(b, stream.KindMark, stream.Mark{Until: ms(45), Offset: 1e18, Taken: []uint64{5, 0}, Lost: []uint64{3, 4}})
	return stream.Append(b, stream.Header{Kind: stream.KindEnd}, nil)
}

// contents reads a file back: the times of its packets, which are their bytes.
func contents(t *testing.T, file []byte) (times []byte) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if err == io.EOF {
			return times
		}
		if err != nil || len(data) != 1 || info.Length != 1400 || info.Timestamp.UnixNano() != 1e18+ms(int64(data[0])) {
			t.Fatalf("packet %v %+v, %v", data, info, err)
		}
		times = append(times, data[0])
	}
}

func never() bool { return false }

func TestSave_ordersAndNames(t *testing.T) {
	t.Parallel()
	var file, keys bytes.Buffer
	done, err := Save(bytes.NewReader(recorded()), Output{Packets: &file, Keys: &keys}, Limits{}, never)
	if err != nil || done != (Summary{Packets: 5, Lost: 7}) {
		t.Errorf("%+v, %v", done, err)
	}
	if got := contents(t, file.Bytes()); !bytes.Equal(got, []byte{10, 20, 30, 40, 50}) {
		t.Errorf("packets %v", got)
	}
	rest := file.String()
	for _, want := range []string{"to peer AAAAAAAA…, 47 segments", "from peer berlin", "to peer paris, waits for a session",
		"from peer berlin, dropped: foreign-source", "dropped: no-peer"} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Errorf("no comment %q in order", want)
		}
		rest = after
	}
	seven := "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"
	if want := "LOCAL_STATIC_PRIVATE_KEY = " + seven + "REMOTE_STATIC_PUBLIC_KEY = " + seven + "LOCAL_EPHEMERAL_PRIVATE_KEY = " + seven +
		"PRESHARED_KEY = " + seven; keys.String() != want {
		t.Errorf("keys:\n%s", keys.String())
	}
	if strings.Contains(file.String(), "LOCAL_STATIC") {
		t.Error("keys are in both files")
	}
}

func TestSave_keysComeBeforeThePacketsOfTheirTime(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	if _, err := Save(bytes.NewReader(recorded(stream.Header{Time: ms(60), Interface: 1})), Output{Packets: &file}, Limits{}, never); err != nil {
		t.Fatal(err)
	}
	keys, packet := bytes.Index(file.Bytes(), []byte("LOCAL_EPHEMERAL")), bytes.LastIndexByte(file.Bytes(), 60)
	if keys < 0 || packet < keys {
		t.Errorf("keys at %d, packet at %d", keys, packet)
	}
}

// A capture that is ended before its reader has caught up does not pretend to know what was lost.
func TestSave_endedWhileBehind(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		until := time.Now()
		if late {
			until = until.Add(-2 * maxLag)
		}
		start := stream.Start{Schema: stream.Schema, SnapLength: 100, Interfaces: []stream.Interface{{Name: "office", Kind: stream.KindTUN}}}
		b := stream.AppendJSON(nil, stream.KindStart, start)
		b = stream.AppendJSON(b, stream.KindMark, stream.Mark{Until: until.UnixNano(), Taken: []uint64{5}, Lost: []uint64{3}})
		done, err := Save(bytes.NewReader(b), Output{Packets: io.Discard}, Limits{}, func() bool { return true })
		if err != nil || done.Lost != 3 || done.Behind != late {
			t.Errorf("late %v: %+v, %v", late, done, err)
		}
	}
}

func TestSave_limits(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	done, err := Save(bytes.NewReader(recorded()), Output{Packets: &file}, Limits{Packets: 3}, never)
	if got := contents(t, file.Bytes()); err != nil || done.Packets != 3 || done.Limit == "" || !bytes.Equal(got, []byte{10, 20, 30}) {
		t.Errorf("%v, %+v, %v", got, done, err)
	}
	file.Reset()
	done, err = Save(bytes.NewReader(recorded()), Output{Packets: &file}, Limits{Bytes: 750}, never)
	if got := contents(t, file.Bytes()); err != nil || done.Limit == "" || len(got) == 0 || len(got) > 4 || file.Len() > 750 {
		t.Errorf("%d packets in %d bytes, %+v, %v", len(got), file.Len(), done, err)
	}
}

// A daemon that dies leaves a whole file.
func TestSave_brokenConnection(t *testing.T) {
	t.Parallel()
	whole := recorded()
	for n := 0; n < len(whole); n += 7 {
		var file bytes.Buffer
		done, err := Save(bytes.NewReader(whole[:n]), Output{Packets: &file}, Limits{}, never)
		if err == nil && !strings.Contains(done.Ended, "connection to the daemon broke") {
			t.Errorf("after %d bytes: %+v, %v", n, done, err)
		}
		if file.Len() > 0 {
			contents(t, file.Bytes())
		}
		file.Reset()
		if done, err := Save(bytes.NewReader(whole[:n]), Output{Packets: &file}, Limits{}, func() bool { return true }); err == nil && done.Ended != "" {
			t.Errorf("closed by the user after %d bytes: %+v", n, done)
		}
	}
}

func TestSave_fullDisk(t *testing.T) {
	t.Parallel()
	full, err := Create("/dev/full")
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if _, err := Save(bytes.NewReader(recorded()), Output{Packets: full}, Limits{}, never); !errors.Is(err, ErrOutput) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("packets: %v", err)
	}
	if _, err := Save(bytes.NewReader(recorded()), Output{Packets: io.Discard, Keys: full}, Limits{}, never); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("keys: %v", err)
	}
}

func TestCreate_isPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("something that was longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if f, err := Create(link); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("through a link: %v, %v", f, err)
	}
}

// Whoever owns the directory may have put a file of his own where the packets and keys are to go,
// or another name of one that must not be overwritten.
func TestCreate_leavesFilesOfOthersAlone(t *testing.T) {
	t.Parallel()
	refused := func(path, want string) {
		t.Helper()
		f, err := Create(path)
		if err == nil {
			_ = f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", path, err, want)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "theirs" {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	dir := t.TempDir()
	path, again := filepath.Join(dir, "file"), filepath.Join(dir, "again")
	if err := os.WriteFile(path, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 1, -1); err != nil {
			t.Fatal(err)
		}
		refused(path, "belongs to another user")
		if err := os.Chown(path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(path, again); err != nil {
		t.Fatal(err)
	}
	refused(path, "other hard links")
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1": 1, "10k": 10240, "500M": 500 << 20, "2G": 2 << 30, "": 0, "M": 0, "-1": 0, "0": 0, "1T": 0, "99999999999G": 0} {
		if got, err := ParseSize(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
