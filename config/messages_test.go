package config

import (
	"strings"
	"testing"

	"tund/crypto/keys"
)

// badKey is what the parser of keys says of all that is none.
var badKey = keys.ErrFormat.Error()

// messageTest is a file and all that loading it says.
type messageTest struct{ name, src, want string }

func checkMessages(t *testing.T, tests []messageTest) {
	t.Helper()
	for _, test := range tests {
		if got, want := report(test.src), prefixed(test.want); got != want {
			t.Errorf("%s: got:\n%s\nwant:\n%s\nof:\n%s", test.name, got, want, test.src)
		}
	}
}

func TestLoad_saysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	tests := []messageTest{
		// The file and its sections.
		{"empty file", "", "1:1: no [tunnel] section, which holds the private key\n1:1: no device: give [tun], [tap] or both"},
		{"no device", tunnelSection, "1:1: no device: give [tun], [tap] or both"},
		{"unknown section", tunSection + "[tapp]\n", `4:1: unknown section "tapp": did you mean [tap]?`},
		{"unknown list of sections", tunSection + "[[peers]]\n", "4:1: peer 1: public_key: missing\n" + `4:1: unknown section "peers": did you mean [[peer]]?`},
		{"section of another program", tunSection + "[Interface]\n", `4:1: unknown section "Interface": did you mean [tunnel]?`},
		{"key outside of sections", "listen_port = 1\n" + tunSection, `1:1: unknown key "listen_port": it belongs in [tunnel]`},
		{"section as a value", "tap = 1\n" + tunSection, `1:7: tap: want one section [tap], not a number`},
		{"section as a list", tunSection + "[[tap]]\n", `4:1: tap: want one section [tap], not a list`},
		{"peer with one bracket", tunSection + "[peer]\n", "4:1: write [[peer]], with two brackets, before each peer\n4:1: peer 1: public_key: missing"},
		{"peers that are numbers", "peer = [1]\n" + tunSection, `1:9: peer: want a table, not a number`},

		// Unknown keys.
		{"unknown key", tunSection + "mtuu = 3\n", `4:1: tun: unknown key "mtuu": did you mean "mtu"?`},
		{"unknown key, far off", tunSection + "colour = 3\n", `4:1: tun: unknown key "colour"`},
		{"unknown key, other case", tunSection + "MTU = 3\n", `4:1: tun: unknown key "MTU": did you mean "mtu"?` + "\n4:7: tun: mtu: 3 is out of range (0, or 576 to 65455)"},
		{"unknown key, letters swapped", peerSection + usable + "keepailve = 3\n", `8:1: peer 1: unknown key "keepailve": did you mean "keepalive"?`},
		{"unknown key of wg-quick", peerSection + callable + "AllowedIPs = []\nPersistentKeepalive = 1\n",
			`7:1: peer 1: unknown key "AllowedIPs": did you mean "allowed_ips"?
8:1: peer 1: unknown key "PersistentKeepalive": did you mean "keepalive"?`},
		{"unknown key at home elsewhere", peerSection + usable + "bridge = 1\n", `8:1: peer 1: unknown key "bridge": it belongs in [tap]`},
		{"unknown quoted key", tunSection + "\"a b\" = 1\n", `4:1: tun: unknown key "a b"`},
		{"unknown dotted key", tunSection + "mtu2.x = 1\n", `4:1: tun: unknown section "mtu2": did you mean "mtu"?`},

		// Keys given twice.
		{"key twice", tunSection + "mtu = 0\n[tap]\ndevice=\"x\"\nmtu = 0\n mtu = 1\n", `8:2: "mtu" given twice: first at 7:1`},
		{"section twice", tunSection + "mtu = 0\n[tun]\nmtu = \"not looked at\"\n", `5:1: section "tun" given twice: first at 3:1`},
		{"key twice in a line", "tun = {mtu = 0, mtu = 0, metric = -1}\n" + tunnelSection,
			"1:17: \"mtu\" given twice: first at 1:8\n1:35: tun: metric: -1 is out of range (0 to 4294967295)"},
		{"dotted key twice", "tun.mtu = 0\ntun.mtu = 0\n" + tunnelSection, `2:1: "mtu" given twice: first at 1:1`},

		// The private key.
		{"no private key", "[tunnel]\n[tun]\n", "1:1: tunnel: no private key: give private_key_file, private_key or credential"},
		{"two private keys", "[tunnel]\nprivate_key = \"" + privA + "\"\n private_key_file = \"office.key\"\n[tun]\n",
			"3:2: tunnel: private_key_file beside private_key at 2:1: give one of the two"},
		{"two private keys, other order", "[tunnel]\ncredential = \"x\"\nprivate_key = \"" + privA + "\"\n[tun]\n",
			"3:1: tunnel: private_key beside credential at 2:1: give one of the two"},
		{"bad private key", "[tunnel]\nprivate_key = \"SECRET\"\n[tun]\n", "2:15: tunnel: private_key: " + badKey},
		{"zero private key", "[tunnel]\nprivate_key_file = \"zero.key\"\n[tun]\n", "2:20: tunnel: private_key_file: is all zeros, which is not a key"},
		{"bad key file", "[tunnel]\nprivate_key_file = \"broken.key\"\n[tun]\n", "2:20: tunnel: private_key_file: broken.key: " + badKey},
		{"absolute key file", "[tunnel]\nprivate_key_file = \"/x/y.key\"\n[tun]\n", "2:20: tunnel: private_key_file: open /x/y.key: file does not exist: make one with `tunctl genkey`, mode 0600"},
		{"empty key file name", "[tunnel]\nprivate_key_file = \"\"\n[tun]\n", "2:20: tunnel: private_key_file: is empty"},
		{"large key file", "[tunnel]\nprivate_key_file = \"large.key\"\n[tun]\n", "2:20: tunnel: private_key_file: file is too large"},
		{"key as file name", "[tunnel]\nprivate_key_file = \"" + privA + "\"\n[tun]\n",
			"2:20: tunnel: private_key_file: looks like a key, but the name of a file is expected (not shown)"},
		{"credential outside its directory", "[tunnel]\ncredential = \"../x\"\n[tun]\n", "2:14: tunnel: credential: want the name of a credential, without a path"},
		{"previous key missing", "[tunnel]\nprivate_key_file = \"office.key\"\nprevious_private_key_file = \"old.key\"\n[tun]\n",
			"3:29: tunnel: previous_private_key_file: open old.key: file does not exist"},
		{"previous key zero", "[tunnel]\nprivate_key_file = \"office.key\"\nprevious_private_key_file = \"zero.key\"\n[tun]\n",
			"3:29: tunnel: previous_private_key_file: is all zeros, which is not a key"},
		{"private key not a string", "[tunnel]\nprivate_key = 12345\n[tun]\n", "2:15: tunnel: private_key: want a string, not a number"},
	}
	checkMessages(t, tests)
}

