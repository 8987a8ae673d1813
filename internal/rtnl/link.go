package rtnl

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// skipStats asks for a link without its counters (RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h).
const skipStats = 1 << 3

// Link is what is known of a network interface.
type Link struct {
	Index    int
	Name     string
	MTU      int // bytes
	Loopback bool
}

// LinkByIndex returns the link of that number. The error matches ENODEV if there is none.
func (c *Conn) LinkByIndex(index int) (Link, error) { return c.link(index, "") }

// LinkByName returns the link of that name. The error matches ENODEV if there is none.
func (c *Conn) LinkByName(name string) (Link, error) { return c.link(0, name) }

func (c *Conn) link(index int, name string) (Link, error) {
	var info [unix.SizeofIfInfomsg]byte
	binary.NativeEndian.PutUint32(info[4:], uint32(index))
	body := Uint32(info[:], unix.IFLA_EXT_MASK, skipStats)
	switch {
	case len(name) >= unix.IFNAMSIZ:
		body = Attribute(body, unix.IFLA_ALT_IFNAME, append([]byte(name), 0))
	case name != "":
		body = Attribute(body, unix.IFLA_IFNAME, append([]byte(name), 0))
	}
	answer, err := c.Do(unix.RTM_GETLINK, 0, body)
	if err != nil {
		return Link{}, err
	}
	l, ok := parseLink(answer)
	if !ok {
		return Link{}, unix.EBADMSG
	}
	return l, nil
}

// parseLink reads a struct ifinfomsg and its attributes.
func parseLink(b []byte) (l Link, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return l, false
	}
	l.Index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	l.Loopback = binary.NativeEndian.Uint32(b[8:])&unix.IFF_LOOPBACK != 0
	for typ, value := range Attributes(b[unix.SizeofIfInfomsg:]) {
		switch {
		case typ == unix.IFLA_IFNAME:
			l.Name = strings.TrimRight(string(value), "\x00")
		case typ == unix.IFLA_MTU && len(value) == 4:
			l.MTU = int(binary.NativeEndian.Uint32(value))
		}
	}
	return l, l.Index > 0
}
