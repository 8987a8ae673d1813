package statusview_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/netwatch"
	"tund/internal/statusview"
	"tund/route"
	"tund/tunnel"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

var start = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// office is an instance with a TUN and a TAP device and the peers berlin, with everything, and
// paris, whose name does not resolve.
func office() (*statusview.View, *tunnel.Status) {
	berlin, paris := keys.PublicKey{1}, keys.PublicKey{2}
	lan := netip.MustParsePrefix("10.1.0.0/16")
	s := &tunnel.Status{
		ListenPort: 51820, CookiesSent: 7,
		Devices: []tunnel.DeviceStatus{
			{Name: "office", Kind: tundev.TUN, Queues: 2, MTU: 1420, Features: tundev.Features{Checksum: true, USO: true}},
			{Name: "lan", Kind: tundev.TAP, Queues: 2, MTU: 1500,
				DeviceCounts: lane.DeviceCounts{Drops: map[string]uint64{"device-write": 2}}},
		},
		Peers: []tunnel.PeerStatus{
			{Name: "berlin", PublicKey: berlin, State: tunnel.StateUp, Endpoint: netip.MustParseAddrPort("192.0.2.1:1"),
				AllowedIPs: []netip.Prefix{lan}, Ethernet: true, Drops: map[string]uint64{"not-allowed": 1},
				Handshakes: tunnel.HandshakeCounts{Completed: 3, InitiationsSent: 4}},
			{Name: "paris", PublicKey: paris, State: tunnel.StateDown, LastError: "no answer",
				Handshakes: tunnel.HandshakeCounts{Failed: 2, InitiationsSent: 5}},
		},
		Ethernet: &tunnel.EthernetStatus{
			Limit: 100, Names: map[l2.PortID]string{l2.LocalPort: "lan", 1: "berlin"},
			Entries: []l2.Entry{{Port: 1, VLAN: 7, Kind: "learned", Age: time.Second, Moves: 3}},
			Ports: []l2.PortStatus{
				{ID: l2.LocalPort, Drops: map[string]uint64{"device-write": 1, "storm": 5}},
				{ID: 1, Entries: 9, Peer: l2.Hello{Ethernet: true, Hub: true}, Drops: map[string]uint64{"not-allowed": 10}},
			},
			Conditions: []tunnel.Condition{{Condition: l2.Condition{Text: "a loop was cut", Name: "berlin"}, Since: start.Add(time.Minute)}},
		},
	}
	v := &statusview.View{
		Process: statusview.Process{Version: "1.2.3", PID: 9, Host: "gw", Started: start}, Now: start.Add(time.Hour),
		Tunnel: s, Loaded: start, Lanes: 2,
		Config: &config.Config{
			Instance: "office", Tap: &config.Tap{Device: "lan", MaxMACsPerPeer: 50},
			Peers: []config.Peer{
				{Name: "berlin", PublicKey: berlin, Ethernet: true, AllowedIPs: []netip.Prefix{lan}},
				{Name: "paris", PublicKey: paris, Endpoints: []config.Endpoint{{Host: "p.example", Port: 1}}},
			},
		},
		Applied: route.Applied{State: route.State{Devices: []route.Device{
			{Name: "office", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}, Up: true},
			{Name: "lan", Bridge: "br0", Up: true},
		}}},
		Links:      map[string]netwatch.LinkState{"lan": {Up: false}},
		PathMTU:    map[netip.Addr]int{netip.MustParseAddr("192.0.2.1"): 1480},
		Unresolved: map[keys.PublicKey]string{paris: "endpoint p.example does not resolve: no such host"},
	}
	v.Sources = map[keys.PublicKey]statusview.Source{berlin: {Name: "file"}, paris: {Name: "file"}}
	for n := range v.Config.Peers {
		v.Peers = append(v.Peers, &v.Config.Peers[n])
	}
	return v, s
}