func TestLoad_saysWhatIsWrongWithADevice(t *testing.T) {
	t.Parallel()
	tests := []messageTest{
		// Numbers and choices.
		{"port out of range", "[tunnel]\nprivate_key_file = \"office.key\"\nlisten_port = 65536\n[tun]\n",
			"3:15: tunnel: listen_port: 65536 is out of range (0 to 65535)"},
		{"negative", tunSection + "metric = -1\n", "4:10: tun: metric: -1 is out of range (0 to 4294967295)"},
		{"float", tunSection + "mtu = 1400.0\n", "4:7: tun: mtu: want a whole number, not a fraction"},
		{"date", tunSection + "mtu = 2020-01-01\n", "4:7: tun: mtu: want a whole number, not a date or time"},
		{"list for a number", tunSection + "mtu = [\n1]\n", "4:7: tun: mtu: want a whole number, not a list"},
		{"small mtu", tunSection + "mtu = 500\n", "4:7: tun: mtu: 500 is out of range (0, or 576 to 65455)"},
		{"small mtu with IPv6", tunSection + "mtu = 1279\naddress = [\"fd00::1/64\"]\n",
			"4:7: tun: mtu: 1279 is too small for the address fd00::1/64: IPv6 needs 1280"},
		{"local table", tunSection + "table = 255\n", "4:9: tun: table: 255 is the kernel's own table of local addresses"},
		{"bad choice", tunSection + "routes = \"on\"\n", `4:10: tun: routes: want "auto" or "off", not "on"`},
		{"bad local networks", tunSection + "local_networks = \"lan\"\n", `4:18: tun: local_networks: want "private", "all" or "none", not "lan"`},
		{"bad choice of three", tapSection + "bpdu = 3\n", `5:8: tap: bpdu: want "drop", "forward" or "guard", not a number`},
		{"bad boolean", tapSection + "hub = \"yes\"\n", "5:7: tap: hub: want true or false, without quotes, not a string"},
		{"ageing", tapSection + "ageing = 1\n", "5:10: tap: ageing: 1 is out of range (10 to 86400)"},

		// Devices.
		{"long device", tunSection + "device = \"abcdefghijklmnop\"\n", `4:10: tun: device: "abcdefghijklmnop" is longer than 15 bytes`},
		{"bad device", tunSection + "device = \"a/b\"\n", `4:10: tun: device: "a/b" has a character other than letters, digits and _=+.-`},
		{"empty device", tunSection + "device = \"\"\n", `4:10: tun: device: "" is empty`},
		{"dots", tunSection + "device = \"..\"\n", `4:10: tun: device: ".." is the name of a directory`},
		{"reserved device", tunSection + "device = \"all\"\n", `4:10: tun: device: "all" is reserved by the kernel`},
		{"tap without a name", tunSection + " [tap]\n", `4:2: tap: device: set a name: the [tun] device has that of the instance`},
		{"tap named as tun", tunSection + "[tap]\ndevice = \"office\"\n", `5:10: tap: device: "office" is the name of the [tun] device`},
		{"tun bound to itself", tunnelSection + "bind_device = \"x0\"\n[tun]\ndevice = \"x0\"\n", `5:10: tun: device: "x0" is the bind_device of [tunnel]: our datagrams cannot leave through the tunnel itself`},
		{"tap bound to itself", tunnelSection + "bind_device = \"x0\"\n[tap]\ndevice = \"x0\"\n", `5:10: tap: device: "x0" is the bind_device of [tunnel]: our datagrams cannot leave through the tunnel itself`},
		{"bridge named as tun", tunSection + "[tap]\ndevice = \"x\"\nbridge = \"office\"\n", `6:10: tap: bridge: "office" is the name of the [tun] device`},
		{"bridge named as tap", tapSection + "bridge = \"office\"\n", `5:10: tap: bridge: "office" is the name of the [tap] device itself`},
		{"empty bridge", tapSection + "bridge = \"\"\n", `5:10: tap: bridge: "" is empty`},

		// Addresses.
		{"not an address", tunSection + "address = [\"10.0.0\"]\n", `4:12: tun: address: "10.0.0" is not an address (want 10.20.0.0/16 or fd00::/64)`},
		{"bad length", tunSection + "address = [\"10.0.0.1/33\"]\n", `4:12: tun: address: "10.0.0.1/33" has length "33", which is not 0 to 32`},
		{"address with a zone", tunSection + "address = [\"fe80::1%x/64\"]\n", `4:12: tun: address: "fe80::1%x/64" has a zone, which has no meaning here`},
		{"mapped address", tunSection + "address = [\"::ffff:10.0.0.1/128\"]\n", `4:12: tun: address: "::ffff:10.0.0.1/128" is an IPv4 address in the form of IPv6: write 10.0.0.1`},
		{"multicast address", tunSection + "address = [\"224.0.0.1/4\"]\n", `4:12: tun: address: "224.0.0.1/4" is a multicast address`},
		{"unspecified address", tunSection + "address = [\"::/0\"]\n", `4:12: tun: address: "::/0" is not the address of a device`},
		{"address twice", tunSection + "address = [\"10.0.0.1/8\",\n\t\"10.0.0.1/9\"]\n", `5:2: tun: address: 10.0.0.1 given twice: first at 4:12`},
		{"addresses not in a list", tunSection + "address = \"10.0.0.1/8\"\n", `4:11: tun: address: want a list: address = ["10.0.0.1/8"]`},
		{"number among addresses", tunSection + "address = [\"10.0.0.1/8\", 7]\n", `4:26: tun: address: want a string, not a number`},
	}
	checkMessages(t, tests)
}

