package config

import (
	"strings"
	"testing"
)

// firstHour has the mistakes that people make in their first hour with tund: what they write, put
// into a file that is otherwise right, and every word that they are told.
var firstHour = []messageTest{
	// Syntax: the other lines of the file are still checked.
	{"unquoted address", tunSection + "address = 10.9.0.1/24\n",
		`4:11: address: needs quotes and brackets: address = ["10.9.0.1/24"]`},
	{"unquoted addresses in a list", tunSection + "address = [10.9.0.1/24, fd09::1/64]\n",
		`4:11: address: the values of a list need quotes: address = ["10.9.0.1/24", "fd09::1/64"]`},
	{"unquoted address over lines", tunSection + "address = [\n  10.9.0.1/24,\n]\nmtu = 1\n",
		`4:11: address: the values of a list need quotes: address = ["10.9.0.1/24", "fd09::1/64"]
7:7: tun: mtu: 1 is out of range (0, or 576 to 65455)`},
	{"unquoted addresses with commas", tunSection + "address = 10.9.0.1/24, fd09::1/64\n",
		`4:11: address: needs quotes and brackets: address = ["10.9.0.1/24", "fd09::1/64"]`},
	{"list without brackets", tunSection + "address = \"10.9.0.1/24\", \"fd09::1/64\"\n",
		`4:11: address: several values need brackets around them: address = ["10.9.0.1/24", "fd09::1/64"]`},
	{"unquoted endpoint", peerSection + "endpoint = berlin.example.org:51820\n",
		`6:12: endpoint: a string needs quotes: endpoint = "berlin.example.org:51820"`},
	{"unquoted IPv6 endpoint", peerSection + "endpoint = 2001:db8::1:51820\n",
		`6:12: endpoint: a string needs quotes: endpoint = "berlin.example.org:51820"`},
	{"unquoted public key", tunSection + "[[peer]]\npublic_key = " + pubB + "\n" + callable + "allowed_ips = [\"10.9.0.0/16\"]\n",
		`5:14: public_key: a string needs quotes: public_key = "…"`},
	{"unquoted private key", "[tunnel]\nprivate_key = " + privA + "\n[tun]\n",
		`2:15: private_key: a string needs quotes: private_key = "…"`},
	{"unquoted choice", tunSection + "routes = off\n",
		`4:10: routes: a string needs quotes: routes = "off"`},
	{"typographic quotes", tunSection + "address = [“10.9.0.1/24”]\n",
		`4:12: use straight quotes, "like this"`},
	{"typographic quotes around a key", "[tunnel]\nprivate_key = “" + privA + "”\n[tun]\n",
		`2:15: use straight quotes, "like this"`},
	{"backticks", tunSection + "device = `office`\n",
		`4:10: use straight quotes, "like this"`},
	{"no-break space", tunSection + "mtu =\u00a01400\n",
		`4:6: an invisible character stands here: replace it with a plain space`},
	{"closing quote missing", tunSection + "device = \"office\nmtu = 1\n",
		`4:10: device: the closing quote is missing
5:7: tun: mtu: 1 is out of range (0, or 576 to 65455)`},
	{"closing bracket missing", tunSection + "address = [\"10.9.0.1/24\"\nmtu = 1\n",
		`4:11: address: the closing bracket is missing
5:7: tun: mtu: 1 is out of range (0, or 576 to 65455)`},
	{"colon", tunSection + "mtu: 1400\n",
		`4:1: want key = value, with "=" instead of ":"`},
	{"semicolon at the end", tunSection + "device = \"office\";\n",
		`4:10: device: nothing may follow the value but a comment, which begins with #`},
	{"comment with a semicolon", tunSection + "; the office\nmtu = 1\n",
		`4:1: a comment begins with #
5:7: tun: mtu: 1 is out of range (0, or 576 to 65455)`},
	{"comment with slashes", tunSection + "// the office\n",
		`4:1: a comment begins with #`},
	{"no value", tunSection + "mtu =\n",
		`4:6: mtu: the value is missing`},
	{"a word alone", tunSection + "offload\n",
		`4:1: want key = value, a [section] or a comment that begins with #`},
	{"upper-case boolean", tapSection + "hub = True\n",
		`5:7: hub: want true or false, in lower case`},
	{"yes", tapSection + "hub = yes\n",
		`5:7: hub: want true or false, in lower case`},
	{"leading zero", tunSection + "mtu = 01400\n",
		`4:7: mtu: a number cannot begin with a zero`},
	{"broken header", tunSection + "[[peer]\n",
		`4:7: a section begins with [[peer]] on a line of its own`},
	{"three faulty lines", tunSection + "address = 10.9.0.1/24\nmtu = 1400 bytes\n" +
		"[[peer]]\npublic_key = “x”\nendpoint = \"berlin\"\n",
		`4:11: address: needs quotes and brackets: address = ["10.9.0.1/24"]
5:7: mtu: want a number, without quotes and without a unit: mtu = 1400
7:14: use straight quotes, "like this"
8:12: peer 1: endpoint: missing port (want host:port)`},
	{"CRLF", strings.ReplaceAll(tunSection+"mtu = 1\n", "\n", "\r\n"),
		`4:7: tun: mtu: 1 is out of range (0, or 576 to 65455)`},
	{"byte order mark and tabs", "\ufeff[tunnel]\n\tprivate_key_file\t=\t\"office.key\"\n[tun]\n\tmtu\t=\t1\n",
		`4:8: tun: mtu: 1 is out of range (0, or 576 to 65455)`},

	// Files of other programs.
	{"wg-quick", "[Interface]\nPrivateKey = " + privA + "\nAddress = 10.9.0.1/24\nPostUp = iptables -A FORWARD -i %i -j ACCEPT\n" +
		"\n[Peer]\nPublicKey = " + pubB + "\nAllowedIPs = 10.9.0.2/32\n",
		"1:1: this is a wg-quick file: convert it with `tunctl import office.toml`"},
	{"wg-quick, comments first", "# berlin\r\n\r\n[interface]\r\nprivatekey=" + privA + "\r\n",
		"3:1: this is a wg-quick file: convert it with `tunctl import office.toml`"},
	{"a part of wg-quick", tunSection + "[Peer]\nPublicKey = " + pubB + "\nAllowedIPs = 10.9.0.2/32\n",
		`4:1: unknown section "Peer": did you mean [[peer]]?
5:1: peer 1: unknown key "PublicKey": did you mean "public_key"?
5:13: PublicKey: a string needs quotes: public_key = "…"
6:1: peer 1: unknown key "AllowedIPs": did you mean "allowed_ips"?
6:14: AllowedIPs: needs quotes and brackets: allowed_ips = ["10.9.0.2/32"]`},
	{"JSON", "{\"tunnel\": {}}\n",
		`1:1: this looks like JSON: want TOML, as docs/config.md describes it`},
	{"a key file", privA + "\n",
		`1:1: this is a key file, not a configuration`},
	{"UTF-16", "\xff\xfe[\x00t\x00",
		`1:1: this file is UTF-16: save it as UTF-8`},

	// Sections and keys.
	{"one bracket", tunSection + "[peer]\npublic_key = \"" + pubB + "\"\n" + callable + "allowed_ips = [\"10.0.0.1/33\"]\n",
		`4:1: write [[peer]], with two brackets, before each peer
7:16: peer 1: allowed_ips: "10.0.0.1/33" has length "33", which is not 0 to 32`},
	{"one bracket twice", tunSection + "[peer]\npublic_key = \"" + pubB + "\"\n[peer]\npublic_key = \"" + pubC + "\"\n",
		`4:1: write [[peer]], with two brackets, before each peer
6:1: write [[peer]], with two brackets, before each peer: [peer] can stand only once`},
	{"one bracket later", peerSection + usable + "[peer]\npublic_key = \"" + pubC + "\"\n",
		`8:1: write [[peer]], with two brackets, before each peer: [peer] can stand only once`},
	{"two brackets", tunnelSection + "[[tun]]\n",
		`3:1: tun: want one section [tun], not a list`},
	{"other case", "[Tunnel]\nPrivate_Key_File = \"office.key\"\n[TUN]\nMTU = 1400\n",
		`1:1: unknown section "Tunnel": did you mean [tunnel]?
2:1: tunnel: unknown key "Private_Key_File": did you mean "private_key_file"?
3:1: unknown section "TUN": did you mean [tun]?
4:1: tun: unknown key "MTU": did you mean "mtu"?`},
	{"names of wg-quick", tunSection + "[[peer]]\nPublicKey = \"" + pubB + "\"\nEndpoint = \"192.0.2.1:1\"\n" +
		"AllowedIPs = [\"10.9.0.2/32\"]\nPersistentKeepalive = 25\n",
		`5:1: peer 1: unknown key "PublicKey": did you mean "public_key"?
6:1: peer 1: unknown key "Endpoint": did you mean "endpoint"?
7:1: peer 1: unknown key "AllowedIPs": did you mean "allowed_ips"?
8:1: peer 1: unknown key "PersistentKeepalive": did you mean "keepalive"?`},
	{"Interface for tunnel", "[Interface]\nprivate_key_file = \"office.key\"\nlisten_port = 51820\n[tun]\n",
		`1:1: unknown section "Interface": did you mean [tunnel]?`},
	{"endpoint in tunnel", "[tunnel]\nprivate_key_file = \"office.key\"\nendpoint = \"192.0.2.1:1\"\n[tun]\n",
		`3:1: tunnel: unknown key "endpoint": it belongs in [[peer]]`},
	{"address in tunnel", "[tunnel]\nprivate_key_file = \"office.key\"\nAddress = [\"10.9.0.1/24\"]\n[tun]\n",
		`3:1: tunnel: unknown key "Address": "address" belongs in [tun] or [tap]`},
	{"port in tun", tunSection + "ListenPort = 51820\n",
		`4:1: tun: unknown key "ListenPort": "listen_port" belongs in [tunnel]`},
	{"post_up", tunSection + "post_up = \"sysctl -w net.ipv4.ip_forward=1\"\n",
		`4:1: tun: unknown key "post_up": tund runs no commands: use ExecStartPost= in a drop-in of tund@.service`},
	{"PostUp", tunSection + "PostUp = [\"iptables -A FORWARD -j ACCEPT\"]\n",
		`4:1: tun: unknown key "PostUp": tund runs no commands: use ExecStartPost= in a drop-in of tund@.service`},
	{"dns in tunnel", "[tunnel]\nprivate_key_file = \"office.key\"\nDNS = [\"10.9.0.53\"]\n[tun]\n",
		`3:1: tunnel: unknown key "DNS": "dns" belongs in [tun]`},
	{"SaveConfig", tunSection + "SaveConfig = true\n",
		`4:1: tun: unknown key "SaveConfig": tund never writes to its configuration`},
	{"swapped letters", peerSection + usable + "enpdoint = \"192.0.2.1:1\"\n",
		`8:1: peer 1: unknown key "enpdoint": did you mean "endpoint"?`},
	{"key twice", tunSection + "mtu = 1400\nmtu = 1380\n",
		`5:1: "mtu" given twice: first at 4:1`},
	{"neither tun nor tap", tunnelSection,
		`1:1: no device: give [tun], [tap] or both`},

	// Keys and secrets.
	{"placeholder", tunSection + "[[peer]]\npublic_key = \"PutThePublicKeyOfBerlinHere0000000000000000=\"\n" + usable,
		`5:14: peer 1: public_key: is the placeholder from an example: put a real key in its place`},
	{"placeholder in words", tunSection + "[[peer]]\npublic_key = \"<public key of berlin>\"\n" + usable,
		`5:14: peer 1: public_key: is the placeholder from an example: put a real key in its place`},
	{"padding", tunSection + "[[peer]]\npublic_key = \"berlinxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxw=\"\n" + usable,
		`5:14: peer 1: public_key: is the placeholder from an example: put a real key in its place`},
	{"placeholder for the private key", "[tunnel]\nprivate_key = \"PutThePrivateKeyHere00000000000000000000000=\"\n[tun]\n",
		`2:15: tunnel: private_key: is the placeholder from an example: put a real key in its place`},
	{"zero key", tunSection + "[[peer]]\npublic_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n" + usable,
		`5:14: peer 1: public_key: is all zeros, which is not a key`},
	{"low-order key", tunSection + "[[peer]]\npublic_key = \"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n" + usable,
		`5:14: peer 1: public_key: is a low-order point, with which no handshake can succeed`},
	{"our private key at a peer", tunSection + "[[peer]]\npublic_key = \"" + privA + "\"\n" + usable,
		`5:14: peer 1: public_key: is our own private key, that of 2:20: put the public key of the peer here`},
	{"our private key, not clamped", tunSection + "[[peer]]\npublic_key = \"AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n" + usable,
		`5:14: peer 1: public_key: is our own private key, that of 2:20: put the public key of the peer here`},
	{"our public key at a peer", tunSection + "[[peer]]\npublic_key = \"" + ownPublic() + "\"\n" + usable,
		`5:14: peer 1: public_key: is our own public key, that of the private key at 2:20: put that of the peer here`},
	{"our private key as preshared key", peerSection + usable + "preshared_key = \"" + privA + "\"\n",
		"8:17: peer 1: preshared_key: is our own private key, which is shared with nobody: make one with `tunctl genpsk`"},
	{"the peer's public key as preshared key", peerSection + usable + "preshared_key = \"" + pubB + "\"\n",
		"8:17: peer 1: preshared_key: is the public key of the peer, which is no secret: make one with `tunctl genpsk`"},
	{"last character cut off", tunSection + "[[peer]]\npublic_key = \"" + pubB[:43] + "\"\n" + usable,
		`5:14: peer 1: public_key: has 43 characters: the "=" at the end of the key is missing`},
	{"hexadecimal key", tunSection + "[[peer]]\npublic_key = \"" + strings.Repeat("0f", 32) + "\"\n" + usable,
		`5:14: peer 1: public_key: is hexadecimal: want the same key in base64, 44 characters`},
	{"space around a key", tunSection + "[[peer]]\npublic_key = \" " + pubB + "\"\n" + usable,
		`5:14: peer 1: public_key: has spaces or line breaks around the key`},
	{"file name as key", "[tunnel]\nprivate_key = \"office.key\"\n[tun]\n",
		`2:15: tunnel: private_key: is the name of a file: use private_key_file`},
	{"key as file name", "[tunnel]\nprivate_key_file = \"" + privA + "\"\n[tun]\n",
		`2:20: tunnel: private_key_file: looks like a key, but the name of a file is expected (not shown)`},
	{"key file missing", "[tunnel]\nprivate_key_file = \"offcie.key\"\n[tun]\n",
		"2:20: tunnel: private_key_file: open offcie.key: file does not exist: make one with `tunctl genkey`, mode 0600"},
	{"one public key at two peers", peerSection + usable + "[[peer]]\npublic_key = \"" + pubB + "\"\n",
		`9:14: peer 2: public_key: is also the key of peer 1, at 5:14`},

	// Addresses.
	{"network address", tunSection + "address = [\"10.9.0.0/24\"]\n",
		`4:12: tun: address: "10.9.0.0/24" is the network itself: give the address of this host in it, such as 10.9.0.1/24`},
	{"network address, IPv6", tunSection + "address = [\"fd09::/64\"]\n",
		`4:12: tun: address: "fd09::/64" is the network itself: give the address of this host in it, such as fd09::1/64`},
	{"broadcast address", tunSection + "address = [\"10.9.0.255/24\"]\n",
		`4:12: tun: address: "10.9.0.255/24" is the broadcast address of its network: give the address of this host in it`},
	{"short networks", tunSection + "address = [\"10.9.0.0/31\", \"10.9.1.0/32\", \"10.9.1.3/31\", \"fd09::/127\", \"fd0a::/128\", \"fd0b::ffff/64\"]\n", ""},
	{"networks of four", tunSection + "address = [\"10.9.0.0/30\", \"10.9.1.3/30\", \"fd09::/126\"]\n",
		`4:12: tun: address: "10.9.0.0/30" is the network itself: give the address of this host in it, such as 10.9.0.1/30
4:27: tun: address: "10.9.1.3/30" is the broadcast address of its network: give the address of this host in it
4:42: tun: address: "fd09::/126" is the network itself: give the address of this host in it, such as fd09::1/126`},
	{"host bits further up", tunSection + "address = [\"10.9.0.0/8\", \"10.9.0.255/16\"]\n", ""},
	{"netmask", tunSection + "address = [\"10.9.0.1/255.255.255.0\"]\n",
		`4:12: tun: address: "10.9.0.1/255.255.255.0" has a netmask: write 10.9.0.1/24`},
	{"loopback", tunSection + "address = [\"127.0.0.1/8\"]\n",
		`4:12: tun: address: "127.0.0.1/8" is a loopback address, which no peer can reach`},
	{"one string", tunSection + "address = \"10.9.0.1/24\"\n",
		`4:11: tun: address: want a list: address = ["10.9.0.1/24"]`},
	{"two in one string", tunSection + "address = [\"10.9.0.1/24, fd09::1/64\"]\n",
		`4:12: tun: address: "10.9.0.1/24, fd09::1/64" is more than one: put each in quotes of its own: ["10.20.0.0/16", "fd00::/64"]`},
	{"spaces", tunSection + "address = [\" 10.9.0.1/24\", \"10.9.1.1 /24\"]\n",
		`4:12: tun: address: " 10.9.0.1/24" has spaces around it
4:28: tun: address: "10.9.1.1 /24" has spaces in it (want 10.20.0.0/16 or fd00::/64)`},
	{"port", peerSection + callable + "allowed_ips = [\"10.9.0.2:51820\"]\n",
		`7:16: peer 1: allowed_ips: "10.9.0.2:51820" has a port, which belongs in endpoint`},
	{"our address allowed", tunSection + "address = [\"10.9.0.1/24\", \"fd09::1/64\"]\n[[peer]]\npublic_key = \"" + pubB + "\"\n" +
		callable + "allowed_ips = [\"10.9.0.1/32\", \"fd09::1\"]\n",
		`8:16: peer 1: allowed_ips: 10.9.0.1 is our own address: list the addresses behind the peer
8:31: peer 1: allowed_ips: fd09::1 is our own address: list the addresses behind the peer`},
	{"our address inside what is allowed", tunSection + "address = [\"10.9.0.0/31\"]\n[[peer]]\npublic_key = \"" + pubB + "\"\n" +
		callable + "allowed_ips = [\"10.9.0.1/32\", \"10.9.0.0/31\", \"10.9.0.0/24\"]\n", ""},
	{"our address on the TAP allowed", tunSection + "address = [\"10.9.0.1/24\"]\n[tap]\ndevice = \"lan\"\naddress = [\"10.8.0.1/24\"]\n" +
		"[[peer]]\npublic_key = \"" + pubB + "\"\n" + callable + "allowed_ips = [\"10.8.0.1\"]\n",
		`11:16: peer 1: allowed_ips: 10.8.0.1 is our own address: list the addresses behind the peer`},
	{"host bits", peerSection + callable + "allowed_ips = [\"10.20.0.1/16\"]\n",
		`7:16: warning: peer 1: allowed_ips: 10.20.0.1/16 has host bits set: 10.20.0.0/16 is used, as wg(8) does`},
	{"everything, without a length", peerSection + callable + "allowed_ips = [\"0.0.0.0\", \"::\"]\n",
		`7:16: peer 1: allowed_ips: "0.0.0.0" is not the address of a host: did you mean 0.0.0.0/0?
7:27: peer 1: allowed_ips: "::" is not the address of a host: did you mean ::/0?`},
	{"everything, in a word", peerSection + callable + "allowed_ips = [\"any\"]\n",
		`7:16: peer 1: allowed_ips: "any" is not an address (for everything, want ["0.0.0.0/0", "::/0"])`},
	{"same prefix at two peers", peerSection + usable + secondPeer + "allowed_ips = [\"10.0.0.0/8\"]\n",
		`10:16: peer 2: allowed_ips: 10.0.0.0/8 is also an allowed IP of peer 1, at 7:16; if one stands in for the other, give the preferred one a priority`},
	{"same prefix, other spelling", peerSection + usable + secondPeer + "allowed_ips = [\"10.1.2.3/8\"]\n",
		`10:16: peer 2: allowed_ips: 10.0.0.0/8 is also an allowed IP of peer 1, at 7:16; if one stands in for the other, give the preferred one a priority`},
	{"nested prefixes", peerSection + usable + secondPeer + "allowed_ips = [\"10.1.0.0/16\", \"10.1.2.3\"]\n", ""},

	// Endpoints and numbers.
	{"no port", peerSection + "endpoint = \"berlin.example.org\"\n",
		`6:12: peer 1: endpoint: missing port (want host:port)`},
	{"no port, IPv4", peerSection + "endpoint = \"192.0.2.1\"\n",
		`6:12: peer 1: endpoint: missing port (want host:port)`},
	{"no brackets", peerSection + "endpoint = \"2001:db8::1:51820\"\n",
		`6:12: peer 1: endpoint: an IPv6 address needs brackets, and a port after them (want [2001:db8::1]:51820)`},
	{"no brackets, in full", peerSection + "endpoint = \"2001:db8:0:0:0:0:0:1:51820\"\n",
		`6:12: peer 1: endpoint: an IPv6 address needs brackets, and a port after them (want [2001:db8::1]:51820)`},
	{"no brackets and no port", peerSection + "endpoint = \"2001:db8::1\"\n",
		`6:12: peer 1: endpoint: an IPv6 address needs brackets, and a port after them (want [2001:db8::1]:51820)`},
	{"brackets, no port", peerSection + "endpoint = \"[2001:db8::1]\"\n",
		`6:12: peer 1: endpoint: missing port (want host:port)`},
	{"URL", peerSection + "endpoint = \"udp://192.0.2.1:51820\"\n",
		`6:12: peer 1: endpoint: "udp://192.0.2.1:51820" is a URL (want host:port)`},
	{"space before the port", peerSection + "endpoint = \"berlin.example.org 51820\"\n",
		`6:12: peer 1: endpoint: "berlin.example.org 51820" has spaces or commas: want host:port, or a list: ["one:51820", "two:51820"]`},
	{"two in one", peerSection + "endpoint = \"192.0.2.1:1, 192.0.2.2:1\"\n",
		`6:12: peer 1: endpoint: "192.0.2.1:1, 192.0.2.2:1" has spaces or commas: want host:port, or a list: ["one:51820", "two:51820"]`},
	{"port alone", peerSection + "endpoint = \":51820\"\n",
		`6:12: peer 1: endpoint: missing host (want host:port)`},
	{"large port", peerSection + "endpoint = \"192.0.2.1:518200\"\n",
		`6:12: peer 1: endpoint: port "518200" is not a number from 1 to 65535`},
	{"duration", peerSection + usable + "keepalive = 25s\n",
		`8:13: keepalive: want a number of seconds, without a unit: keepalive = 25`},
	{"duration in quotes", peerSection + usable + "keepalive = \"1m\"\n",
		`8:13: peer 1: keepalive: want a number of seconds, without a unit: keepalive = 60`},
	{"number in quotes", peerSection + usable + "keepalive = \"25\"\n",
		`8:13: peer 1: keepalive: want a number, without quotes and without a unit: keepalive = 25`},
	{"fraction", peerSection + usable + "keepalive = 25.0\n",
		`8:13: peer 1: keepalive: want a number of seconds, not a fraction`},
	{"off for a number", peerSection + usable + "keepalive = \"off\"\n",
		`8:13: peer 1: keepalive: want a number of seconds, not a string`},
	{"port in quotes", "[tunnel]\nprivate_key_file = \"office.key\"\nlisten_port = \"51820\"\n[tun]\n",
		`3:15: tunnel: listen_port: want a number, without quotes and without a unit: listen_port = 51820`},
	{"boolean in quotes", tapSection + "hub = \"true\"\n",
		`5:7: tap: hub: want true or false, without quotes, not a string`},
	{"boolean for a choice", "[tunnel]\nprivate_key_file = \"office.key\"\noffload = true\n[tun]\n",
		`3:11: tunnel: offload: want "auto" or "off", not a boolean`},
	{"long device", tunSection + "device = \"headquarters-west\"\n",
		`4:10: tun: device: "headquarters-west" is longer than 15 bytes`},
	{"no [tap]", peerSection + usable + "ethernet = true\n",
		`8:12: peer 1: ethernet: there is no [tap] section`},
}

func TestLoad_namesTheMistakesOfTheFirstHour(t *testing.T) {
	t.Parallel()
	checkMessages(t, firstHour)
}

// TestLoad_namesTheFileOfWgQuickAsItIsCalled: the command in the message can be pasted.
func TestLoad_namesTheFileOfWgQuickAsItIsCalled(t *testing.T) {
	t.Parallel()
	const path = "/etc/wireguard/wg0.conf"
	_, err := load(path, testHost(map[string]string{path: "[Interface]\nPrivateKey = " + privA + "\n"}))
	want := path + ":1:1: this is a wg-quick file: convert it with `tunctl import " + path + "`"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
