package control

import (
	"time"

	"tund/internal/events"
)

// SourcesSchema names the document of `tunctl sources --json`.
const SourcesSchema = "tund.sources/v1"

// AgentBackend is the running instance as an agent sees it over agent.sock. What is said of Backend
// holds for it, too.
type AgentBackend interface {
	// Sources describes what belongs to whom.
	Sources() []Source
	// Begin starts a change of what the agent has handed in; whole says that it replaces it.
	// Nothing is changed before Commit; a change that is given up needs no word.
	Begin(whole bool) (SourceChange, error)
	// Clear removes everything that the agent has handed in and returns how many peers that were.
	Clear() (removed int, err error)
	// Handshake begins a handshake with a peer, whoever it belongs to. An unknown peer is an *Error
	// with CodeNotFound.
	Handshake(publicKey string) error
	// Peers describes the peers in few words.
	Peers() []PeerRow
	// FDB describes the forwarding database; it is empty without [tap].
	FDB() FDBInstance
	// Events returns what happens in the instance. It is always the same.
	Events() *events.Log
}

// SourceChange is a change that is handed over element by element, as it is read. It is used by one
// goroutine.
type SourceChange interface {
	// Peer hands over the next element of the list of peers: keys of [[peer]] and what the
	// configuration would say there. The map is the callee's.
	Peer(values map[string]any)
	// Remove names a peer to remove by its public key.
	Remove(publicKey string)
	// Host hands over the next element of fdb, and RemoveHost names one to remove by its MAC and
	// VLAN.
	Host(HostEntry)
	RemoveHost(HostID)
	// Neighbor hands over the next element of neighbors, and RemoveNeighbor names one to remove by
	// its IP address and VLAN.
	Neighbor(NeighborEntry)
	RemoveNeighbor(NeighborID)
	// Commit checks the whole change and applies what is permitted in one step, routes of the
	// kernel included. When the change does not start from the state in force, the error is an
	// *Error with CodeGeneration, and nothing has changed.
	Commit(SourceHead) (SourceAnswer, error)
}

// SourceHead is what a change says of itself.
type SourceHead struct {
	Epoch        string // names the state from which generations are counted
	Generation   uint64 // of the state that the change leads to
	IfGeneration uint64 // of the state that it starts from; not for a whole one
	// Hold is for how long the agent may be silent until all that it has handed in goes; 0: for
	// ever. It is said by a whole state and counts until the next.
	Hold time.Duration
	// Hosts and Neighbors say that a whole state has these lists; otherwise they stay as they are.
	Hosts, Neighbors bool
}

// HostID is a MAC address in a VLAN (0: untagged frames).
type HostID struct {
	MAC  string `json:"mac"`
	VLAN int    `json:"vlan"`
}

// HostEntry says where a MAC address lives: an entry of the forwarding database.
type HostEntry struct {
	HostID
	Peer   string  `json:"peer"`            // its public key; our own: our own LAN
	Seq    uint32  `json:"seq"`             // counts the moves of the host
	Sticky bool    `json:"sticky"`          // it does not move to our own LAN by appearing there
	TTLS   float64 `json:"ttl_s,omitempty"` // seconds until it goes unless set again; 0: never
}

// NeighborID is an IP address in a VLAN (0: untagged frames).
type NeighborID struct {
	IP   string `json:"ip"`
	VLAN int    `json:"vlan"`
}

// NeighborEntry says which MAC address has an IP address.
type NeighborEntry struct {
	NeighborID
	MAC    string  `json:"mac"`
	Peer   string  `json:"peer"`
	Router bool    `json:"router"`
	TTLS   float64 `json:"ttl_s,omitempty"`
}

// SourceAnswer is the answer to a change.
type SourceAnswer struct {
	Generation uint64 `json:"generation"` // of the state in force
	// Start names the run of tund: when it differs from that of an earlier answer, tund was
	// restarted and has forgotten what the agent had handed in.
	Start    string     `json:"start"`
	Rejected []Rejected `json:"rejected"` // the first MaxRejected
	// RejectedTotal is the number of all that were refused.
	RejectedTotal int `json:"rejected_total"`
	// Warning says what the kernel refused of the routes, which is tried again; "" when nothing.
	Warning string `json:"warning"`
}

// MaxRejected bounds the refused elements that one answer lists.
const MaxRejected = 1000

// Rejected is one element that was refused.
type Rejected struct {
	List    string `json:"list"`  // "peers", "fdb" or "neighbors"
	Index   int    `json:"index"` // in the list, from 0
	Code    string `json:"code"`  // a sources.Code
	Message string `json:"message"`
}

// SourceAgent is the name of the source of the peers that an agent has handed in.
const SourceAgent = "agent"

// Source is one source of peers.
type Source struct {
	Name string `json:"name"` // "file", "runtime" or SourceAgent
	// What the agent said last of its state; 0 and "" for the others.
	Generation uint64 `json:"generation"`
	Epoch      string `json:"epoch"`
	Applied    Time   `json:"applied"` // when it was last changed
	Peers      int    `json:"peers"`
	// Shadowed are peers of the agent that have no effect, because the file or an operator has the
	// same key. They are among Peers.
	Shadowed int `json:"shadowed"`
	// Hosts and neighbours that the agent has assigned.
	FDB       int     `json:"fdb"`
	Neighbors int     `json:"neighbors"`
	Rejected  int     `json:"rejected"` // elements refused in the last change
	HoldS     float64 `json:"hold_s"`   // silence after which all of it goes; 0: never
}

// SourceTable is the answer of GET /v1/sources.
type SourceTable struct {
	Name    string   `json:"name"` // of the instance
	Sources []Source `json:"sources"`
}

// SourceTables is the document of `tunctl sources --json`.
type SourceTables struct {
	Schema    string        `json:"schema"` // SourcesSchema
	Instances []SourceTable `json:"instances"`
}

// PeerRow is a peer in few words.
type PeerRow struct {
	Name          string
	PublicKey     string
	State         PeerState
	Source        string
	Endpoint      string // "" while unknown
	LastHandshake time.Time
	LastRx        time.Time
	RxBytes       uint64
	TxBytes       uint64
	LastError     string
}

// rowFields are the fields that GET /v1/peers can show. Their names and values are those of Peer.
var rowFields = map[string]func(*PeerRow) any{
	"name":           func(r *PeerRow) any { return r.Name },
	"public_key":     func(r *PeerRow) any { return r.PublicKey },
	"state":          func(r *PeerRow) any { return r.State },
	"source":         func(r *PeerRow) any { return r.Source },
	"endpoint":       func(r *PeerRow) any { return r.Endpoint },
	"last_handshake": func(r *PeerRow) any { return At(r.LastHandshake) },
	"last_rx":        func(r *PeerRow) any { return At(r.LastRx) },
	"rx_bytes":       func(r *PeerRow) any { return r.RxBytes },
	"tx_bytes":       func(r *PeerRow) any { return r.TxBytes },
	"last_error":     func(r *PeerRow) any { return r.LastError },
}
