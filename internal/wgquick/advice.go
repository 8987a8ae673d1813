package wgquick

import (
	"regexp"
	"slices"
	"strings"
)

// This file says, for what does not come along, what to do instead.

// isHook reports whether key holds commands.
func isHook(key string) bool {
	return slices.Contains([]string{"PreUp", "PostUp", "PreDown", "PostDown"}, key)
}

// hookUnits are the lines of a systemd unit that run commands when wg-quick does. "+" gives them
// the rights that the service of tund itself does without.
var hookUnits = map[string]string{
	"PreUp": "ExecStartPre", "PostUp": "ExecStartPost", "PreDown": "ExecStop", "PostDown": "ExecStopPost",
}

// keyFromFile is the usual hook for a private key that is not in the file.
var keyFromFile = regexp.MustCompile(`^wg\s+set\s+\S+\s+private-key\s+(/[^\s;&|<>()$` + "`" + `"']+)\s*;?$`)

// hook reports a command.
func (p *parser) hook(key, command string) {
	command = strings.ReplaceAll(command, "%i", p.device)
	if command == "" {
		return
	}
	if m := keyFromFile.FindStringSubmatch(command); m != nil && !keyText.MatchString(m[1]) {
		p.file.PrivateKeyFile = m[1]
		return
	}
	if keyText.MatchString(command) {
		p.note(key, "tund runs no commands, and this one may hold a secret, so it is not shown here: run it from the service, with "+
			"`systemctl edit tund@%s` and a line %s=", p.device, hookUnits[key])
		return
	}
	p.note(key, "tund runs no commands. %s\n    [Service]\n    %s=+/bin/bash -c %s", hookAdvice(command, p.device),
		hookUnits[key], unitQuote(command))
}

// hookAdvice says what is better than the command, where something is, and then how to keep the
// command.
func hookAdvice(command, device string) string {
	var better []string
	has := func(advice string, words ...string) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(command, w) }) {
			better = append(better, advice)
		}
	}
	has("Forwarding belongs into a file below /etc/sysctl.d.", "ip_forward", ".forwarding")
	if strings.Contains(command, "--mark") {
		has("A full tunnel of tund keeps traffic from leaving in the clear by itself, also after a crash: this is not needed.", "REJECT", "DROP")
	} else {
		has("Rules for the firewall belong into its own configuration, where they stay when the tunnel restarts.",
			"iptables", "ip6tables", "nft ", "ufw ", "firewall-cmd")
	}
	has("DNS servers belong into dns in [tun].", "resolvectl", "resolvconf")
	has("tund makes a route for each of allowed_ips, in the table that [tun] table names: see whether this is still needed.",
		"ip route", "ip -4 route", "ip -6 route", "ip rule", "ip -4 rule", "ip -6 rule", "ip r ", "route add")
	run := "Run it from the service, with `systemctl edit tund@" + device + "`:"
	if len(better) > 0 {
		run = strings.Join(better, " ") + " Or r" + run[1:]
	}
	return run
}

// unitQuote makes one word of a line in a systemd unit (systemd.service(5), "Command lines").
func unitQuote(command string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(command) + `"`
}

// obfuscation are the keys of AmneziaWG, which changes what goes over the wire.
var obfuscation = []string{"jc", "jmin", "jmax", "s1", "s2", "s3", "s4", "h1", "h2", "h3", "h4", "i1", "i2", "i3", "i4", "i5", "j1", "j2", "j3", "itime"}

// unknown reports a key that the section does not have.
func (p *parser) unknown(name string, here, elsewhere []string, home string) {
	switch {
	case canonical(name, elsewhere) != "" || home == "[Interface]" && isHook(canonical(name, elsewhere)):
		p.note(canonical(name, elsewhere), "belongs into %s, and wg refuses it here: left out; move it there if it is meant", home)
	case slices.Contains(obfuscation, strings.ToLower(name)):
		p.note(name, "is AmneziaWG's, which is not WireGuard on the wire: left out. The other end has to do without it, too")
	default:
		p.note("", "unknown key %s: left out%s. Correct it and import again if it is meant", shown(name), likely(name, here))
	}
}

// likely suggests a key for one that is misspelt: one with the same beginning, or the same letters
// but for one or two.
func likely(name string, known []string) string {
	folded := strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))
	for _, k := range known {
		if l := strings.ToLower(k); len(folded) >= 3 && (strings.HasPrefix(l, folded) || strings.HasPrefix(folded, l) || near(folded, l)) {
			return ` (did you mean "` + k + `"?)`
		}
	}
	return ""
}

// near reports whether a and b differ in one letter, or in two that are swapped.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(b)-len(a) > 1:
		return false
	case len(b) > len(a):
		return a[i:] == b[i+1:]
	case i == len(a):
		return true
	}
	swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
	return swapped || a[i+1:] == b[i+1:]
}