func TestInstance_devices(t *testing.T) {
	t.Parallel()
	v, _ := office()
	i := v.Instance()
	tun, tap := i.Devices[0], i.Devices[1]
	if tun.Kind != "tun" || tun.Queues != 2 || !tun.Offload || !tun.Up || !slices.Equal(tun.Features, []string{"checksum", "uso"}) ||
		!slices.Equal(tun.Addresses, []string{"10.9.0.1/24"}) {
		t.Errorf("TUN device: %+v", tun)
	}
	if tap.Kind != "tap" || tap.Bridge != "br0" || tap.Up {
		t.Errorf("TAP device: %+v, want down, as its link is", tap)
	}
	v, _ = office() // an interface without a file has the addresses that others gave it
	v.Applied = route.Applied{}
	v.Links["office"] = netwatch.LinkState{Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.1/24")}}
	if d := v.Instance().Devices[0]; !d.Up || !slices.Equal(d.Addresses, []string{"10.8.0.1/24"}) {
		t.Errorf("a device that others configure: %+v", d)
	}
}

func TestInstance_eachDropIsCountedOnce(t *testing.T) {
	t.Parallel()
	v, _ := office()
	i := v.Instance()
	if d := i.Devices[1].Drops; d["device-write"] != 3 || d["storm"] != 5 {
		t.Errorf("TAP device: %v, want what the lanes dropped and what the switch dropped", d)
	}
	if d := i.Peers[0].Drops; d["not-allowed"] != 11 {
		t.Errorf("peer: %v", d)
	}
}

func TestInstance_peers(t *testing.T) {
	t.Parallel()
	v, _ := office()
	i := v.Instance()
	berlin, paris := i.Peers[0], i.Peers[1]
	if berlin.PathMTU != 1480 || berlin.MACs != 9 || berlin.MaxMACs != 50 || !slices.Equal(berlin.Capabilities, []string{"ethernet", "hub"}) ||
		!slices.Equal(berlin.AllowedIPs, []string{"10.1.0.0/16"}) || berlin.LastError != "" {
		t.Errorf("berlin: %+v", berlin)
	}
	if paris.LastError != "endpoint p.example does not resolve: no such host" || !slices.Equal(paris.Endpoints, []string{"p.example:1"}) {
		t.Errorf("paris: %+v", paris)
	}
	if h := i.Handshakes; h.Completed != 3 || h.Failed != 2 || h.InitiationsTx != 9 || h.CookiesTx != 7 {
		t.Errorf("handshakes of all peers: %+v", h)
	}
	v, _ = office() // a routing loop says why there is no answer
	v.Problems = []statusview.Problem{{Kind: statusview.KindRoutingLoop, Subject: "paris", Message: "into the tunnel"},
		{Kind: statusview.KindRoutingLoop, Subject: "berlin", Message: "into the tunnel"}}
	i = v.Instance()
	if i.Peers[0].LastError != "" || i.Peers[1].LastError != "into the tunnel" {
		t.Errorf("last errors %q and %q, want that of the peer that is down", i.Peers[0].LastError, i.Peers[1].LastError)
	}
}

func TestInstance_warningsInOrderOfTheirBeginning(t *testing.T) {
	t.Parallel()
	v, s := office()
	v.Config.Warnings = []config.Warning{{File: "a.toml", Line: 1, Col: 2, Msg: "hm"}}
	v.Applied.Warnings = []string{"no nftables"}
	v.Problems = []statusview.Problem{{Kind: statusview.KindNetwork, Message: "refused", Since: start.Add(time.Second)}}
	s.Sockets = []udp.Features{{Fallbacks: 2}, {GSO: true, Fallbacks: 3}}
	var got []string
	for _, w := range v.Instance().Warnings {
		got = append(got, w.Kind+" "+w.Subject)
	}
	want := []string{"config a.toml", "dns paris", "network ", "offload ", "network ", "switch berlin"}
	slices.Sort(want[:4])
	slices.Sort(got[:4]) // these began together
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInstance_underlayIsWhatEverySocketCan(t *testing.T) {
	t.Parallel()
	all, some := udp.Features{GSO: true, GRO: true, IPv6: true}, udp.Features{GRO: true}
	for _, test := range []struct {
		sockets []udp.Features
		want    []string
	}{
		{nil, nil}, {[]udp.Features{all}, []string{"gso", "gro", "ipv6"}}, {[]udp.Features{all, some}, []string{"gro"}},
	} {
		v, s := office()
		s.Sockets = test.sockets
		if got := v.Instance().Underlay; !slices.Equal(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.sockets, got, test.want)
		}
	}
}

func TestInstance_saysWhatWasChangedAtRunTime(t *testing.T) {
	t.Parallel()
	differences := func(change func(*statusview.View, *tunnel.Status)) (all string) {
		v, s := office()
		mark := uint32(7)
		v.RunTime = statusview.RunTime{Since: start, File: v.Config, FwMark: &mark, FileMark: 7}
		change(v, s)
		for _, w := range v.Instance().Warnings {
			if w.Kind == "runtime" {
				all += w.Message + "\n"
			}
		}
		return strings.TrimSuffix(all, "\n")
	}
	if got := differences(func(*statusview.View, *tunnel.Status) {}); got != "" {
		t.Errorf("without a difference: %q", got)
	}
	got := differences(func(v *statusview.View, s *tunnel.Status) {
		v.Config.Tunnel.ListenPort, v.RunTime.FileMark = 1, 8
		s.Peers[0].Keepalive, s.Peers[0].AllowedIPs = time.Second, nil
		s.Peers[1] = tunnel.PeerStatus{PublicKey: keys.PublicKey{3}}
		s.Peers = append(s.Peers, tunnel.PeerStatus{PublicKey: keys.PublicKey{4}})
		s.Peers = append(s.Peers, tunnel.PeerStatus{PublicKey: keys.PublicKey{5}, Name: "oslo"})
		v.Sources[keys.PublicKey{3}] = statusview.Source{Name: "runtime"}
		v.Sources[keys.PublicKey{5}] = statusview.Source{Name: "runtime"}
		v.Sources[keys.PublicKey{4}] = statusview.Source{Name: "agent"}
	})
	want := "added at run time, and gone with the next restart: peer " + keys.PublicKey{3}.Short() + ", peer oslo\n" +
		"changed at run time, and gone with the next reload: listen port 51820, fwmark 0x7, " +
		"peer berlin (keepalive, allowed IPs), peer paris removed"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = differences(func(v *statusview.View, _ *tunnel.Status) {
		for n := range 20 {
			v.Config.Peers = append(v.Config.Peers, config.Peer{Name: "x", PublicKey: keys.PublicKey{9, byte(n)}})
		}
	})
	if !strings.HasSuffix(got, ", 12 more") || strings.Count(got, "removed") != 8 {
		t.Errorf("many differences: %q, want 8 of them and the number of the rest", got)
	}
}

func TestInstance_holdsNoSecret(t *testing.T) {
	t.Parallel()
	v, s := office()
	secret := keys.PrivateKey{}
	for n := range secret {
		secret[n] = 0xab
	}
	s.PrivateKey, s.Peers[0].PresharedKey = secret, keys.PresharedKey(secret)
	v.Config.Tunnel.PrivateKey = secret
	text, err := json.Marshal(v.Instance())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret.Base64()) || strings.Contains(strings.ToLower(string(text)), "abababab") {
		t.Errorf("a key in %s", text)
	}
	if !v.Instance().Peers[0].PresharedKey {
		t.Error("it is not said that there is a preshared key")
	}
}

