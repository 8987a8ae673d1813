package hostcheck

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
)

// manager is a program that writes rules, and would not know of those that somebody adds beside it.
type manager uint8

const (
	nobody manager = iota
	firewalld
	ufw
	docker
)

// managerOf tells by the names of table and chains who writes the rules of a table.
func managerOf(s *ruleset, t *nftables.Table) manager {
	prefix := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ufw-", nftables.TableFamilyIPv6: "ufw6-"}[t.Family]
	switch {
	case t.Name == "firewalld":
		return firewalld
	case t.Name != "filter" || prefix == "":
		return nobody
	case s.hasChain(t, prefix+"before-input"):
		return ufw
	case s.hasChain(t, "DOCKER-USER"):
		return docker
	}
	return nobody
}

// managed returns what to tell the program that writes the rules; "" where nobody does, or where it
// takes more than that.
func (r Rule) managed() string {
	var port, device string
	_, _ = fmt.Sscanf(r.Accept, "udp dport %s", &port)
	_, _ = fmt.Sscanf(r.Accept, "iifname %q", &device)
	switch {
	case r.manager == firewalld && port != "":
		return fmt.Sprintf("firewall-cmd --permanent --add-port=%s/udp && firewall-cmd --reload (with --zone=ZONE if the uplink is not in the default zone)", port)
	case r.manager == firewalld && device != "":
		return fmt.Sprintf("put %s and the networks that are to use the tunnel into one zone: firewall-cmd --permanent "+
			"--zone=ZONE --add-interface=%s && firewall-cmd --reload (firewall-cmd --get-active-zones shows the zones)", device, device)
	case r.manager == ufw && port != "":
		return fmt.Sprintf("ufw allow %s/udp", port)
	case r.manager == ufw && device != "":
		return fmt.Sprintf("ufw route allow in on %s; ufw route allow out on %s", device, device)
	case r.manager == docker && device != "":
		command := "iptables"
		if strings.HasPrefix(r.Table, "ip6 ") {
			command = "ip6tables"
		}
		return fmt.Sprintf("%[1]s -I DOCKER-USER -i %[2]s -j ACCEPT; %[1]s -I DOCKER-USER -o %[2]s -j ACCEPT; also where rules are loaded at boot",
			command, device)
	}
	return ""
}