func TestLoad_saysWhatIsWrongWithAPeer(t *testing.T) {
	t.Parallel()
	tests := []messageTest{
		{"no public key", tunSection + "[[peer]]\n" + usable, "4:1: peer 1: public_key: missing"},
		{"bad public key", tunSection + "[[peer]]\npublic_key = \"x\"\n" + usable, "5:14: peer 1: public_key: " + badKey},
		{"zero public key", tunSection + "[[peer]]\npublic_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n" + usable, "5:14: peer 1: public_key: is all zeros, which is not a key"},
		{"own public key", tunSection + "[[peer]]\npublic_key = \"" + ownPublic() + "\"\n" + usable, "5:14: peer 1: public_key: is our own public key, that of the private key at 2:20: put that of the peer here"},
		{"same public key", peerSection + usable + "[[peer]]\nname = \"second\"\npublic_key = \"" + pubB + "\"\n", `10:14: peer "second": public_key: is also the key of peer 1, at 5:14`},
		{"same name", peerSection + usable + "name = \"x\"\n" + secondPeer + "name=\"x\"\n", `11:6: peer "x": name: "x" is also the name of the peer at 8:8`},
		{"bad name", peerSection + usable + "name = \"a b\"\n", `8:8: peer 1: name: "a b" has a space or another character that a name may not have`},
		{"empty name", peerSection + usable + "name = \"\"\n", `8:8: peer 1: name: "" is empty`},
		{"name like an option", peerSection + usable + "name = \"-a\"\n", `8:8: peer 1: name: "-a" begins like an option`},
		{"two preshared keys", peerSection + usable + "preshared_key = \"" + pskD + "\"\npreshared_key_file = \"berlin.psk\"\n",
			"9:1: peer 1: preshared_key_file beside preshared_key at 8:1: give one of the two"},
		{"bad preshared key", peerSection + usable + "preshared_key = \"SECRET\"\n", "8:17: peer 1: preshared_key: " + badKey},
		{"missing preshared key file", peerSection + usable + "preshared_key_file = \"no.psk\"\n", "8:22: peer 1: preshared_key_file: open no.psk: file does not exist"},

		{"same allowed IP", peerSection + usable + secondPeer + "allowed_ips = [\"fd00::/8\", \"10.0.0.0/8\"]\n", `10:28: peer 2: allowed_ips: 10.0.0.0/8 is also an allowed IP of peer 1, at 7:16; if one stands in for the other, give the preferred one a priority`},
		{"same allowed IP once masked", peerSection + usable + secondPeer + "allowed_ips = [\"10.3.2.1/8\"]\n", `10:16: peer 2: allowed_ips: 10.0.0.0/8 is also an allowed IP of peer 1, at 7:16; if one stands in for the other, give the preferred one a priority`},
		{"mapped allowed IP", peerSection + callable + "allowed_ips = [\"::ffff:10.0.0.0/104\"]\n", `7:16: peer 1: allowed_ips: "::ffff:10.0.0.0/104" is an IPv4 address in the form of IPv6: write 10.0.0.0/8`},
		{"bad allowed IP", peerSection + callable + "allowed_ips = [\"any\"]\n", `7:16: peer 1: allowed_ips: "any" is not an address (for everything, want ["0.0.0.0/0", "::/0"])`},

		{"missing port", peerSection + "endpoint = \"berlin.example.org\"\n", "6:12: peer 1: endpoint: missing port (want host:port)"},
		{"missing port, IPv4", peerSection + "endpoint = \"192.0.2.1\"\n", "6:12: peer 1: endpoint: missing port (want host:port)"},
		{"missing port, IPv6", peerSection + "endpoint = \"[2001:db8::1]\"\n", "6:12: peer 1: endpoint: missing port (want host:port)"},
		{"missing port after a colon", peerSection + "endpoint = \"a:\"\n", "6:12: peer 1: endpoint: missing port (want host:port)"},
		{"missing brackets", peerSection + "endpoint = \"2001:db8::1:5182\"\n", "6:12: peer 1: endpoint: an IPv6 address needs brackets, and a port after them (want [2001:db8::1]:51820)"},
		{"missing brackets, no address", peerSection + "endpoint = \"2001:db8::1:51820\"\n", `6:12: peer 1: endpoint: an IPv6 address needs brackets, and a port after them (want [2001:db8::1]:51820)`},
		{"missing host", peerSection + "endpoint = \":51820\"\n", "6:12: peer 1: endpoint: missing host (want host:port)"},
		{"empty endpoint", peerSection + "endpoint = \"\"\n", "6:12: peer 1: endpoint: is empty (want host:port)"},
		{"port zero", peerSection + "endpoint = \"a:0\"\n", `6:12: peer 1: endpoint: port "0" is not a number from 1 to 65535`},
		{"port too large", peerSection + "endpoint = \"a:65536\"\n", `6:12: peer 1: endpoint: port "65536" is not a number from 1 to 65535`},
		{"port with a sign", peerSection + "endpoint = \"a:+1\"\n", `6:12: peer 1: endpoint: port "+1" is not a number from 1 to 65535`},
		{"port by name", peerSection + "endpoint = \"a:http\"\n", `6:12: peer 1: endpoint: port "http" is not a number from 1 to 65535`},
		{"second endpoint", peerSection + "endpoint = [\"a:1\", \"b\"]\n", "6:20: peer 1: endpoint: missing port (want host:port)"},
		{"too many colons", peerSection + "endpoint = \"a:b:1\"\n", `6:12: peer 1: endpoint: "a:b:1" is malformed (want host:port, or [address]:port for IPv6)`},
		{"bad IPv4", peerSection + "endpoint = \"192.0.2.300:1\"\n", `6:12: peer 1: endpoint: "192.0.2.300" is not an IPv4 address`},
		{"bad IPv6", peerSection + "endpoint = \"[2001:db8::g]:1\"\n", `6:12: peer 1: endpoint: "2001:db8::g" is not an IPv6 address`},
		{"bad host", peerSection + "endpoint = \"a..b:1\"\n", `6:12: peer 1: endpoint: "a..b" is not a host name`},
		{"URL", peerSection + "endpoint = \"udp://a:1\"\n", `6:12: peer 1: endpoint: "udp://a:1" is a URL (want host:port)`},
		{"unspecified host", peerSection + "endpoint = \"0.0.0.0:1\"\n", `6:12: peer 1: endpoint: "0.0.0.0" is not the address of a host`},
		{"endpoint a number", peerSection + "endpoint = 51820\n", `6:12: peer 1: endpoint: want host:port, or a list of them, not a number`},
		{"keepalive", peerSection + usable + "keepalive = 65536\n", "8:13: peer 1: keepalive: 65536 is out of range (0 to 65535)"},

		{"ethernet without tap", peerSection + usable + "ethernet = true\n", "8:12: peer 1: ethernet: there is no [tap] section"},
		{"extensions", peerSection + usable + "extensions = \"maybe\"\n", `8:14: peer 1: extensions: want "auto", "on" or "off", not "maybe"`},
		{"post-quantum", peerSection + usable + "post_quantum = \"yes\"\n", `8:16: peer 1: post_quantum: want "prefer", "require" or "off", not "yes"`},
		{"post-quantum without extensions", peerSection + usable + "post_quantum = \"require\"\nextensions = \"off\"\n",
			`8:16: peer 1: post_quantum: "require" needs extensions, which are "off"`},
		{"extensions off with ethernet", etherSection + usable + "extensions = \"off\"\nethernet = true\n",
			`9:14: peer 1: extensions: "off" contradicts ethernet = true, which is an extension itself`},
		{"liveness without extensions", peerSection + usable + "extensions = \"off\"\nliveness = 1\n",
			`9:12: peer 1: liveness: needs extensions, which are "off" for this peer`},
		{"switch keys without ethernet", etherSection + usable + "pvid = 3\nethernet = false\n", "9:1: peer 1: pvid: needs ethernet = true"},
		{"bad MAC", etherSection + "ethernet = true\nmacs = [\"02:00:00:00:01\"]\n", `8:9: peer 1: macs: "02:00:00:00:01" is not a MAC address (want 02:00:00:00:00:01)`},
		{"group MAC", etherSection + "ethernet = true\nmacs = [\"01:00:5e:00:00:01\"]\n", `8:9: peer 1: macs: "01:00:5e:00:00:01" is a group address, which no station has`},
		{"zero MAC", etherSection + "ethernet = true\nmacs = [\"00:00:00:00:00:00\"]\n", `8:9: peer 1: macs: "00:00:00:00:00:00" is all zeros`},
		{"same MAC", etherSection + "ethernet = true\nmacs = [\"02:00:00:00:00:01\"]\n" + secondPeer + "ethernet = true\nmacs = [\"02-00-00-00-00-01\"]\n",
			`12:9: peer 2: macs: 02:00:00:00:00:01 is also pinned to peer 1, at 8:9`},
		{"VLAN out of range", etherSection + "ethernet = true\nvlans = [1, 4095]\n", "8:13: peer 1: vlans: 4095 is out of range (0 to 4094)"},
		{"untagged twice", etherSection + "ethernet = true\nvlans = [0, 7]\npvid = 3\n", "9:8: peer 1: pvid: vlans has 0: untagged frames are either in a VLAN or in none"},
		{"VLANs backwards", etherSection + "ethernet = true\nvlans = [\"9-7\"]\n", `8:10: peer 1: vlans: "9-7" ends before it begins`},
		{"VLAN in quotes", etherSection + "ethernet = true\nvlans = [\"9\"]\n", `8:10: peer 1: vlans: "9" is no range: want one like "10-19", or a number without quotes`},
		{"VLAN as a table", etherSection + "ethernet = true\nvlans = [{}]\n", `8:10: peer 1: vlans: want a number or a range like "10-19", not a table`},
		{"unknown trust", etherSection + "ethernet = true\ntrust = [\"arp\"]\n", `8:10: peer 1: trust: want "dhcp" or "ra", not "arp"`},
	}
	checkMessages(t, tests)
}

