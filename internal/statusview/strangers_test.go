package statusview_test

import (
	"net/netip"
	"strings"
	"testing"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/statusview"
	"tund/tunnel"
)

// A site that was revoked is not to be let in again by whoever reads the status.
func TestInstance_strangersWhomTheAgentKnew(t *testing.T) {
	t.Parallel()
	said := func(change func(*statusview.View)) string {
		v, s := office()
		s.Strangers = []tunnel.Stranger{{PublicKey: keys.PublicKey{7}, Endpoint: netip.MustParseAddrPort("198.51.100.1:4"), First: start}}
		change(v)
		for _, w := range v.Instance().Warnings {
			if w.Kind == "unknown-peer" {
				return w.Message + "; " + w.Remedy
			}
		}
		return ""
	}
	if got := said(func(v *statusview.View) { v.Config.Agent = &config.Agent{} }); !strings.Contains(got, "tund-agent --status") ||
		!strings.Contains(got, "whether the site was revoked") {
		t.Errorf("with an agent: %s", got)
	}
	got := said(func(v *statusview.View) {
		v.Config.Agent, v.Removed = &config.Agent{}, map[keys.PublicKey]string{{7}: "oslo"}
	})
	if !strings.Contains(got, "oslo, at 198.51.100.1:4,") || !strings.Contains(got, "the agent has removed it") || strings.Contains(got, "add [[peer]]") {
		t.Errorf("one that the agent has removed: %s", got)
	}
}
