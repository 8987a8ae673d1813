package daemon

import "testing"

func TestWatch_putsBackWhatSomebodyRemoves(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, everything)
	n.start()
	defer n.stop()
	before := kernelState(t)
	sh(t, "ip route flush proto 117 table all; ip rule delete priority 31171; nft flush ruleset; ip address delete 10.9.0.1/24 dev %s", device())
	n.await("all of it back", func() bool { return kernelState(t) == before })
	if n.logs.FilterMessageSnippet("was removed from the kernel; it has been restored").Len() == 0 {
		t.Errorf("not a word about it:\n%s", n.log())
	}
	if w := n.warned("network"); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}