func TestLoad_warns(t *testing.T) {
	t.Parallel()
	tests := []messageTest{
		{"nothing to say", peerSection + usable, ""},
		{"both families", peerSection + callable + "allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n", ""},
		{"IPv4 alone", peerSection + callable + "allowed_ips = [\"0.0.0.0/0\"]\n", "7:16: warning: 0.0.0.0/0 without ::/0: IPv6 does not go through the tunnel"},
		{"IPv6 alone", peerSection + callable + "allowed_ips = [\"::/0\"]\n", "7:16: warning: ::/0 without 0.0.0.0/0: IPv4 does not go through the tunnel"},
		{"one family, no routes", tunSection + "routes = \"off\"\n[[peer]]\npublic_key = \"" + pubB + "\"\n" + callable + "allowed_ips = [\"::/0\"]\n", ""},
		{"families at two peers", peerSection + callable + "allowed_ips = [\"0.0.0.0/0\"]\n" + secondPeer + "allowed_ips = [\"::/0\"]\n", ""},
		{"host bits", peerSection + callable + "allowed_ips = [\"10.1.2.3/8\"]\n", "7:16: warning: peer 1: allowed_ips: 10.1.2.3/8 has host bits set: 10.0.0.0/8 is used, as wg(8) does"},
		{"allowed IP twice", peerSection + callable + "allowed_ips = [\"10.0.0.0/8\", \"10.0.0.0/8\"]\n", "7:30: warning: peer 1: allowed_ips: 10.0.0.0/8 given twice: first at 7:16"},
		{"own address", tunSection + "address = [\"10.9.0.1/24\"]\n[[peer]]\npublic_key = \"" + pubB + "\"\n" + callable + "allowed_ips = [\"10.9.0.1\"]\n",
			"8:16: peer 1: allowed_ips: 10.9.0.1 is our own address: list the addresses behind the peer"},
		{"endpoint twice", peerSection + "endpoint = [\"a:1\", \"a:1\"]\nallowed_ips = []\n", `6:20: warning: peer 1: endpoint: "a:1" given twice`},
		{"neither side can start a session", peerSection + "allowed_ips = [\"10.0.0.0/8\"]\n", "1:1: warning: no peer has an endpoint and listen_port is not set: neither side can start a session"},
		{"idle peer", peerSection + callable, "4:1: warning: peer 1: has neither allowed_ips nor ethernet = true: nothing is sent to it"},
		{"allowed IPs without tun", etherSection + "allowed_ips = [\"10.0.0.0/8\"]\n", "7:15: warning: peer 1: allowed_ips: has no effect without a [tun] section"},
		{"zero preshared key", peerSection + usable + "preshared_key_file = \"zero.key\"\n", "8:22: warning: peer 1: preshared_key_file: is all zeros, which is the same as none"},
		{"address of a bridge port", tapSection + "bridge = \"br0\"\naddress = [\"10.0.0.1/8\"]\n", "6:11: warning: tap: address: a bridge port is not reachable by an address of its own: put it on the bridge"},
		{"storm control off", tapSection + "broadcast_limit = 0\n", "5:19: warning: tap: broadcast_limit: 0 turns storm control off"},
	}
	checkMessages(t, tests)
}

