package compat

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// twin is the same device twice: by tund and by wireguard-go.
type twin struct {
	t         testing.TB
	ours, ref *device
}

func newTwin(t testing.TB) *twin {
	t.Helper()
	tw := &twin{t: t, ours: start(t, testnet.New(t), testnet.Tund(t)), ref: start(t, testnet.New(t), testnet.Program(t, "wireguard-go"))}
	tw.ref.key = tw.ours.key
	return tw
}

// both runs wg on both, with NAME for the device's name in args, and compares what it says and what
// it leads to.
func (tw *twin) both(input string, args ...string) {
	tw.t.Helper()
	var said [2]string
	for i, d := range []*device{tw.ours, tw.ref} {
		named := slices.Clone(args)
		for n := range named {
			named[n] = strings.ReplaceAll(named[n], "NAME", d.name)
		}
		out, err := d.tryWG(input, named...)
		said[i] = fmt.Sprintf("%s(%v)\n", canonical(d, out), strings.ReplaceAll(fmt.Sprint(err), d.name, "NAME"))
	}
	if said[0] != said[1] {
		tw.t.Errorf("wg %s:\n-- tund:\n%s-- wireguard-go:\n%s", strings.Join(args, " "), said[0], said[1])
	}
}

// step changes both, and compares every view of the result.
func (tw *twin) step(input string, args ...string) {
	tw.t.Helper()
	tw.both(input, args...)
	for _, show := range []string{"", "dump", "public-key", "private-key", "listen-port", "fwmark", "peers", "preshared-keys",
		"endpoints", "allowed-ips", "latest-handshakes", "transfer", "persistent-keepalive"} {
		if show == "" {
			tw.both("", "show", "NAME")
		} else {
			tw.both("", "show", "NAME", show)
		}
	}
	tw.both("", "showconf", "NAME")
}

// canonical sorts what has no order in wireguard-go: peers, and the allowed IPs of one.
func canonical(d *device, text string) string {
	text = strings.ReplaceAll(text, d.name, "NAME")
	sorted := func(list, sep string) string {
		words := strings.Split(list, sep)
		slices.Sort(words)
		return strings.Join(words, sep)
	}
	var blocks []string
	for block := range strings.SplitSeq(text, "\n\n") {
		var lines []string
		for line := range strings.SplitSeq(strings.TrimRight(block, "\n"), "\n") {
			switch {
			case strings.HasPrefix(line, "  allowed ips: "), strings.HasPrefix(line, "AllowedIPs = "):
				before, list, _ := strings.Cut(line, ": ")
				if strings.HasPrefix(line, "A") {
					before, list, _ = strings.Cut(line, " = ")
				}
				line = before + " " + sorted(list, ", ")
			case strings.Count(line, "\t") >= 1: // dump, allowed-ips and the like
				fields := strings.Split(line, "\t")
				for i := range fields {
					sep := ","
					if strings.Contains(fields[i], " ") {
						sep = " "
					}
					fields[i] = sorted(fields[i], sep)
				}
				line = strings.Join(fields, "\t")
			}
			lines = append(lines, line)
		}
		// A table: one line per peer.
		if !strings.Contains(block, "  ") && !strings.Contains(block, " = ") {
			slices.Sort(lines)
		}
		blocks = append(blocks, strings.Join(lines, "\n"))
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n") + "\n"
}

func publicKeys(t testing.TB, n int) []string {
	t.Helper()
	var all []string
	for range n {
		k, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k.Public().String())
	}
	return all
}

