package main

import (
	"strings"
	"testing"

	"tund/internal/control"
	"tund/internal/screen/screentest"
)

func TestRoutes_whatIsWrongComesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	f.routes = control.RouteInstance{Name: "office", Warnings: []string{"192.168.1.0/24 is a network of this host"}, Objects: []control.RouteObject{
		{Kind: "link", Object: "office up", State: "present"}, {Kind: "route", Object: "10.20.0.0/16 dev office", State: "missing"},
	}}
	code, out, errs := w.run("routes")
	want := "office  ✗ 1 difference - 2 objects\n  ! 192.168.1.0/24 is a network of this host\n" +
		"  STATE    KIND   OBJECT\n  missing  route  10.20.0.0/16 dev office\n  present  link   office up\n"
	if code != 0 || errs != "" || out != want {
		t.Errorf("%d %q\n%s\nwant\n%s", code, errs, out, want)
	}
	w.expect(0, `"state": "missing"`, "", "routes", "--json")
	f.routes.Objects[1].State, f.routes.Warnings = "present", nil
	if _, out, _ := w.run("routes"); !strings.HasPrefix(out, "office  ✓ all there - 2 objects\n") {
		t.Errorf("%s", out)
	}
	w.expect(69, "", "no such file", "-i", "lab", "routes")
}
