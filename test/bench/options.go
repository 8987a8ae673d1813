package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options is what the user may narrow. Each field has an environment variable, because make passes
// its command line variables on that way, and a flag of the same name in lower case, which wins.
type options struct {
	Contenders []string      `json:"contenders"`
	Cases      []string      `json:"cases"`
	Links      []linkModel   `json:"links"`
	Rounds     int           `json:"rounds"`
	Length     time.Duration `json:"measurement_ns"`
	// How many peers "many" means in the cases memory, peers10k and handshakes.
	Peers int    `json:"peers"`
	Seed  uint64 `json:"seed"`
	JSON  string `json:"-"` // where the results go
	Store string `json:"-"` // a second copy, empty for none
	Top   string `json:"-"` // top of the checkout: bin/tund and dist/ are below it
	Keep  bool   `json:"-"` // keep logs of the daemons
}

// parseOptions reads flags (args, without the program name) over the environment over the defaults.
func parseOptions(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	env := func(name, fallback string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return fallback
	}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	contenders := fs.String("contenders", env("CONTENDERS", strings.Join(defaultContenders, ",")), "comma-separated `names`; tund@PATH is another build of tund, NAME:CASE+CASE stands in these cases only")
	cases := fs.String("cases", env("CASES", strings.Join(caseNames(), ",")), "comma-separated `names`")
	links := fs.String("link", env("LINK", string(linkVeth)), "link models: veth, nic or both, comma-separated")
	rounds := fs.String("rounds", env("ROUNDS", "5"), "how many `rounds`")
	seconds := fs.String("t", env("T", "5"), "`seconds` per measurement")
	peers := fs.String("peers", env("PEERS", "10000"), "peers in the cases with many")
	seed := fs.String("seed", env("SEED", ""), "seed of the order of contenders (default: from the clock)")
	out := fs.String("json", env("JSON", "dist/bench.json"), "results, as JSON, to this `file`")
	store := fs.String("store", env("STORE", ""), "and a copy to this `file`")
	top := fs.String("top", ".", "top `directory` of the checkout")
	keep := fs.Bool("keep", env("KEEP", "") != "", "keep the daemons' logs")
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	o := options{Contenders: split(*contenders), Cases: split(*cases), JSON: *out, Store: *store, Top: *top, Keep: *keep}
	for _, l := range split(*links) {
		o.Links = append(o.Links, linkModel(l))
	}
	var errs []error
	number := func(name, value string, low, high int) int {
		n, err := strconv.Atoi(value)
		if err != nil || n < low || n > high {
			errs = append(errs, fmt.Errorf("%s: %q is not a number between %d and %d", name, value, low, high))
		}
		return n
	}
	o.Rounds = number("ROUNDS", *rounds, 1, 1000)
	o.Length = time.Duration(number("T", *seconds, 1, 3600)) * time.Second
	o.Peers = number("PEERS", *peers, 1, 60000)
	o.Seed = uint64(time.Now().UnixNano())
	if *seed != "" {
		n, err := strconv.ParseUint(*seed, 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("SEED: %q is not a number", *seed))
		}
		o.Seed = n
	}
	errs = append(errs, o.check())
	return o, errors.Join(errs...)
}

// check refuses names that mean nothing, so that a typing error does not cost an hour.
func (o *options) check() error {
	var errs []error
	for _, c := range o.Cases {
		if !slices.Contains(caseNames(), c) {
			errs = append(errs, fmt.Errorf("CASES: there is no case %q; there are %s", c, strings.Join(caseNames(), " ")))
		}
	}
	entered := map[string]bool{}
	for _, c := range o.Contenders {
		e, err := newEntrant(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("CONTENDERS: %w", err))
			continue
		}
		if name := e.about().Name; entered[name] {
			errs = append(errs, fmt.Errorf("CONTENDERS: %s is entered twice", name))
		} else {
			entered[name] = true
		}
	}
	for _, l := range o.Links {
		if l != linkVeth && l != linkNIC {
			errs = append(errs, fmt.Errorf("LINK: there is no link model %q; there are %s and %s", l, linkVeth, linkNIC))
		}
	}
	if len(o.Cases) == 0 || len(o.Contenders) == 0 || len(o.Links) == 0 {
		errs = append(errs, errors.New("nothing to measure: CASES, CONTENDERS and LINK need a name each"))
	}
	return errors.Join(errs...)
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// requireRoot says in words what is missing, before anything is built.
func requireRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("bench makes network namespaces and tunnel devices: run it as root")
	}
	return nil
}