func TestWG_saysAndDoesWhatItDoesWithWireguardGo(t *testing.T) {
	t.Parallel()
	tw := newTwin(t)
	k := publicKeys(t, 6)
	psk, err := keys.GeneratePreshared()
	if err != nil {
		t.Fatal(err)
	}
	private := tw.ours.key.Base64() + "\n"
	conf := func(text string) string { return tw.ours.file("conf", text) }
	head := "[Interface]\nPrivateKey = " + private + "ListenPort = 51000\nFwMark = 0x77\n"
	peerText := func(i int, more string) string { return "[Peer]\nPublicKey = " + k[i] + "\n" + more }

	tw.step(private, "set", "NAME", "private-key", "/dev/stdin", "listen-port", "51820", "fwmark", "0x1234")
	tw.step("", "set", "NAME", "peer", k[0], "allowed-ips", "10.0.0.0/8,192.0.2.7/24,fd00::1/8", "endpoint", "192.0.2.1:1", "persistent-keepalive", "25")
	tw.step("", "set", "NAME", "peer", k[1], "endpoint", "[2001:db8::1]:65535")
	tw.step(psk.Base64()+"\n", "set", "NAME", "peer", k[1], "preshared-key", "/dev/stdin", "allowed-ips", "10.1.0.0/16,0.0.0.0/0,::/0")
	tw.step("", "set", "NAME", "peer", k[2], "allowed-ips", "10.1.0.0/16") // moves to this peer
	tw.step("", "set", "NAME", "peer", k[0], "allowed-ips", "10.1.1.0/24", "persistent-keepalive", "off")
	tw.step("", "set", "NAME", "peer", k[1], "allowed-ips", "")
	tw.step("", "set", "NAME", "fwmark", "off", "listen-port", "0x7777")
	tw.step("", "set", "NAME", "peer", k[2], "remove", "peer", k[5], "remove")
	// Our own key.
	tw.step("", "set", "NAME", "peer", tw.ours.key.Public().String(), "allowed-ips", "10.3.0.0/16")
	tw.step("", "set", "NAME", "private-key", "/dev/null")
	tw.step(private, "set", "NAME", "private-key", "/dev/stdin")

	tw.step("", "setconf", "NAME", conf(head+peerText(0, "AllowedIPs = 10.0.0.0/8\n")+
		peerText(1, "PresharedKey = "+psk.Base64()+"\nPersistentKeepalive = 5\nEndpoint = 192.0.2.2:2\n")+peerText(2, "AllowedIPs = ::/0\n")))
	tw.step("", "addconf", "NAME", conf("[Interface]\nListenPort = 51001\n"+peerText(3, "AllowedIPs = 10.4.0.0/16, 10.5.0.0/16\n")+
		peerText(0, "AllowedIPs = 10.6.0.0/16\nPersistentKeepalive = 7\n")))
	// One peer of many goes, one loses its preshared key, one its keepalive.
	tw.step("", "syncconf", "NAME", conf(head+peerText(0, "AllowedIPs = 10.6.0.0/16\n")+peerText(1, "Endpoint = 192.0.2.2:2\n")+
		peerText(3, "AllowedIPs = 10.4.0.0/16\nEndpoint = [2001:db8::9]:9\n")))
	tw.step("", "syncconf", "NAME", conf(head+peerText(4, "")+peerText(1, "AllowedIPs = 10.6.0.0/16\n")))
	tw.step("", "setconf", "NAME", conf("[Interface]\nListenPort = 51002\n"+peerText(5, "")))
	tw.step("", "set", "NAME", "peer", "nonsense", "allowed-ips", "10.0.0.0/8")
	tw.step("", "set", "NAME", "peer", k[0], "allowed-ips", "10.0.0.0/33")
}

