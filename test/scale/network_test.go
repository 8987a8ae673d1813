package scale

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/registry/record"
)

// network is what was signed: who is granted what, what sites say of themselves, and who was
// revoked. What each daemon has to have follows from it alone.
//
// The version of a site's record is the port of its endpoint, by which a daemon recognises it.
type network struct {
	t      *testing.T
	signer ed25519.PrivateKey
	began  time.Time

	mu      sync.Mutex // guards what follows
	sites   []site
	byKey   map[string]int // by public key
	revoked map[record.Site]uint64
	lists   uint64
}

// site is one site of the network.
type site struct {
	id       record.Site
	key      ed25519.PrivateKey // of its agent
	prefix   netip.Prefix
	endpoint netip.Addr
	real     netip.AddrPort // the endpoint of a real one; otherwise made of endpoint and version
	version  int            // of its newest record; 0: none
	gone     bool           // revoked, or left
}

func newNetwork(t *testing.T, sites int) *network {
	n := &network{t: t, signer: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), began: time.Now(),
		byKey: map[string]int{}, revoked: map[record.Site]uint64{}}
	for i := range sites {
		n.add(i)
	}
	return n
}

func (n *network) add(i int) {
	var seed [ed25519.SeedSize]byte
	binary.BigEndian.PutUint32(seed[:], uint32(i+1))
	s := site{
		id: record.Site(seed), key: ed25519.NewKeyFromSeed(seed[:]),
		prefix:   netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i)}), 24),
		endpoint: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}),
	}
	n.sites = append(n.sites, s)
	n.byKey[s.id.String()] = i
}

// rename gives a site another key and an endpoint of its own.
func (n *network) rename(i int, key keys.PublicKey, endpoint netip.AddrPort) {
	s := &n.sites[i]
	delete(n.byKey, s.id.String())
	s.id, s.real = record.Site(key), endpoint
	n.byKey[s.id.String()] = i
}

func (n *network) name(i int) string { return fmt.Sprintf("s%d", i) }

func (n *network) grantKey(i int) string  { return "grant/" + n.sites[i].id.ID() }
func (n *network) recordKey(i int) string { return "site/" + n.sites[i].id.ID() + "/rec" }

func (n *network) must(data []byte, err error) []byte {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	return data
}

// public is the public key of an agent or signer.
func public(k ed25519.PrivateKey) record.Key { return record.Key(k.Public().(ed25519.PublicKey)) }

// grant returns the document of the grant of a site.
func (n *network) grant(i int) []byte {
	n.t.Helper()
	s := &n.sites[i]
	return n.must(record.SignGrant(record.Grant{
		Network: "acme", Site: s.id, Agent: public(s.key), Name: n.name(i), Serial: 1, Prefixes: []netip.Prefix{s.prefix},
		NotBefore: n.began.Add(-time.Hour).Truncate(time.Second), NotAfter: n.began.Add(300 * 24 * time.Hour).Truncate(time.Second),
	}, n.signer))
}

// own is what a site says of itself in some version.
func (n *network) own(i, version int) record.Record {
	s := &n.sites[i]
	endpoint := netip.AddrPortFrom(s.endpoint, uint16(version))
	if s.real.IsValid() {
		endpoint = s.real
	}
	return record.Record{Endpoints: []string{endpoint.String()}, Prefixes: []netip.Prefix{s.prefix}}
}

const lifetime = 30 * 24 * time.Hour

// record returns the document of a version of a site's record.
func (n *network) record(i, version int) []byte {
	n.t.Helper()
	r := n.own(i, version)
	r.Network, r.Site, r.Grant, r.Epoch, r.Serial = "acme", n.sites[i].id, 1, 1, uint64(version)
	r.NotAfter = n.began.Add(lifetime).UTC().Truncate(time.Second)
	return n.must(record.SignRecord(r, n.sites[i].key))
}

// next makes the next version of a site's record.
func (n *network) next(i int) (version int, document []byte) {
	n.t.Helper()
	n.mu.Lock()
	n.sites[i].version++
	version = n.sites[i].version
	n.mu.Unlock()
	return version, n.record(i, version)
}

// revoke signs a list of revocations with further sites.
func (n *network) revoke(sites ...int) []byte {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lists++
	for _, i := range sites {
		n.revoked[n.sites[i].id] = 1
		n.sites[i].gone = true
	}
	return n.must(record.SignRevocations(record.Revocations{
		Network: "acme", Sequence: n.lists, Revoked: n.revoked, NextUpdate: time.Now().Add(1000 * time.Hour)}, n.signer))
}

// want returns which version of the record of site i others are to have; 0: it is to be no peer.
func (n *network) want(i int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sites[i].gone {
		return 0
	}
	return n.sites[i].version
}

// versions returns want of all sites.
func (n *network) versions() []int {
	list := make([]int, len(n.sites))
	for i := range list {
		list[i] = n.want(i)
	}
	return list
}
