package tunnel

import (
	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/watchdog"
	"tund/tunnel/datasession"
	"tund/tunnel/ethernet"
	"tund/tunnel/handshake"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// Options is what a tunnel is made of.
type Options struct {
	// PrivateKey is our identity. A zero key makes a tunnel that neither starts nor answers
	// handshakes.
	PrivateKey keys.PrivateKey
	// Conns are the sockets, one per lane, all on one UDP port. The tunnel owns and closes them.
	Conns []udp.Conn
	// Devices are the tunnel's devices, at most one of each kind. The tunnel owns and closes their
	// queues.
	Devices []Device
	// Ethernet configures the switch of a TAP device, if there is one.
	Ethernet EthernetOptions
	// VerifyInnerChecksums makes the receive side verify the transport checksums of inner packets
	// instead of trusting the tag that covers them.
	VerifyInnerChecksums bool
	// Timestamps remembers those of the peers' handshakes beyond the life of the tunnel. Nil:
	// nobody does.
	Timestamps handshake.Timestamps
	// Ciphers are those that data sessions may use, with what each costs this host. Empty: no data
	// sessions.
	Ciphers []datasession.Cost
	// PathFound, when not nil, is called when the path MTU to a peer was found to be another one
	// (PeerEndpoint.PathMTU). It must not block.
	PathFound func()
	// Failover, if not nil, is told when a peer carries shared allowed IPs in place of another: the
	// names of both, and the number of prefixes. It must not wait for anything.
	Failover func(to, from string, prefixes int)
	// Clock is boottime.System unless a test brings its own.
	Clock Clock
	// Log gets what an operator should know. It must not be nil.
	Log *zap.Logger
}

// Device is an open device, handed to a tunnel.
type Device struct {
	Name     string
	Kind     tundev.Kind
	Features tundev.Features
	Queues   []tundev.Queue
	MTU      int // bytes of an IP packet
	// Up, when not nil, asks the device whether it is up, quickly; lanes call it while SetUp says
	// that it is down.
	Up func() bool
}

// Clock tells a tunnel the time.
type Clock = boottime.Clock

// EthernetOptions is what a tunnel with a TAP device is told of its switch.
type EthernetOptions = ethernet.Options

// ErrNoEthernet is returned for a request about frames by a tunnel without a TAP device.
var ErrNoEthernet = ethernet.ErrNoEthernet

// Beat is the progress of one loop of a tunnel.
type Beat = watchdog.Beat