// What is given to the socket is answered with the same numbers, and what is refused has changed
// nothing.
func TestSocket_answersWithTheNumbersOfWireguardGo(t *testing.T) {
	t.Parallel()
	tw := newTwin(t)
	hex := func(b string) string { return strings.Repeat(b, 32) }
	begin := "set=1\npublic_key=" + hex("02") + "\n"
	for _, request := range []string{
		"set=1\nlisten_port=51820\n\n", "get=1\n\n", "set=1\n\n", "set=1\nprivate_key=00\n\n", "set=1\nprivate_key=" + hex("gg") + "\n\n",
		"set=1\nlisten_port=65536\n\n", "set=1\nlisten_port=a\n\n", "set=1\nfwmark=4294967296\n\n", "set=1\nfwmark=0x1\n\n",
		"set=1\nreplace_peers=false\n\n", "set=1\nnonsense=1\n\n", "set=1\nnonsense\n\n", "set=1\nallowed_ip=::/0\n\n",
		"set=1\npublic_key=\n\n", begin + "remove=1\n\n", begin + "update_only=no\n\n", begin + "preshared_key=1\n\n",
		begin + "endpoint=example.org:1\n\n", begin + "endpoint=1.2.3.4\n\n", begin + "persistent_keepalive_interval=65536\n\n",
		begin + "replace_allowed_ips=1\n\n", begin + "allowed_ip=1.2.3.4\n\n", begin + "allowed_ip=1.2.3.4/33\n\n",
		begin + "protocol_version=2\n\n", begin + "listen_port=1\n\n",
		begin + "protocol_version=1\nallowed_ip=::/0\nremove=true\n\n",
	} {
		ours, err := tw.ours.ask(request)
		if err != nil {
			t.Errorf("%q: %v", request, err)
		}
		ref, err := tw.ref.ask(request)
		if err != nil {
			t.Fatalf("wireguard-go: %q: %v", request, err)
		}
		if ours != ref {
			t.Errorf("%q is answered with %q, by wireguard-go with %q", request, ours, ref)
		}
		// wireguard-go keeps what came before the fault; tund does not.
		if now, err := tw.ours.ask("get=1\n\n"); err != nil || now != "listen_port=51820\nerrno=0\n\n" {
			t.Errorf("after %q the device has %q (%v)", request, now, err)
		}
	}
	// wg prints a number in words when it is positive after a get, and negative after a set.
	if answer, err := tw.ours.ask("get=1\nx"); err != nil || answer != "errno=22\n\n" {
		t.Errorf("get=1 with something behind it is answered with %q (%v), want errno=22", answer, err)
	}
	for _, request := range []string{"nonsense\n", "get=2\n\n", "set=2\n\n", "\n"} {
		if answer, err := tw.ours.ask(request); err == nil || answer != "" {
			t.Errorf("%q is answered with %q, want the end of the connection", request, answer)
		}
	}
}

func TestSocket_aPortInUseIsSaidSoAndChangesNothing(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	a, b := start(t, ns, testnet.Tund(t)), start(t, ns, testnet.Tund(t))
	a.set("listen-port", "51820")
	b.set("listen-port", "51821", "private-key", b.keyFile())
	before := b.wg("show")
	out, err := b.tryWG("", "set", b.name, "listen-port", "51820", "fwmark", "7", "private-key", "/dev/null")
	if err == nil || !strings.Contains(out, "Address already in use") {
		t.Errorf("wg set to a port in use: %q (%v)", out, err)
	}
	if after := b.wg("show"); after != before {
		t.Errorf("before a refused change:\n%s\nafter:\n%s", before, after)
	}
}

func TestWG_twoInterfacesAtOnce(t *testing.T) {
	ns := testnet.New(t)
	a, b := start(t, ns, testnet.Tund(t)), start(t, ns, testnet.Tund(t))
	k := publicKeys(t, 4)
	a.set("private-key", a.keyFile(), "peer", k[2], "peer", k[0], "peer", k[1])
	b.set("private-key", b.keyFile(), "peer", k[3])
	for range 3 {
		out, err := a.tryWG("", "show", "all", "peers")
		if err != nil {
			t.Fatal(err)
		}
		mine := lines(out, a.name+"\t", b.name+"\t")
		want := a.name + "\t" + k[2] + "\n" + a.name + "\t" + k[0] + "\n" + a.name + "\t" + k[1] + "\n" + b.name + "\t" + k[3] + "\n"
		if mine != want {
			t.Errorf("wg show all peers:\n%s\nwant\n%s", mine, want)
		}
	}
	out, err := a.tryWG("", "show", "interfaces")
	if err != nil || !strings.Contains(out, a.name) || !strings.Contains(out, b.name) {
		t.Errorf("wg show interfaces: %q (%v)", out, err)
	}
}

// lines returns the lines of text that begin with one of the words, in the order of the words.
func lines(text string, words ...string) string {
	var out strings.Builder
	for _, w := range words {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, w) {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}
