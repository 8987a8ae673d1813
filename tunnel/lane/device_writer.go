package lane

import (
	"errors"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// linkCount is the number of kinds of device a tunnel can have.
const linkCount = 2

// deviceWriter joins what peers sent into superpackets and writes them to one device queue. It
// belongs to one receive loop.
type deviceWriter struct {
	env     *Env
	dev     *Device
	queue   tundev.Queue
	join    *offload.Coalescer
	forward Forwarder
	split   offload.Splitter // for what the device refuses
	tap     capture.Writer
	now     boottime.Time // when what is written has arrived, or a little later

	packets, bytes uint64 // since the last flush
}

func newDeviceWriter(env *Env, l *Lane, d *Device, tap capture.Writer) *deviceWriter {
	q := d.Queues[l.ID%len(d.Queues)]
	w := &deviceWriter{env: env, dev: d, queue: q, forward: d.NewForwarder(l, q), tap: tap}
	f := offload.Features{Checksum: d.Features.Checksum, TSO: d.Features.TSO, USO: d.Features.USO}
	w.join = offload.NewCoalescer(d.Link, d.Prefix, f, w.write)
	w.join.VerifyChecksums(env.VerifyChecksums)
	return w
}

// from says that what follows was received in the session with the given local index.
func (w *deviceWriter) from(index uint32, now boottime.Time) {
	w.join.From(index)
	w.now = now
}

// put hands over the forwarder's result for the plaintext in the open slot: a packet in the slot, a
// packet elsewhere, or none.
func (w *deviceWriter) put(plaintext, packet []byte) drop.Reason {
	if len(packet) == 0 {
		w.join.Cancel() // restores what the plaintext was decrypted over
		return drop.None
	}
	length := w.dev.Prefix + len(packet)
	if len(plaintext) < length || &packet[0] != &plaintext[w.dev.Prefix] {
		slot := w.join.Slot(length)
		if slot == nil {
			return drop.OversizeFrame
		}
		copy(slot[w.dev.Prefix:], packet)
	}
	w.join.Commit(length)
	w.packets++
	w.bytes += uint64(len(packet))
	return drop.None
}

// flush writes everything held and publishes the counters.
func (w *deviceWriter) flush() {
	w.join.Flush()
	if w.packets != 0 {
		w.dev.rxPackets.Add(w.packets)
		w.dev.rxBytes.Add(w.bytes)
		w.packets, w.bytes = 0, 0
	}
}

// avoid disables the kind of superpacket that the device has just refused, until a restart.
func (w *deviceWriter) avoid(frame []byte) {
	var h offload.VirtioHeader
	h.Decode(frame)
	f := w.join.Features()
	switch h.GSOType {
	case offload.GSONone:
		f.Checksum, f.TSO, f.USO = false, false, false
	case offload.GSOUDP:
		f.USO = false
	default:
		f.TSO = false
	}
	w.join.SetFeatures(f)
}

// write writes one frame to the device, from the peer whose session has the given index. A
// superpacket that the kernel refuses is written again as single packets: some kernels refuse under
// load what they accepted before.
func (w *deviceWriter) write(frame []byte, index uint32) {
	err := w.queue.Write(frame)
	if captures := w.env.Taps.Load(); captures != nil {
		w.capture(captures, frame, index, err)
	}
	if err == nil {
		return
	}
	if errors.Is(err, tundev.ErrRefused) {
		w.env.Log.OffloadRefused(w.env.Clock.Now(), w.dev.Name, err)
		w.avoid(frame)
		reason := w.split.Plain(frame, w.dev.Link, func(packet []byte) {
			if w.queue.Write(packet) != nil {
				w.drop(drop.DeviceWrite, 1)
			}
		})
		w.drop(reason, 1)
		return
	}
	w.drop(drop.DeviceWrite, 1)
}

// drop counts n dropped packets intended for the device.
func (w *deviceWriter) drop(reason drop.Reason, n uint64) {
	w.env.Drops.Add(reason, n)
	w.dev.CountDrop(reason, n)
}
