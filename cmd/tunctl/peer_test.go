package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"tund/internal/control"
	"tund/internal/screen/screentest"
)

func TestPeer_listAndShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(screentest.Office())
	w.expect(0, "branch-berlin", "", "peer")
	w.expect(0, "branch-oslo", "", "peer", "list")
	w.expect(0, `"schema": "tund.status/v1"`, "", "peer", "list", "--json")
	w.expect(0, "branch-berlin  ● up", "", "peer", "show", "branch-b")
	w.expect(1, "", `no peer "munich"`, "peer", "show", "munich")
}

func TestPeer_changesAreOfTheRunningInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	berlin := f.instance.Peers[0].PublicKey
	name := f.instance.Peers[0].Name
	psk := newKey(t).Base64()
	file := w.write("x.psk", psk+"\n")
	for _, c := range []struct {
		args []string
		said string
		want control.PeerChange
	}{
		{[]string{"peer", "add", "paris", "--public-key", "KEY", "--endpoint", "a:1,b:2", "--keepalive", "25"},
			"office: peer paris added, in force now; a reload or restart returns to the configuration (--save writes it there)\n",
			control.PeerChange{Op: "add", Values: map[string]any{"name": "paris", "public_key": "KEY", "endpoint": []any{"a:1", "b:2"}, "keepalive": int64(25)}}},
		{[]string{"peer", "set", name, "--allowed-ips", "", "--preshared-key-file", file, "--ethernet=false"},
			"peer " + name + " changed, in force now; a reload",
			control.PeerChange{Op: "set", Peer: berlin, Values: map[string]any{"allowed_ips": []any{}, "preshared_key": psk, "ethernet": false}}},
		{[]string{"peer", "set", name, "--preshared-key-file", ""}, "changed",
			control.PeerChange{Op: "set", Peer: berlin, Values: map[string]any{"preshared_key": nil}}},
		{[]string{"peer", "set", name, "--vlans", "5,7-9", "--trust", "", "--priority", "0", "--extensions", "off"}, "changed",
			control.PeerChange{Op: "set", Peer: berlin, Values: map[string]any{
				"vlans": []any{int64(5), "7-9"}, "trust": []any{}, "priority": int64(0), "extensions": "off",
			}}},
		{[]string{"peer", "remove", name}, "removed, in force now; a reload", control.PeerChange{Op: "remove", Peer: berlin}},
	} {
		w.expect(0, c.said, "", c.args...)
		got, _ := f.changed.Load().(control.PeerChange)
		if got.Op != c.want.Op || got.Peer != c.want.Peer || !reflect.DeepEqual(got.Values, c.want.Values) {
			t.Errorf("%v: the instance got %s %s %#v", c.args, got.Op, got.Peer, got.Values)
		}
	}
	w.expect(2, "", "nothing to change", "peer", "set", name)
	w.expect(2, "", "--public-key: give", "peer", "add", "x")
	w.expect(2, "", "--config is for --save", "peer", "remove", name, "-c", file)
}

// Each key of [[peer]] that the reference has can be set by a flag, and a file takes its value.
func TestPeer_everyKeyHasAFlag(t *testing.T) {
	t.Parallel()
	reference, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(reference), "\n## [[peer]]\n")
	section, _, _ = strings.Cut(section, "\n### ")
	documented := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[row[1]] = true
	}
	for _, key := range []string{"name", "public_key", "preshared_key", "preshared_key_file"} {
		delete(documented, key)
	}
	values := map[string][2]string{ // as a flag, and in a file
		"endpoint": {"[::1]:1,b:2", `["[::1]:1", "b:2"]`}, "allowed_ips": {"10.9.0.9", `["10.9.0.9"]`}, "priority": {"7", "7"},
		"keepalive": {"25", "25"}, "extensions": {"on", `"on"`}, "liveness": {"2", "2"}, "post_quantum": {"require", `"require"`},
		"ethernet": {"true", "true"}, "macs": {"02:00:00:00:00:01", `["02:00:00:00:00:01"]`}, "max_macs": {"9", "9"},
		"vlans": {"10-19,30", `["10-19", 30]`}, "pvid": {"30", "30"}, "trust": {"dhcp,ra", `["dhcp", "ra"]`},
		"broadcast_limit": {"1", "1"}, "multicast_limit": {"2", "2"}, "unknown_unicast_limit": {"3", "3"},
		"isolated": {"true", "true"}, "bum": {"false", "false"}, "neighbor_suppression": {"false", "false"},
	}
	w := newWorld(t)
	w.width = 0
	path := w.write("hub.toml", hub(newKey(t), newKey(t))+"\n[tap]\ndevice = \"hub-tap\"\nhub = true\n")
	w.start(control.Instance{Name: "hub", Config: path})
	args := []string{"peer", "set", "anna", "--save"}
	for _, k := range peerKeys {
		if !documented[k.key] {
			t.Errorf("the flag --%s is of no key", k.flag())
		}
		delete(documented, k.key)
		args = append(args, "--"+k.flag()+"="+values[k.key][0])
	}
	for key := range documented {
		t.Errorf("the key %s has no flag", key)
	}
	w.expect(0, "peer anna changed", "", args...)
	got := w.read(path)
	for key, v := range values {
		if line := key + " = " + v[1] + "\n"; !strings.Contains(got, line) {
			t.Errorf("no %q in:\n%s", line, got)
		}
	}
	w.expect(0, "peer anna changed", "", "peer", "set", "anna", "--save", "--ethernet=false")
	got = w.read(path)
	for _, k := range peerKeys {
		if strings.Contains(got, "\n"+k.key+" = ") == onlyFrames(k.key) {
			t.Errorf("without frames, %s is right neither way:\n%s", k.key, got)
		}
	}
}

func TestPeer_saveKeepsCommentsAndOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, anna, berlin := newKey(t), newKey(t), newKey(t)
	old := hub(own, anna)
	path := w.write("hub.toml", old)
	f := w.start(control.Instance{Name: "hub", Config: path})
	w.expect(0, "hub.toml: peer berlin added, in force now, and after every reload and restart\n", "",
		"peer", "add", "berlin", "--public-key", berlin.Public().String(), "--allowed-ips", "10.9.0.3", "--save")
	added := "\n[[peer]]\nname        = \"berlin\"\npublic_key  = \"" + berlin.Public().String() + "\"\nallowed_ips = [\"10.9.0.3\"]\n"
	if got := w.read(path); got != old+added {
		t.Errorf("after add:\n%s", got)
	}
	w.expect(0, "peer anna changed", "", "peer", "set", "an", "--keepalive", "25", "--name", "ann", "--save")
	want := strings.Replace(old, `"anna" # old`, `"ann" # old`, 1) + "keepalive = 25\n" + added
	if got := w.read(path); got != want {
		t.Errorf("after set:\n%s\nwant\n%s", got, want)
	}
	w.expect(78, "", "10.9.0.3/32 is also an allowed IP of peer", "peer", "set", "ann", "--allowed-ips", "10.9.0.3", "--save")
	f.reload = &control.Error{Code: control.CodeConfig, Message: "hub.toml: no"}
	w.expect(78, "", "reload refused", "peer", "remove", "ann", "--save")
	if got := w.read(path); got != want {
		t.Errorf("after a refusal:\n%s", got)
	}
	f.reload = nil
	w.expect(0, "peer ann removed", "", "peer", "remove", "ann", "--save")
	if got := w.read(path); got != old[:strings.Index(old, "# Anna's")]+strings.TrimPrefix(added, "\n") {
		t.Errorf("after remove:\n%s", got)
	}
}