func TestFDB_isEmptyWithoutATAPDevice(t *testing.T) {
	t.Parallel()
	if got := statusview.FDB("office", nil, nil); got.Name != "office" || got.FDB != nil || got.Limit != 0 {
		t.Errorf("got %+v", got)
	}
	_, s := office()
	got := statusview.FDB("office", s.Ethernet, nil)
	want := control.FDBEntry{MAC: "00:00:00:00:00:00", VLAN: 7, Port: "berlin", Kind: "learned", AgeS: 1, Moves: 3}
	if got.Limit != 100 || len(got.FDB) != 1 || !reflect.DeepEqual(got.FDB[0], want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestInstance_thoseWhoGetNoSession(t *testing.T) {
	t.Parallel()
	v, s := office()
	key := keys.PublicKey{7}
	s.Strangers = []tunnel.Stranger{{PublicKey: key, Endpoint: netip.MustParseAddrPort("198.51.100.1:4"), First: start}}
	s.WrongKey = &tunnel.WrongKey{From: netip.MustParseAddrPort("203.0.113.1:5"), Since: start}
	found := 0
	for _, w := range v.Instance().Warnings {
		switch w.Kind {
		case "unknown-peer":
			found++
			if !strings.Contains(w.Message, "198.51.100.1:4") || !strings.Contains(w.Remedy, `public_key = "`+key.String()+`"`) {
				t.Errorf("%q, %q", w.Message, w.Remedy)
			}
		case "wrong-key":
			found++
			if !strings.Contains(w.Message, "unauthenticated") || !strings.Contains(w.Remedy, s.PublicKey.String()) {
				t.Errorf("%q, %q", w.Message, w.Remedy)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d warnings, want 2", found)
	}
}

func TestInstance_previousKey(t *testing.T) {
	t.Parallel()
	said := func(change func(*tunnel.Status)) (list []string) {
		v, s := office()
		change(s)
		for _, w := range v.Instance().Warnings {
			if w.Kind == "previous-key" {
				list = append(list, w.Message+"; "+w.Remedy)
			}
		}
		return list
	}
	if got := said(func(*tunnel.Status) {}); len(got) != 0 {
		t.Errorf("without a previous key: %q", got)
	}
	old := keys.PublicKey{7}
	if got := said(func(s *tunnel.Status) { s.PreviousKey = old }); len(got) != 1 ||
		!strings.Contains(got[0], "no session uses it") || !strings.Contains(got[0], "remove previous_private_key_file") {
		t.Errorf("with one that nobody uses: %q", got)
	}
	var own keys.PublicKey
	if got := said(func(s *tunnel.Status) {
		s.PreviousKey, own = old, s.PublicKey
		s.Peers[0].Session = &tunnel.SessionStatus{Own: old}
	}); len(got) != 1 || !strings.Contains(got[0], "still use our previous key: ") || !strings.Contains(got[0], own.String()) {
		t.Errorf("with one that a peer uses: %q", got)
	}
}

// A peer whose name has no address is down, not idle: nobody can reach it.
func TestInstance_nameThatDoesNotResolve(t *testing.T) {
	t.Parallel()
	v, s := office()
	s.Peers[1].State, s.Peers[1].LastError = tunnel.StateIdle, ""
	if p := v.Instance().Peers[1]; p.State != control.StateDown || !strings.Contains(p.LastError, "does not resolve") {
		t.Errorf("%s, %q", p.State, p.LastError)
	}
}

// A peer has ethernet = true for us, and we have no [tap]: its frames go nowhere.
func TestInstance_peerWantsFramesOfAnInstanceWithoutTAP(t *testing.T) {
	t.Parallel()
	v, s := office()
	s.Peers[0].WantsFrames = true
	for _, w := range v.Instance().Warnings {
		if w.Cause == "unwanted-ethernet" && w.Subject == "berlin" && strings.Contains(w.Remedy, "[tap]") {
			return
		}
	}
	t.Errorf("nobody says so: %+v", v.Instance().Warnings)
}

func TestInstance_whatCarriesPackets(t *testing.T) {
	t.Parallel()
	v, s := office()
	s.Peers[0].Session = &tunnel.SessionStatus{Suite: "aes-256-gcm", Lanes: 2, PostQuantum: true}
	s.Peers[0].Lanes = []peer.LaneCounts{{RxPackets: 1, TxPackets: 2}, {RxPackets: 3, TxPackets: 4}}
	s.Peers[1].Session = &tunnel.SessionStatus{Suite: "chacha20-poly1305", Lanes: 1, DataTrouble: "no answer"}
	i := v.Instance()
	if p := i.Peers[0]; p.Suite != "aes-256-gcm" || p.Lanes != 2 || !p.PostQuantum || p.DataSessionsError != "" ||
		!slices.Equal(p.LanesDetail, []control.Lane{{RxPackets: 1, TxPackets: 2}, {RxPackets: 3, TxPackets: 4}}) {
		t.Errorf("with data sessions: %+v", p)
	}
	if p := i.Peers[1]; p.Suite != "chacha20-poly1305" || p.Lanes != 1 || p.PostQuantum || p.DataSessionsError != "no answer" ||
		p.LanesDetail == nil || len(p.LanesDetail) != 0 {
		t.Errorf("without: %+v", p)
	}
}

// The bridge says where a local address is; what a host's address is and what is blocked comes from
// the switch.
func TestFDB_showsWhereAHostIs(t *testing.T) {
	t.Parallel()
	s := &tunnel.EthernetStatus{
		Names: map[l2.PortID]string{l2.LocalPort: "tap0", 1: "berlin"},
		Entries: []l2.Entry{
			{MAC: 1, Port: l2.LocalPort, Kind: l2.KindLocal, Age: time.Minute, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
			{MAC: 2, Port: 1, Kind: l2.KindLearned, Blocked: true, Frozen: 3 * time.Second},
		},
		Ports: []l2.PortStatus{{ID: 1, Blocked: []uint16{0}}},
	}
	got := statusview.FDB("office", s, func(mac l2.MAC, _ uint16) (statusview.Place, bool) {
		return statusview.Place{Port: "eth1", Idle: 2 * time.Second}, mac == 1 || mac == 2
	})
	want := control.FDBInstance{
		Name: "office", Blocked: []control.BlockedPort{{Port: "berlin"}},
		FDB: []control.FDBEntry{
			{MAC: "00:00:00:00:00:01", Port: "tap0", Kind: "local", AgeS: 2, IPs: []string{"10.0.0.1"}, BridgePort: "eth1"},
			{MAC: "00:00:00:00:00:02", Port: "berlin", Kind: "learned", Frozen: true, FrozenS: 3, Blocked: true},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A condition of the switch that is as it should be is a note.
func TestInstance_notes(t *testing.T) {
	t.Parallel()
	v, s := office()
	s.Ethernet.Conditions[0].Note, s.Ethernet.Conditions[0].Kind = true, l2.CondRedundant
	i := v.Instance()
	if len(i.Notes) != 1 || i.Notes[0].Subject != "berlin" || i.Notes[0].Cause != "redundant-gateway" {
		t.Errorf("notes %+v", i.Notes)
	}
	for _, w := range i.Warnings {
		if w.Kind == "switch" {
			t.Errorf("it is a warning: %+v", w)
		}
	}
}
