package hostcheck

import (
	"fmt"

	"github.com/google/nftables"
)

// ReadFrames returns the rules of nftables for bridged frames, including those of ebtables-nft,
// that drop every frame between the TAP and the other ports of its bridge, as far as they are
// certain to. It needs CAP_NET_ADMIN. Rules of legacy ebtables and of eBPF are not visible to it.
func ReadFrames(tap string) ([]Rule, error) {
	rules, err := newRuleset()
	if err != nil {
		return nil, err
	}
	var list []Rule
	for _, c := range rules.chains {
		if c.Table.Family != nftables.TableFamilyBridge || hookOf(c) != "forward" || c.Type != nftables.ChainTypeFilter {
			continue
		}
		for _, frame := range []packet{{in: tap}, {out: tap}} {
			f, err := rules.base(c, &frame)
			if err != nil {
				return nil, err
			}
			if f.certain() {
				list = append(list, Rule{
					Hook: "forward", Table: "bridge " + c.Table.Name, Chain: f.by.chain, Handle: f.by.handle,
					Accept: fmt.Sprintf("iifname %q", tap), Back: fmt.Sprintf("oifname %q", tap),
				})
				break // the remedy is for both directions
			}
		}
	}
	return list, nil
}

// frames finds firewalls that keep the hosts of the LAN from the TAP.
func (t *Tunnel) frames() (list []Finding) {
	for _, r := range t.Framed {
		list = append(list, Finding{
			Kind: Bridge, Subject: r.Table + " " + r.Chain,
			Message: fmt.Sprintf("the firewall of this host drops frames between %s and the other ports of %s (%v)", t.Tap, t.Bridge, r),
			Remedy:  r.Remedy(),
		})
	}
	return list
}
