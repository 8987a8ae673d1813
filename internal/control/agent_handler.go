package control

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxSourceBody bounds the body of a change of a source, in bytes: 20,000 peers with long lists of
// allowed IPs. It is read as a stream, so this is not what it takes of memory.
const maxSourceBody = 32 << 20

// agentVerbs is the API of agent.sock.
func agentVerbs() []verb {
	return []verb{
		{path: "/v1/sources", method: http.MethodGet, answer: (*handler).getSources},
		{path: "/v1/sources/agent", method: http.MethodPut, write: true, maxBody: maxSourceBody, answer: (*handler).putSource},
		{path: "/v1/sources/agent", method: http.MethodPatch, write: true, maxBody: maxSourceBody, answer: (*handler).patchSource},
		{path: "/v1/sources/agent", method: http.MethodDelete, write: true, answer: (*handler).clearSource},
		{path: "/v1/peers/handshake", method: http.MethodPost, write: true, answer: (*handler).handshake},
		{path: "/v1/peers", method: http.MethodGet, answer: (*handler).getPeers},
		{path: "/v1/fdb", method: http.MethodGet, answer: (*handler).getAgentFDB},
		{path: "/v1/events", method: http.MethodGet, answer: (*handler).followEvents},
	}
}

func (h *handler) getSources(http.ResponseWriter, *http.Request) (any, error) {
	return SourceTable{Name: h.name, Sources: list(h.agent.Sources())}, nil
}

func (h *handler) putSource(w http.ResponseWriter, r *http.Request) (any, error) {
	return h.changeSource(w, r, true)
}

func (h *handler) patchSource(w http.ResponseWriter, r *http.Request) (any, error) {
	return h.changeSource(w, r, false)
}

// getAgentFDB answers with the forwarding database: an agent publishes what lives on our own LAN.
func (h *handler) getAgentFDB(http.ResponseWriter, *http.Request) (any, error) {
	table := h.agent.FDB()
	table.FDB = list(table.FDB)
	return FDBTable{Schema: FDBSchema, Instances: []FDBInstance{table}}, nil
}

// changeSource reads a change and applies it. One is read at a time: each takes memory for all its
// peers.
func (h *handler) changeSource(w http.ResponseWriter, r *http.Request, whole bool) (any, error) {
	if !h.changing.TryLock() {
		return nil, &Error{Code: CodeBusy, Message: "another change of the agent's peers is being made"}
	}
	defer h.changing.Unlock()
	// As for a reload: the kernel may take its time for many routes.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	change, err := h.agent.Begin(whole)
	if err != nil {
		return nil, err
	}
	head, err := decodeSource(r.Body, whole, change)
	if err != nil {
		return nil, err
	}
	answer, err := change.Commit(head)
	if err != nil {
		return nil, err
	}
	answer.Rejected = list(answer.Rejected)
	return answer, nil
}

// cleared is the answer of DELETE /v1/sources/agent.
type cleared struct {
	Removed int `json:"removed"`
}

func (h *handler) clearSource(w http.ResponseWriter, _ *http.Request) (any, error) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	n, err := h.agent.Clear()
	return cleared{n}, err
}

// handshakeWith is the body of POST /v1/peers/handshake.
type handshakeWith struct {
	PublicKey string `json:"public_key"`
}

func (h *handler) handshake(_ http.ResponseWriter, r *http.Request) (any, error) {
	var who handshakeWith
	if err := decode(r.Body, &who); err != nil {
		return nil, err
	}
	return done{true}, h.agent.Handshake(who.PublicKey)
}

// peerRows is the answer of GET /v1/peers.
type peerRows struct {
	Peers []map[string]any `json:"peers"`
}

// getPeers answers with the peers in the states of `state` (a list with commas; none: all) and with
// the fields of `fields` (the same).
func (h *handler) getPeers(_ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	fields := []string{"name", "public_key", "state", "source", "endpoint", "last_handshake"}
	if text := query.Get("fields"); text != "" {
		fields = strings.Split(text, ",")
	}
	for _, f := range fields {
		if rowFields[f] == nil {
			return nil, invalid("no field %q: there are %s", clip(f, 32), strings.Join(slices.Sorted(maps.Keys(rowFields)), ", "))
		}
	}
	states := make(map[PeerState]bool)
	for _, s := range strings.Split(query.Get("state"), ",") {
		switch state := PeerState(s); state {
		case StateUp, StateConnecting, StateIdle, StateDown:
			states[state] = true
		case "":
		default:
			return nil, invalid("no state %q: there are up, connecting, idle and down", clip(s, 32))
		}
	}
	out := peerRows{Peers: []map[string]any{}}
	rows := h.agent.Peers()
	for i := range rows {
		if len(states) > 0 && !states[rows[i].State] {
			continue
		}
		row := make(map[string]any, len(fields))
		for _, f := range fields {
			row[f] = rowFields[f](&rows[i])
		}
		out.Peers = append(out.Peers, row)
	}
	return out, nil
}
