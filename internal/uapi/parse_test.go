package uapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/tunnel"
)

// hexKey is a key made of one repeated byte, as text.
func hexKey(b byte) string { return strings.Repeat(fmt.Sprintf("%02x", b), 32) }

func key32(b byte) (k [32]byte) {
	for i := range k {
		k[i] = b
	}
	return k
}

// parse reads what follows "set=1\n", with a buffer so small that most lines do not fit in it.
func parse(text string) (Request, error) {
	return readSet(bufio.NewReaderSize(strings.NewReader(text), 16))
}

func ptr[T any](v T) *T { return &v }

func prefixes(text ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestReadSet_understandsEveryKey(t *testing.T) {
	t.Parallel()
	clamped := keys.PrivateKey(key32(0xff))
	clamped.Clamp()
	peer := func(c tunnel.PeerChange) []tunnel.PeerChange {
		c.PublicKey = key32(2)
		return []tunnel.PeerChange{c}
	}
	begin := "public_key=" + hexKey(2) + "\n"
	tests := []struct {
		name, text string
		want       Request
	}{
		{"nothing", "", Request{}},
		{"private key, clamped", "private_key=" + hexKey(0xff) + "\n", Request{Change: tunnel.Change{PrivateKey: &clamped}}},
		{"private key removed", "private_key=" + hexKey(0) + "\n", Request{Change: tunnel.Change{PrivateKey: new(keys.PrivateKey)}}},
		{"capitals", "private_key=" + strings.ToUpper(hexKey(0xff)) + "\n", Request{Change: tunnel.Change{PrivateKey: &clamped}}},
		{"port", "listen_port=65535\n", Request{ListenPort: ptr(uint16(65535))}},
		{"port left to the kernel", "listen_port=0\n", Request{ListenPort: ptr(uint16(0))}},
		{"mark", "fwmark=4294967295\n", Request{FwMark: ptr(uint32(1<<32 - 1))}},
		{"mark removed", "fwmark=0\n", Request{FwMark: ptr(uint32(0))}},
		{"mark empty", "fwmark=\n", Request{FwMark: ptr(uint32(0))}},
		{"replace peers", "replace_peers=true\n", Request{Change: tunnel.Change{RemovePeers: true}}},
		{"a peer", begin, Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{})}}},
		{"remove", begin + "remove=true\n", Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Remove: true})}}},
		{"update only", begin + "update_only=true\n", Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{UpdateOnly: true})}}},
		{"preshared key", begin + "preshared_key=" + hexKey(3) + "\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{PresharedKey: ptr(keys.PresharedKey(key32(3)))})}}},
		{"preshared key removed", begin + "preshared_key=" + hexKey(0) + "\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{PresharedKey: new(keys.PresharedKey)})}}},
		{"endpoint", begin + "endpoint=192.0.2.1:51820\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Endpoint: netip.MustParseAddrPort("192.0.2.1:51820")})}}},
		{"endpoint, IPv6", begin + "endpoint=[2001:db8::1]:1\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Endpoint: netip.MustParseAddrPort("[2001:db8::1]:1")})}}},
		{"endpoint with a zone", begin + "endpoint=[fe80::1%eth0]:1\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Endpoint: netip.MustParseAddrPort("[fe80::1%eth0]:1")})}}},
		{"endpoint mapped into IPv6", begin + "endpoint=[::ffff:192.0.2.1]:1\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Endpoint: netip.MustParseAddrPort("192.0.2.1:1")})}}},
		{"keepalive", begin + "persistent_keepalive_interval=65535\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Keepalive: ptr(65535 * time.Second)})}}},
		{"keepalive off", begin + "persistent_keepalive_interval=0\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{Keepalive: new(time.Duration)})}}},
		{"allowed IPs", begin + "replace_allowed_ips=true\nallowed_ip=10.0.0.9/8\nallowed_ip=::/0\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{ReplaceAllowedIPs: true, AllowedIPs: prefixes("10.0.0.0/8", "::/0")})}}},
		{"allowed IPs removed", begin + "allowed_ip=-10.0.0.0/8\nallowed_ip=-::1/128\n",
			Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{RemoveAllowedIPs: prefixes("10.0.0.0/8", "::1/128")})}}},
		{"protocol version", begin + "protocol_version=1\n", Request{Change: tunnel.Change{Peers: peer(tunnel.PeerChange{})}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(tt.text + "\n")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("readSet(%q)\n got %+v\nwant %+v", tt.text, got, tt.want)
			}
		})
	}
}

func TestReadSet_faultsAndTheirNumbers(t *testing.T) {
	t.Parallel()
	begin := "public_key=" + hexKey(2) + "\n"
	tests := map[string]int64{
		"private_key=\n":                                22,
		"private_key=" + hexKey(1)[1:] + "\n":           22,
		"private_key=" + hexKey(1) + "0\n":              22,
		"private_key=g" + hexKey(1)[1:] + "\n":          22,
		"listen_port=\n":                                22,
		"listen_port=-1\n":                              22,
		"listen_port=65536\n":                           22,
		"listen_port=0x10\n":                            22,
		"fwmark=4294967296\n":                           22,
		"fwmark=0x10\n":                                 22,
		"replace_peers=false\n":                         22,
		"replace_peers=\n":                              22,
		"public_key=" + hexKey(1)[2:] + "\n":            22,
		"endpoint=192.0.2.1:1\n":                        22, // not a device's
		"errno=0\n":                                     22,
		"=\n":                                           22,
		"PRIVATE_KEY=" + hexKey(1) + "\n":               22,
		begin + "private_key=" + hexKey(1) + "\n":       22, // not a peer's
		begin + "remove=false\n":                        22,
		begin + "update_only=1\n":                       22,
		begin + "preshared_key=1\n":                     22,
		begin + "endpoint=host:1\n":                     22,
		begin + "endpoint=192.0.2.1\n":                  22,
		begin + "endpoint=192.0.2.1:65536\n":            22,
		begin + "endpoint=:1\n":                         22,
		begin + "persistent_keepalive_interval=65536\n": 22,
		begin + "persistent_keepalive_interval=off\n":   22,
		begin + "replace_allowed_ips=false\n":           22,
		begin + "allowed_ip=10.0.0.0\n":                 22,
		begin + "allowed_ip=10.0.0.0/33\n":              22,
		begin + "allowed_ip=--10.0.0.0/8\n":             22,
		begin + "allowed_ip=fe80::1%eth0/128\n":         22,
		begin + "allowed_ip=\n":                         22,
		begin + "protocol_version=2\n":                  22,
		begin + "advanced_security=on\n":                22,
		"listen_port\n":                                 71,
		begin + "remove\n":                              71,
		" \n":                                           71,
		"\r\n":                                          71,
	}
	for text, want := range tests {
		// What stands before the fault must not get through, and what stands behind it is read.
		_, err := parse("fwmark=1\n" + text + "fwmark=2\n\n")
		var fault *Error
		if !errors.As(err, &fault) || fault.Errno != want {
			t.Errorf("readSet(%q) = %v, want errno %d", text, err, want)
		}
	}
}

func TestReadSet_errorsHoldNoKey(t *testing.T) {
	t.Parallel()
	secret := hexKey(0xab)
	for _, text := range []string{
		"private_key=" + secret[1:], "private_key=" + secret + "x", "preshared_key=" + secret,
		"public_key=" + hexKey(2) + "\npreshared_key=" + secret[2:], secret, secret + "=x",
	} {
		_, err := parse(text + "\n\n")
		if err == nil || strings.Contains(err.Error(), secret[:40]) {
			t.Errorf("readSet(%q) = %v", text, err)
		}
	}
}

func TestReadSet_orderWithinOnePeerIsKept(t *testing.T) {
	t.Parallel()
	k := keys.PublicKey(key32(2))
	got, err := parse("public_key=" + hexKey(2) + "\nallowed_ip=-10.0.0.0/8\nallowed_ip=10.1.0.0/16\nallowed_ip=-10.1.0.0/16\n" +
		"allowed_ip=10.2.0.0/16\nreplace_allowed_ips=true\nupdate_only=true\nallowed_ip=10.3.0.0/16\nremove=true\n\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []tunnel.PeerChange{
		{PublicKey: k, UpdateOnly: true, RemoveAllowedIPs: prefixes("10.0.0.0/8"), AllowedIPs: prefixes("10.1.0.0/16")},
		{PublicKey: k, UpdateOnly: true, RemoveAllowedIPs: prefixes("10.1.0.0/16"), AllowedIPs: prefixes("10.2.0.0/16")},
		{PublicKey: k, UpdateOnly: true, ReplaceAllowedIPs: true, AllowedIPs: prefixes("10.3.0.0/16")},
		{PublicKey: k, UpdateOnly: true, Remove: true},
	}
	if !reflect.DeepEqual(got.Peers, want) {
		t.Errorf("readSet:\n got %+v\nwant %+v", got.Peers, want)
	}
}

// What boringtun got wrong: a flag of one peer must not leak into the next.
func TestReadSet_peersBeginAnew(t *testing.T) {
	t.Parallel()
	got, err := parse("public_key=" + hexKey(2) + "\nremove=true\npublic_key=" + hexKey(3) + "\npreshared_key=" + hexKey(1) +
		"\nreplace_allowed_ips=true\npersistent_keepalive_interval=5\nendpoint=192.0.2.1:1\npublic_key=" + hexKey(4) + "\n\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := (tunnel.PeerChange{PublicKey: key32(4)}); !reflect.DeepEqual(got.Peers[2], want) {
		t.Errorf("third peer = %+v, want %+v", got.Peers[2], want)
	}
}

func TestReadSet_aRequestCutOffIsNoRequest(t *testing.T) {
	t.Parallel()
	whole := "private_key=" + hexKey(1) + "\npublic_key=" + hexKey(2) + "\nallowed_ip=10.0.0.0/8\n"
	for n := range len(whole) {
		if _, err := parse(whole[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("readSet(%q) = %v, want %v", whole[:n], err, io.ErrUnexpectedEOF)
		}
	}
}

func TestReadSet_sizeIsBounded(t *testing.T) {
	t.Parallel()
	endless := io.MultiReader(strings.NewReader("x="), zeros{})
	_, err := readSet(bufio.NewReader(endless))
	var fault *Error
	if !errors.As(err, &fault) || fault.Errno != errnoTooBig {
		t.Errorf("an endless line: %v, want errno %d", err, errnoTooBig)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// netns.sh of wireguard-go sends this: one peer with 130,560 allowed IPs.
func largeRequest() string {
	var b strings.Builder
	b.WriteString("replace_peers=true\npublic_key=" + hexKey(2) + "\nreplace_allowed_ips=true\n")
	for i := 1; i <= 255; i++ {
		for j := range 256 {
			fmt.Fprintf(&b, "allowed_ip=%d.%d.0.0/16\nallowed_ip=%x::%x/128\n", i, j, i, j)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func TestReadSet_largeRequestIsQuickAndSmall(t *testing.T) {
	text := largeRequest()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	req, err := readSet(bufio.NewReaderSize(strings.NewReader(text), readBuffer))
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err != nil || len(req.Peers[0].AllowedIPs) != 130560 {
		t.Fatalf("%d allowed IPs, error %v", len(req.Peers[0].AllowedIPs), err)
	}
	// 0.1 s on an idle machine. Comparing each line with all others would take minutes.
	if took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("allocated %d MB", n>>20)
	}
}

// A get answer is a valid set request but for the keys that only an answer has.
func TestAppendGet_readsBackAsARequest(t *testing.T) {
	t.Parallel()
	text := string(appendGet(nil, sample()))
	var kept []string
	for line := range strings.Lines(text) {
		key, _, _ := strings.Cut(line, "=")
		switch key {
		case "last_handshake_time_sec", "last_handshake_time_nsec", "tx_bytes", "rx_bytes", "tund_state":
		default:
			kept = append(kept, line)
		}
	}
	req, err := parse(strings.Join(kept, "") + "\n")
	if err != nil {
		t.Fatal(err)
	}
	d := sample()
	if *req.PrivateKey != d.PrivateKey || *req.ListenPort != d.ListenPort || *req.FwMark != d.FwMark || len(req.Peers) != len(d.Peers) {
		t.Errorf("request %+v, want that of %+v", req, d)
	}
	for i, p := range d.Peers {
		c := req.Peers[i]
		if c.PublicKey != p.PublicKey || *c.PresharedKey != p.PresharedKey || c.Endpoint != p.Endpoint ||
			*c.Keepalive != p.Keepalive || !reflect.DeepEqual(c.AllowedIPs, p.AllowedIPs) {
			t.Errorf("peer %d: %+v, want that of %+v", i, c, p)
		}
	}
}

func FuzzReadSet(f *testing.F) {
	f.Add([]byte("private_key=" + hexKey(1) + "\nlisten_port=1\nfwmark=2\nreplace_peers=true\n\n"))
	f.Add([]byte("public_key=" + hexKey(2) + "\nremove=true\nallowed_ip=-::/0\n\n"))
	f.Add([]byte("public_key=" + hexKey(2) + "\nendpoint=[::1]:1\nallowed_ip=1.2.3.4/5\nallowed_ip=-1.2.3.4/5\nallowed_ip=::/0\n\n"))
	f.Add([]byte("x\n=\n\n"))
	f.Add([]byte("fwmark=\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		req, err := readSet(r)
		var fault *Error
		switch {
		case errors.As(err, &fault):
			if fault.Errno <= 0 || !reflect.DeepEqual(req, Request{}) {
				t.Errorf("errno %d with request %+v", fault.Errno, req)
			}
		case err != nil:
			if bytes.HasPrefix(data, []byte("\n")) || bytes.Contains(data, []byte("\n\n")) {
				t.Errorf("whole request: %v", err)
			}
			return
		}
		// Whatever was in it, the reader stands behind the empty line now.
		rest, _ := io.ReadAll(r)
		if end := len(data) - len(rest); !bytes.HasSuffix(data[:end], []byte("\n")) || end > 1 && data[end-2] != '\n' {
			t.Errorf("request ended after %q", data[:end])
		}
		for _, c := range req.Peers {
			for _, p := range append(c.AllowedIPs, c.RemoveAllowedIPs...) {
				if !p.IsValid() || p != p.Masked() {
					t.Errorf("allowed IP %v", p)
				}
			}
		}
	})
}
