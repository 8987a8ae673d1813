package ethernet

import (
	"testing"
	"time"
)

// An address is handed from a host to another at a third site, without any announcement. Whoever
// asks for it is answered by the new host before it asks a second time, which hosts do after a
// second, whether or not the former owner has just spoken.
func TestHandOver_isFoundByTheFirstRequest(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris, rome := w.site("berlin"), w.site("paris"), w.site("rome")
	mesh(berlin, paris, rome)
	first, asker, former, heir := berlin.host(1), berlin.host(4), paris.host(2), rome.host(3)
	start(t, berlin, paris, rome)
	for address, silence := range map[string]time.Duration{"10.7.0.100": 0, "10.7.0.101": 3 * time.Second} {
		former.ns.Run(t, "ip", "address", "add", address+"/24", "dev", former.dev)
		for range 2 { // the first request tests who else has the address
			first.pings(address, 2)
			first.ns.Run(t, "ip", "neigh", "flush", "dev", first.dev)
		}
		pause(silence)
		former.ns.Run(t, "ip", "address", "del", address+"/24", "dev", former.dev)
		heir.ns.Run(t, "ip", "address", "add", address+"/24", "dev", heir.dev)
		began := time.Now()
		out, err := asker.ns.Try("ping", "-n", "-c", "1", "-W", "4", address)
		took := time.Since(began)
		t.Logf("the former owner was silent for %v: answered after %v", silence, took.Round(10*time.Millisecond))
		if err != nil || took > 950*time.Millisecond {
			t.Errorf("the former owner was silent for %v: answered after %v: %v\n%s", silence, took, err, out)
		}
		heir.ns.Run(t, "ip", "address", "del", address+"/24", "dev", heir.dev)
	}
	if n := berlin.Status().Suppression; n == nil || n.Answered == 0 {
		t.Errorf("no request went to one site alone: %+v", n)
	}
}
