package acquire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tund/config"
	"tund/internal/desired"
	"tund/tunnel/udp"
)

// SocketOptions says how a configuration wants its sockets.
func SocketOptions(c *config.Config, port uint16, mark uint32) udp.Options {
	return udp.Options{Port: port, FwMark: mark, Device: c.Tunnel.BindDevice, NoGSO: !c.Tunnel.UDPOffload, NoGRO: !c.Tunnel.UDPOffload}
}

// Sockets opens one socket per lane, all on one port; 0 lets the kernel choose it. The sockets are
// the caller's. An error ends with what the operator can do.
func Sockets(c *config.Config, port uint16, mark uint32) ([]*udp.Socket, error) {
	lanes := desired.Lanes(c)
	o := SocketOptions(c, port, mark)
	if lanes > 1 {
		// Sockets with a shared port also share it with other programs of the same user, such as a
		// second tund, and each would take datagrams from the others. A socket that does not share
		// the port detects that.
		alone, err := udp.Open(o)
		if err != nil {
			return nil, explainPort(port, err)
		}
		o.Port, o.ReusePort = alone.Port(), true
		if err := alone.Close(); err != nil {
			return nil, err
		}
	}
	var sockets []*udp.Socket
	for range lanes {
		s, err := udp.Open(o)
		if err != nil {
			return nil, errors.Join(explainPort(o.Port, err), CloseSockets(sockets))
		}
		o.Port = s.Port()
		sockets = append(sockets, s)
	}
	if lanes > 1 {
		// A kernel that refuses it chooses by address: all lanes still work, but a peer uses one.
		_ = sockets[0].Steer(lanes)
	}
	return sockets, nil
}

// linkPatience is how long a start waits for the interface that sockets are to be bound to: at
// boot, a modem or PPP may be slower than tund.
const linkPatience = 20 * time.Second

// AwaitLink waits until the host has an interface of a name, until linkPatience is over, or until
// ctx ends. It calls waiting if the interface is not there at first. For "" it returns at once.
func AwaitLink(ctx context.Context, name string, waiting func()) {
	missing := func() bool {
		_, err := net.InterfaceByName(name)
		return err != nil
	}
	if name == "" || !missing() {
		return
	}
	waiting()
	ctx, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for missing() {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// CloseSockets closes all of them, also after an error.
func CloseSockets(sockets []*udp.Socket) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// explainPort adds the next step for the operator to an error of udp.Open.
func explainPort(port uint16, err error) error {
	number := strconv.Itoa(int(port))
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: there is no such interface now: see `ip link`, and tunnel.bind_device", err)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another program has it, see `ss -lunp 'sport = :%s'`: stop that, or choose another listen_port", err, number)
	case errors.Is(err, fs.ErrPermission) && port != 0 && port < 1024:
		return NotPermitted(fmt.Errorf("%w: ports below 1024 need CAP_NET_BIND_SERVICE (see tund@.service), or choose another listen_port", err))
	case errors.Is(err, fs.ErrPermission):
		return NotPermitted(fmt.Errorf("%w: run as root or with CAP_NET_ADMIN", err))
	}
	return err
}

// Conns returns sockets as the tunnel takes them.
func Conns(sockets []*udp.Socket) []udp.Conn {
	list := make([]udp.Conn, len(sockets))
	for i, s := range sockets {
		list[i] = s
	}
	return list
}

// UserID returns the number of the user who may use the agent's socket.
func UserID(name string) (int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("[agent] user: %w: create it, name another one, or remove [agent]", err)
	}
	return strconv.Atoi(u.Uid)
}