// nothingElse is what is said besides of a file without any section.
const nothingElse = "1:1: no [tunnel] section, which holds the private key\n1:1: no device: give [tun], [tap] or both"

func TestLoad_reportsMalformedTOMLWithItsPlace(t *testing.T) {
	t.Parallel()
	tests := []struct{ src, want string }{
		{"[tunnel\n", "1:8: a section begins with [tunnel] on a line of its own"},
		{"x = 1\n  device = office\n", nothingElse + "\n1:1: unknown key \"x\"\n2:3: unknown key \"device\": it belongs in [tun] or [tap]\n2:12: device: a string needs quotes: device = \"office\""},
		{"x = \"abc\n", nothingElse + "\n1:1: unknown key \"x\"\n1:5: x: the closing quote is missing"},
		{"x = 012\n", nothingElse + "\n1:1: unknown key \"x\"\n1:5: x: a number cannot begin with a zero"},
		{"x = 25s\n", nothingElse + "\n1:1: unknown key \"x\"\n1:7: expected a top-level item to end with a newline, comment, or EOF, but got 's' instead"},
		{"key\n", "1:1: want key = value, a [section] or a comment that begins with #\n" + nothingElse},
		{"ä = 1\n", "1:1: expected '.' or '=', but got 'ä' instead\n" + nothingElse},
		{"x = \"ä\\q\"\n", nothingElse + "\n1:1: unknown key \"x\"\n1:6: invalid escape in string '\\q'"},
		{"x = \"\"\"y", nothingElse + "\n1:1: unknown key \"x\"\n1:8: unexpected EOF; expected '\"\"\"'"},
		{"x = 1\x00", nothingElse + "\n1:1: unknown key \"x\"\n1:6: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8"},
		{"a.b = 1\na.b.c = 2\n", nothingElse + "\n1:1: unknown section \"a\"\n" + `2:1: key "a.b" has already been defined.`},
		{strings.Repeat("[", 100), "1:3: a section begins with its name in brackets on a line of its own, such as [tun] or [[peer]]"},
		{"x = " + strings.Repeat("[", 100), "1:21: nested too deeply"},
		{"x" + strings.Repeat(".x", 20) + " = 1\n", "1:34: nested too deeply"},
		{"\ufeff\ufeffa = 1\n", "1:1: this file begins with two byte order marks: save it as UTF-8 without any"},
		{"\xff\xfea = 1\n", "1:1: this file is UTF-16: save it as UTF-8"},
		{"\ufeffkey\n", "1:1: want key = value, a [section] or a comment that begins with #\n" + nothingElse},
		{"mtu = 1\r\nmtu = 2\r\nkey\r\n", nothingElse + "\n1:1: unknown key \"mtu\": it belongs in [tun] or [tap]\n2:1: \"mtu\" given twice: first at 1:1\n3:1: want key = value, a [section] or a comment that begins with #"},
	}
	for _, test := range tests {
		if got, want := report(test.src), prefixed(test.want); got != want {
			t.Errorf("got:\n%s\nwant:\n%s\nof:\n%q", got, want, test.src)
		}
	}
}

