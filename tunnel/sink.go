package tunnel

import (
	"errors"

	"tund/internal/drop"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// linkCount is the number of kinds of device a tunnel can have.
const linkCount = 2

// sink joins what peers sent into superpackets and writes them to one device queue. It belongs to one inbound loop.
type sink struct {
	t       *Tunnel
	dev     *device
	queue   tundev.Queue
	join    *offload.Coalescer
	forward forwarder
	split   offload.Splitter // for what the device refuses

	packets, bytes uint64 // since the last flush
}

func newSink(t *Tunnel, l *lane, d *device, q tundev.Queue) *sink {
	s := &sink{t: t, dev: d, queue: q, forward: d.newForwarder(l, q)}
	f := offload.Features{Checksum: d.features.Checksum, TSO: d.features.TSO, USO: d.features.USO}
	s.join = offload.NewCoalescer(d.link, d.prefix, f, s.write)
	s.join.VerifyChecksums(t.verifyChecksums)
	return s
}

// commit hands over the packet in the open slot: length bytes, its prefix included.
func (s *sink) commit(length int) {
	s.join.Commit(length)
	s.packets++
	s.bytes += uint64(length - s.dev.prefix)
}

// flush writes everything held and publishes the counters.
func (s *sink) flush() {
	s.join.Flush()
	if s.packets != 0 {
		s.dev.rxPackets.Add(s.packets)
		s.dev.rxBytes.Add(s.bytes)
		s.packets, s.bytes = 0, 0
	}
}

// avoid turns off the kind of superpacket that the device just refused. A restart tries it again.
func (s *sink) avoid(frame []byte) {
	var h offload.VirtioHeader
	h.Decode(frame)
	f := s.join.Features()
	switch h.GSOType {
	case offload.GSONone:
		f.Checksum, f.TSO, f.USO = false, false, false
	case offload.GSOUDP:
		f.USO = false
	default:
		f.TSO = false
	}
	s.join.SetFeatures(f)
}

// write gives one frame to the device. A superpacket that the kernel refuses is written again as single packets:
// some kernels refuse under load what they accepted before (field notes, mistake 21).
func (s *sink) write(frame []byte) {
	err := s.queue.Write(frame)
	if err == nil {
		return
	}
	if errors.Is(err, tundev.ErrRefused) {
		s.t.explain.offloadRefused(s.t.clock.Now(), s.dev.name, err)
		s.avoid(frame)
		reason := s.split.Plain(frame, s.dev.link, func(packet []byte) {
			if s.queue.Write(packet) != nil {
				s.drop(drop.DeviceWrite, 1)
			}
		})
		s.drop(reason, 1)
		return
	}
	s.drop(drop.DeviceWrite, 1)
}

// drop counts n packets for the device that were dropped.
func (s *sink) drop(reason drop.Reason, n uint64) {
	s.t.drops.Add(reason, n)
	s.dev.drops.Add(reason, n)
}
