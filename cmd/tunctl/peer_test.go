package main

import (
	"reflect"
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
