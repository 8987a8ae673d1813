package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tund/internal/wgquick"
)

// peerKeys are the keys of [[peer]] that have a flag of their own, which has the name of the key
// with hyphens, in the order of docs/config.md. Those of which there can be only one, the name and
// the public key, and the preshared key, which is a file here, are not among them.
var peerKeys = []peerKey{
	{key: "endpoint", kind: listOfWords, usage: `where the peer is called, HOST:PORT, or a list of them; "" for none`},
	{key: "allowed_ips", kind: listOfWords, usage: `all that the peer may send from and is sent, as in 10.9.0.2,10.20.0.0/16; "" for none`},
	{key: "priority", kind: wholeNumber, usage: "of the peers with the same allowed IPs, the highest that works carries"},
	{key: "keepalive", kind: wholeNumber, usage: "seconds, 0: off"},
	{key: "extensions", choices: []string{"auto", "on", "off"}, usage: "what two tunds do beyond WireGuard: auto, on or off"},
	{key: "liveness", kind: wholeNumber, usage: "ask the peer every so many seconds whether it is alive, 0: off"},
	{key: "post_quantum", choices: []string{"prefer", "require", "off"}, usage: "ML-KEM in the keys of data sessions: prefer, require or off"},
	{key: "ethernet", kind: yesOrNo, usage: "the peer carries frames of [tap]"},
	{key: "macs", kind: listOfWords, usage: `the only MAC addresses that the peer may use; "" for any`},
	{key: "max_macs", kind: wholeNumber, usage: "how many MAC addresses the peer may use, 0: no limit"},
	{key: "vlans", kind: listOfVLANs, usage: `VLANs that the peer carries, as in 0,10-19; "" for untagged frames only`},
	{key: "pvid", kind: wholeNumber, usage: "VLAN of the peer's untagged frames, 0: none"},
	{key: "trust", kind: listOfWords, choices: []string{"dhcp", "ra"}, usage: `what the peer may send besides: dhcp, ra; "" for nothing`},
	{key: "broadcast_limit", kind: wholeNumber, usage: "broadcasts per second that the peer may send, 0: as in [tap]"},
	{key: "multicast_limit", kind: wholeNumber, usage: "the same for multicast"},
	{key: "unknown_unicast_limit", kind: wholeNumber, usage: "the same for frames to unknown MAC addresses"},
	{key: "isolated", kind: yesOrNo, usage: "exchange no frames with other isolated peers"},
	{key: "bum", kind: yesOrNo, usage: "send the peer broadcasts, multicast and frames to unknown addresses (--bum=false: do not)"},
	{key: "neighbor_suppression", kind: yesOrNo, usage: "answer requests for hosts of the peer here (--neighbor-suppression=false: do not)"},
}

// peerKey is a key and its flag.
type peerKey struct {
	key, usage string
	kind       valueKind
	choices    []string // what completion offers
}

// onlyFrames reports whether the key means something only with ethernet = true: those after it do.
func onlyFrames(key string) bool {
	at := func(key string) int {
		return slices.IndexFunc(peerKeys, func(k peerKey) bool { return k.key == key })
	}
	return at(key) > at("ethernet")
}

// withoutFrames adds to settings with ethernet = false that the keys which need the opposite go,
// unless they were asked for: with them a configuration has an error. A running instance does that
// by itself.
func withoutFrames(list []setting) []setting {
	if !slices.Contains(list, setting{"ethernet", false}) {
		return list
	}
	for i := range peerKeys {
		key := peerKeys[i].key
		if onlyFrames(key) && !slices.ContainsFunc(list, func(s setting) bool { return s.key == key }) {
			list = append(list, setting{key, nil})
		}
	}
	return list
}

// valueKind is what a key takes.
type valueKind int

const (
	oneWord valueKind = iota
	listOfWords
	listOfVLANs
	wholeNumber
	yesOrNo
)

func (k *peerKey) flag() string { return strings.ReplaceAll(k.key, "_", "-") }

// addPeerKeys gives a command the flags of peerKeys.
func addPeerKeys(cmd *cobra.Command) {
	flags := cmd.Flags()
	for i := range peerKeys {
		k := &peerKeys[i]
		switch k.kind {
		case oneWord:
			flags.String(k.flag(), "", k.usage)
		case listOfWords, listOfVLANs:
			flags.StringSlice(k.flag(), nil, k.usage)
		case wholeNumber:
			flags.Int(k.flag(), 0, k.usage)
		case yesOrNo:
			flags.Bool(k.flag(), false, k.usage)
		}
		if k.choices != nil { // the only failure is a flag that does not exist
			_ = cmd.RegisterFlagCompletionFunc(k.flag(), cobra.FixedCompletions(k.choices, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}

// givenPeerKeys returns the settings of those flags that were given. The configuration judges them.
func givenPeerKeys(cmd *cobra.Command) ([]setting, error) {
	var list []setting
	flags := cmd.Flags()
	for i := range peerKeys {
		k := &peerKeys[i]
		if !flags.Changed(k.flag()) {
			continue
		}
		var value any
		var err error
		switch k.kind {
		case oneWord:
			value, err = flags.GetString(k.flag())
		case listOfWords:
			value, err = wordsOf(cmd, k.flag())
		case listOfVLANs:
			value, err = vlansOf(cmd, k.flag())
		case wholeNumber:
			value, err = flags.GetInt(k.flag())
		case yesOrNo:
			value, err = flags.GetBool(k.flag())
		}
		if err != nil {
			return nil, err
		}
		list = append(list, setting{k.key, value})
	}
	return list, nil
}

// wordsOf returns a list without the empty word that stands for an empty list.
func wordsOf(cmd *cobra.Command, flag string) ([]string, error) {
	words, err := cmd.Flags().GetStringSlice(flag)
	return slices.DeleteFunc(words, func(w string) bool { return w == "" }), err
}

// vlansOf returns a list as the configuration has it: numbers, and ranges in quotes.
func vlansOf(cmd *cobra.Command, flag string) ([]any, error) {
	words, err := wordsOf(cmd, flag)
	list := make([]any, len(words))
	for i, w := range words {
		if n, err := strconv.Atoi(w); err == nil {
			list[i] = n
		} else {
			list[i] = w
		}
	}
	return list, err
}

// tomlValue writes a value as a file does: an endpoint alone, and allowed IPs too, as a list.
func tomlValue(value any) string {
	switch v := value.(type) {
	case string:
		return wgquick.Quote(v)
	case []string:
		return wgquick.QuoteList(v)
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = tomlValue(v[i])
		}
		return "[" + strings.Join(items, ", ") + "]"
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	}
	panic("tunctl: a kind of value without a form in a file") // of peerKeys, and a test tries each
}
