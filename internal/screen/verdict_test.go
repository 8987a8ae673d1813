package screen

import (
	"strings"
	"testing"

	"tund/internal/control"
	"tund/internal/screen/screentest"
)

// One cause is reported once, a remedy follows its warning, and a peer that is up in spite of a
// problem does not count as healthy.
func TestProblems_oneCauseIsSaidOnce(t *testing.T) {
	t.Parallel()
	i := &control.Instance{
		Name: "office",
		Peers: []control.Peer{
			{Name: "paris", State: control.StateDown, Active: true, LastError: "endpoint p.example does not resolve"},
			{Name: "berlin", State: control.StateUp, Active: true, LastError: "cannot send to 192.0.2.1:1: operation not permitted"},
		},
		Warnings: []control.Warning{
			{Kind: "dns", Subject: "paris", Message: "endpoint p.example does not resolve"},
			{Kind: "forwarding", Message: "this host does not forward", Remedy: "switch it on"},
		},
	}
	var got []string
	for _, p := range problems(i, screentest.Noon()) {
		got = append(got, p.subject+": "+p.text)
	}
	want := []string{
		"office/paris: down: endpoint p.example does not resolve",
		"office/berlin: up: cannot send to 192.0.2.1:1: operation not permitted",
		"office: this host does not forward; switch it on",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
