package uapi

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"tund/crypto/keys"
	"tund/tunnel"
)

// maxRequest bounds the text of one request, in bytes. Four million allowed IPs fit; lines have no
// limit of their own.
const maxRequest = 64 << 20

// maxChanges bounds the peers of one request: more than a tunnel takes.
const maxChanges = 1 << 20

// readSet reads the lines of a set request up to the empty one that ends it. A request with a fault
// is still read to its end, so that the next one on the connection begins where it should. The
// errors: an *Error for a fault, which has changed nothing, or what r returned when the request did
// not arrive whole.
func readSet(r *bufio.Reader) (Request, error) {
	p := parser{inDevice: true}
	size := 0
	var long []byte // a line that does not fit into r's buffer
	for {
		line, err := r.ReadSlice('\n')
		size += len(line)
		if size > maxRequest {
			return Request{}, &Error{errnoTooBig, fmt.Sprintf("request of more than %d bytes", maxRequest)}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return Request{}, err
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = line[:0]
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			return p.finish()
		}
		p.line(line)
	}
}

// parser collects a request. After the first fault it only counts lines.
type parser struct {
	req      Request
	number   int  // of the line in hand
	inDevice bool // no public_key yet
	section  int  // index of the first change that belongs to the peer in hand
	fault    *Error
}

func (p *parser) finish() (Request, error) {
	if p.fault != nil {
		return Request{}, p.fault
	}
	return p.req, nil
}

// line takes one line without its newline. The bytes are not kept.
func (p *parser) line(line []byte) {
	p.number++
	if p.fault != nil {
		return
	}
	if len(p.req.Peers) > maxChanges {
		p.fault = &Error{errnoTooBig, fmt.Sprintf("request that changes peers more than %d times", maxChanges)}
		return
	}
	key, value, ok := bytes.Cut(line, []byte("="))
	if !ok {
		p.fault = &Error{errnoFormat, fmt.Sprintf("line %d has no \"=\"", p.number)}
		return
	}
	var err error
	switch {
	case string(key) == "public_key":
		err = p.peer(value)
	case p.inDevice:
		err = p.deviceKey(string(key), value)
	default:
		err = p.peerKey(string(key), value)
	}
	// The message never quotes the client: any part of the line may be a secret that ended up in
	// the wrong place.
	switch {
	case errors.Is(err, errNoSuchKey):
		p.fault = &Error{errnoInvalid, fmt.Sprintf("line %d: %v", p.number, err)}
	case err != nil:
		p.fault = &Error{errnoInvalid, fmt.Sprintf("line %d: %s: %v", p.number, key, err)}
	}
}

var (
	errKey       = errors.New("want 64 hexadecimal digits")
	errTrue      = errors.New("want true")
	errNoSuchKey = errors.New("no such key here")
)

func (p *parser) deviceKey(key string, value []byte) error {
	switch key {
	case "private_key":
		var k keys.PrivateKey
		if !parseKey((*[keys.Size]byte)(&k), value) {
			return errKey
		}
		if !k.IsZero() { // zero removes the key
			k.Clamp()
		}
		p.req.PrivateKey = &k
	case "listen_port":
		n, err := number(value, 16)
		if err != nil {
			return err
		}
		port := uint16(n)
		p.req.ListenPort = &port
	case "fwmark":
		var n uint64
		if len(value) > 0 { // empty is zero, as for wireguard-go
			var err error
			if n, err = number(value, 32); err != nil {
				return err
			}
		}
		mark := uint32(n)
		p.req.FwMark = &mark
	case "replace_peers":
		if string(value) != "true" {
			return errTrue
		}
		p.req.RemovePeers = true
	default:
		return errNoSuchKey
	}
	return nil
}

// peer begins a peer's section.
func (p *parser) peer(value []byte) error {
	var k keys.PublicKey
	if !parseKey((*[keys.Size]byte)(&k), value) {
		return errKey
	}
	p.inDevice, p.section = false, len(p.req.Peers)
	p.req.Peers = append(p.req.Peers, tunnel.PeerChange{PublicKey: k})
	return nil
}

// again begins another change of the same peer, for what has to happen after the changes so far.
func (p *parser) again() *tunnel.PeerChange {
	p.req.Peers = append(p.req.Peers, tunnel.PeerChange{PublicKey: p.current().PublicKey, UpdateOnly: true})
	return p.current()
}

func (p *parser) current() *tunnel.PeerChange { return &p.req.Peers[len(p.req.Peers)-1] }

func (p *parser) peerKey(key string, value []byte) error {
	c := p.current()
	switch key {
	case "remove", "update_only", "replace_allowed_ips":
		if string(value) != "true" {
			return errTrue
		}
		p.flag(key)
	case "preshared_key":
		var k keys.PresharedKey
		if !parseKey((*[keys.Size]byte)(&k), value) {
			return errKey
		}
		c.PresharedKey = &k
	case "endpoint":
		ep, err := netip.ParseAddrPort(string(value))
		if err != nil {
			return errors.New("want an address and a port")
		}
		c.Endpoint = netip.AddrPortFrom(ep.Addr().Unmap(), ep.Port())
	case "persistent_keepalive_interval":
		n, err := number(value, 16)
		if err != nil {
			return err
		}
		every := time.Duration(n) * time.Second
		c.Keepalive = &every
	case "allowed_ip":
		return p.allowedIP(value)
	case "protocol_version":
		if string(value) != "1" {
			return errors.New("want 1")
		}
	default:
		return errNoSuchKey
	}
	return nil
}

// flag takes one of the keys whose only value is true.
func (p *parser) flag(key string) {
	c := p.current()
	switch {
	case key == "remove" && len(c.AllowedIPs) > 0:
		p.again().Remove = true // these have been taken from their owners by now
	case key == "remove":
		c.Remove = true
	case key == "update_only":
		p.req.Peers[p.section].UpdateOnly = true // those after it are so anyway
	case len(c.AllowedIPs)+len(c.RemoveAllowedIPs) > 0: // replace_allowed_ips
		p.again().ReplaceAllowedIPs = true
	default:
		c.ReplaceAllowedIPs = true
	}
}

// allowedIP adds a prefix, or takes one away when there is a "-" before it.
func (p *parser) allowedIP(value []byte) error {
	c := p.current()
	rest, remove := bytes.CutPrefix(value, []byte("-"))
	prefix, err := netip.ParsePrefix(string(rest))
	if err != nil {
		return errors.New("want an address, \"/\" and a length")
	}
	prefix = prefix.Masked()
	switch {
	case !remove:
		c.AllowedIPs = append(c.AllowedIPs, prefix)
	case len(c.AllowedIPs) > 0: // one change removes before it adds
		c = p.again()
		fallthrough
	default:
		c.RemoveAllowedIPs = append(c.RemoveAllowedIPs, prefix)
	}
	return nil
}

// parseKey reads exactly 64 hexadecimal digits.
func parseKey(dst *[keys.Size]byte, text []byte) bool {
	if len(text) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst[:], text)
	return err == nil
}

// number reads a decimal number of so many bits.
func number(text []byte, bits int) (uint64, error) {
	n, err := strconv.ParseUint(string(text), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("want a number up to %d", uint64(1)<<bits-1)
	}
	return n, nil
}
