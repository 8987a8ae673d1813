package control

import (
	"context"
	"net/http"

	"tund/internal/events"
	"tund/internal/rundir"
)

// AgentClient asks one instance over agent.sock. Each call makes its own connection, so there is
// nothing to close.
type AgentClient struct{ c *Client }

// NewAgentClient returns a client for an instance below runDir; nothing is contacted yet.
func NewAgentClient(runDir, instance string) *AgentClient {
	return &AgentClient{newClient(instance, rundir.AgentSocket(runDir, instance))}
}

// SourcePut is the body of PUT /v1/sources/agent: the whole state of the agent. Peers hold keys of
// [[peer]].
type SourcePut struct {
	Epoch      string           `json:"epoch"`
	Generation uint64           `json:"generation"`
	HoldS      float64          `json:"hold_s"` // see SourceHead.Hold
	Peers      []map[string]any `json:"peers"`
	// Nil: hosts and neighbours stay as they are.
	FDB       []HostEntry     `json:"fdb,omitzero"`
	Neighbors []NeighborEntry `json:"neighbors,omitzero"`
}

// SourcePatch is the body of PATCH /v1/sources/agent: a change of some of its state.
type SourcePatch struct {
	Epoch        string     `json:"epoch"`
	IfGeneration uint64     `json:"if_generation"`
	Generation   uint64     `json:"generation"`
	Peers        PeersPatch `json:"peers"`
	FDB          HostsPatch `json:"fdb,omitzero"`
	Neighbors    AddrsPatch `json:"neighbors,omitzero"`
}

// HostsPatch is the part of a SourcePatch about the forwarding database.
type HostsPatch struct {
	Set    []HostEntry `json:"set,omitempty"`
	Remove []HostID    `json:"remove,omitempty"`
}

// IsZero reports whether nothing is to be changed.
func (p HostsPatch) IsZero() bool { return len(p.Set)+len(p.Remove) == 0 }

// AddrsPatch is the part of a SourcePatch about neighbours.
type AddrsPatch struct {
	Set    []NeighborEntry `json:"set,omitempty"`
	Remove []NeighborID    `json:"remove,omitempty"`
}

// IsZero reports whether nothing is to be changed.
func (p AddrsPatch) IsZero() bool { return len(p.Set)+len(p.Remove) == 0 }

// PeersPatch is the part of a SourcePatch about peers.
type PeersPatch struct {
	Set    []map[string]any `json:"set"`
	Remove []string         `json:"remove"` // public keys
}

// Sources asks GET /v1/sources.
func (a *AgentClient) Sources(ctx context.Context) (SourceTable, error) { return a.c.Sources(ctx) }

// AgentPeers asks GET /v1/peers and returns the public keys of the peers that belong to the agent.
// Those that the file or an operator has as well are not among them.
func (a *AgentClient) AgentPeers(ctx context.Context) ([]string, error) {
	var rows struct {
		Peers []struct {
			Key    string `json:"public_key"`
			Source string `json:"source"`
		} `json:"peers"`
	}
	if err := a.c.call(ctx, http.MethodGet, "/v1/peers?fields=public_key,source", nil, &rows); err != nil {
		return nil, err
	}
	var keys []string
	for _, row := range rows.Peers {
		if row.Source == SourceAgent {
			keys = append(keys, row.Key)
		}
	}
	return keys, nil
}

// Put asks PUT /v1/sources/agent.
func (a *AgentClient) Put(ctx context.Context, put SourcePut) (answer SourceAnswer, err error) {
	put.Peers = list(put.Peers)
	err = a.c.call(ctx, http.MethodPut, "/v1/sources/agent", put, &answer)
	return answer, err
}

// Patch asks PATCH /v1/sources/agent.
func (a *AgentClient) Patch(ctx context.Context, patch SourcePatch) (answer SourceAnswer, err error) {
	patch.Peers.Set, patch.Peers.Remove = list(patch.Peers.Set), list(patch.Peers.Remove)
	err = a.c.call(ctx, http.MethodPatch, "/v1/sources/agent", patch, &answer)
	return answer, err
}

// FDB asks GET /v1/fdb.
func (a *AgentClient) FDB(ctx context.Context) (FDBTable, error) { return a.c.FDB(ctx) }

// Follow asks GET /v1/events; see Client.Follow.
func (a *AgentClient) Follow(ctx context.Context, after *uint64, kinds []events.Kind, each func(e *events.Event, line []byte) error) error {
	return a.c.Follow(ctx, after, kinds, each)
}

// Clear asks DELETE /v1/sources/agent and returns how many peers were removed.
func (a *AgentClient) Clear(ctx context.Context) (int, error) {
	var answer cleared
	err := a.c.call(ctx, http.MethodDelete, "/v1/sources/agent", nil, &answer)
	return answer.Removed, err
}

// Handshake asks POST /v1/peers/handshake.
func (a *AgentClient) Handshake(ctx context.Context, publicKey string) error {
	return a.c.do(ctx, "/v1/peers/handshake", handshakeWith{publicKey})
}
