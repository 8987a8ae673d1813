package notice

import (
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/route/mark"
)

func TestMeaningOf(t *testing.T) {
	t.Parallel()
	indices, names := map[int]bool{7: true}, map[string]bool{"office": true, "br0": true, "tund-office": true}
	for _, c := range []struct {
		n    netwatch.Notice
		want Meaning
	}{
		{netwatch.Notice{Kind: netwatch.Overflow}, All},
		{netwatch.Notice{Kind: netwatch.Link, Index: 2, Name: "eth0"}, Underlay},
		{netwatch.Notice{Kind: netwatch.Link, Index: 7, Name: "office"}, Check},
		{netwatch.Notice{Kind: netwatch.Link, Index: 9, Name: "br0", Del: true}, Check},
		{netwatch.Notice{Kind: netwatch.Addr, Index: 2}, Underlay},
		{netwatch.Notice{Kind: netwatch.Addr, Index: 7}, Nothing},
		{netwatch.Notice{Kind: netwatch.Addr, Index: 7, Del: true}, Check},
		{netwatch.Notice{Kind: netwatch.Route, Index: 2, Table: unix.RT_TABLE_MAIN}, Underlay},
		{netwatch.Notice{Kind: netwatch.Route, Index: 2, Table: unix.RT_TABLE_LOCAL}, Nothing},
		{netwatch.Notice{Kind: netwatch.Route, Index: 7, Table: unix.RT_TABLE_MAIN, Protocol: mark.Protocol}, Nothing},
		{netwatch.Notice{Kind: netwatch.Route, Index: 7, Table: unix.RT_TABLE_MAIN, Protocol: mark.Protocol, Del: true}, Check},
		{netwatch.Notice{Kind: netwatch.Route, Index: 7, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL, Del: true}, Nothing},
		{netwatch.Notice{Kind: netwatch.Rule, Protocol: mark.Protocol, Del: true}, Check},
		{netwatch.Notice{Kind: netwatch.Rule, Protocol: mark.Protocol}, Nothing},
		{netwatch.Notice{Kind: netwatch.Rule}, Underlay},
		{netwatch.Notice{Kind: netwatch.Table, Name: "tund-office", Del: true}, Check},
		{netwatch.Notice{Kind: netwatch.Table, Name: "filter", Del: true}, Nothing},
	} {
		if got := MeaningOf(c.n, indices, names); got != c.want {
			t.Errorf("Meaning of %+v = %d, want %d", c.n, got, c.want)
		}
	}
}