func TestLoad_checksTheInstanceName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ path, want string }{
		{"a/office.toml", ""},
		{"a/office.conf", ""},
		{"a/my office.toml", `a/my office.toml:1:1: instance name "my office", from the name of the file, has a character other than letters, digits and _=+.-`},
		{"a/.toml", `a/.toml:1:1: instance name "", from the name of the file, is empty`},
		{"a/.x.toml", `a/.x.toml:1:1: instance name ".x", from the name of the file, begins with a dot`},
		{"a/-x.toml", `a/-x.toml:1:1: instance name "-x", from the name of the file, begins like an option`},
		{"a/..toml", `a/..toml:1:1: instance name ".", from the name of the file, is the name of a directory`},
		{"a/headquarters-west.toml", `a/headquarters-west.toml:3:1: tun: device: set a name: that of the instance, "headquarters-west", is longer than 15 bytes`},
		{"a/default.toml", `a/default.toml:3:1: tun: device: set a name: that of the instance, "default", is reserved by the kernel`},
	} {
		_, err := load(test.path, testHost(map[string]string{test.path: tunSection, "a/office.key": privA}))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got  %s\nwant %s", test.path, got, test.want)
		}
	}
}

// prefixed puts the name of the file before each line.
func prefixed(want string) string {
	if want == "" {
		return ""
	}
	return "office.toml:" + strings.ReplaceAll(want, "\n", "\noffice.toml:")
}

// ownPublic is the public half of privA.
func ownPublic() string {
	priv, err := keys.ParsePrivate(privA)
	if err != nil {
		panic(err)
	}
	return priv.Public().String()
}
