package control

import (
	"context"
	"net/http"

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
	Peers      []map[string]any `json:"peers"`
}

// SourcePatch is the body of PATCH /v1/sources/agent: a change of some of its state.
type SourcePatch struct {
	Epoch        string     `json:"epoch"`
	IfGeneration uint64     `json:"if_generation"`
	Generation   uint64     `json:"generation"`
	Peers        PeersPatch `json:"peers"`
}

// PeersPatch is the part of a SourcePatch about peers.
type PeersPatch struct {
	Set    []map[string]any `json:"set"`
	Remove []string         `json:"remove"` // public keys
}

// Sources asks GET /v1/sources.
func (a *AgentClient) Sources(ctx context.Context) (SourceTable, error) { return a.c.Sources(ctx) }

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

// Clear asks DELETE /v1/sources/agent and returns how many peers were removed.
func (a *AgentClient) Clear(ctx context.Context) (int, error) {
	var answer cleared
	err := a.c.call(ctx, http.MethodDelete, "/v1/sources/agent", nil, &answer)
	return answer.Removed, err
}

// Handshake asks POST /v1/peers/handshake.
func (a *AgentClient) Handshake(ctx context.Context, publicKey string) error {
	return a.c.call(ctx, http.MethodPost, "/v1/peers/handshake", handshakeWith{publicKey}, nil)
}
