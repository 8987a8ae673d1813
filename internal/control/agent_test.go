package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/internal/control/admission"
	"tund/internal/events"
)

// fakeAgent is an instance that notes what an agent asks for.
type fakeAgent struct {
	whole   bool
	peers   []map[string]any
	removed []string
	hosts   []any // what is said of hosts and neighbours
	head    SourceHead
	commits int
	answer  error
}

func (f *fakeAgent) Sources() []Source      { return []Source{{Name: "agent", Generation: 3}} }
func (f *fakeAgent) Clear() (int, error)    { return 4, nil }
func (f *fakeAgent) Handshake(string) error { return nil }
func (f *fakeAgent) Events() *events.Log    { return events.New(time.Now()) }
func (f *fakeAgent) Peers() []PeerRow {
	return []PeerRow{{Name: "a", State: StateUp, RxBytes: 7}, {Name: "b", State: StateDown, LastError: "why"}}
}
func (f *fakeAgent) Begin(whole bool) (SourceChange, error) {
	f.whole, f.peers, f.removed, f.hosts = whole, nil, nil, nil
	return f, nil
}
func (f *fakeAgent) Peer(values map[string]any) { f.peers = append(f.peers, values) }
func (f *fakeAgent) Remove(publicKey string)    { f.removed = append(f.removed, publicKey) }
func (f *fakeAgent) Host(e HostEntry)           { f.hosts = append(f.hosts, e) }
func (f *fakeAgent) RemoveHost(id HostID)       { f.hosts = append(f.hosts, id) }
func (f *fakeAgent) Neighbor(e NeighborEntry)   { f.hosts = append(f.hosts, e) }
func (f *fakeAgent) RemoveNeighbor(id NeighborID) {
	f.hosts = append(f.hosts, id)
}
func (f *fakeAgent) FDB() FDBInstance {
	return FDBInstance{Name: "office", FDB: []FDBEntry{{MAC: "02:00:00:00:00:01", Kind: "local"}}}
}
func (f *fakeAgent) Commit(h SourceHead) (SourceAnswer, error) {
	f.head = h
	f.commits++
	return SourceAnswer{Generation: h.Generation}, f.answer
}

// askAgent sends a request to the handler of an agent's socket, as who.
func askAgent(f *fakeAgent, who admission.Caller, method, path, body string) *recorder {
	h := newAgentHandler(f, "office", 4242, zap.NewNop())
	h.streams = &streams{closing: make(chan struct{})}
	r, _ := http.NewRequestWithContext(context.WithValue(context.Background(), callerKey{}, who), method, path, strings.NewReader(body))
	w := &recorder{header: http.Header{}}
	h.ServeHTTP(w, r)
	return w
}

var theAgent = admission.Caller{UID: 4242, Known: true}

func TestAgentHandler_isForItsUserOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		who  admission.Caller
		want int
	}{{theAgent, 200}, {admission.Caller{UID: 0, Known: true}, 200}, {admission.Caller{UID: os.Geteuid(), Known: true}, 200}, {admission.Caller{UID: 4243, Known: true}, 403}, {admission.Caller{UID: 4242}, 403}} {
		for _, v := range agentVerbs() {
			body := map[string]string{
				"PUT": `{"epoch":"e","generation":1,"peers":[]}`, "PATCH": `{"epoch":"e","if_generation":1,"generation":2}`, "POST": `{"public_key":"x"}`,
			}[v.method]
			method := v.method
			if v.path == "/v1/events" {
				method = http.MethodHead // without the stream
			}
			if w := askAgent(&fakeAgent{}, c.who, method, v.path, body); w.status != c.want {
				t.Errorf("%+v %s %s: %d, want %d: %s", c.who, v.method, v.path, w.status, c.want, w.body.String())
			}
		}
	}
	for _, v := range verbs() { // what the control socket can do, the agent's cannot
		if v.path == "/v1/sources" || v.path == "/v1/events" || v.path == "/v1/fdb" {
			continue
		}
		if w := askAgent(&fakeAgent{}, theAgent, v.method, v.path, "{}"); w.status != 404 {
			t.Errorf("%s %s over agent.sock: %d", v.method, v.path, w.status)
		}
	}
}

func TestDecodeSource(t *testing.T) {
	t.Parallel()
	const put, patch = "PUT", "PATCH"
	for _, test := range []struct{ method, body, want string }{
		{put, `{"epoch":"e","generation":7,"peers":[{"name":"a","keepalive":25,"allowed_ips":["10.0.0.0/8"]},{}]}`, "7 of e from 0: 2 set, 0 removed"},
		{put, `{"peers":[],"hold_s":0,"generation":7,"epoch":"e"}`, "7 of e from 0: 0 set, 0 removed"},
		{patch, `{"epoch":"e","if_generation":7,"generation":8,"peers":{"set":[{}],"remove":["x","y"]}}`, "8 of e from 7: 1 set, 2 removed"},
		{patch, `{"epoch":"e","if_generation":7,"generation":8}`, "8 of e from 7: 0 set, 0 removed"},
		{put, `{"epoch":"e","generation":7}`, `invalid: "peers" is missing`},
		{put, `{"generation":7,"peers":[]}`, `invalid: "epoch" is missing`},
		{patch, `{"epoch":"e","generation":8}`, `invalid: "if_generation" is missing`},
		{put, `{"epoch":"e","generation":7,"peers":[],"hold_s":-1}`, "invalid: hold_s -1 is not between 0 (no limit) and 604800 seconds"},
		{put, `{"epoch":"e","generation":7,"peers":[],"hold_s":1e9}`, "invalid: hold_s 1e+09 is not between"},
		{put, `{"epoch":"e","generation":7,"peers":[],"fdb":{}}`, "invalid: fdb: want a list"},
		{patch, `{"epoch":"e","if_generation":7,"generation":8,"fdb":[]}`, "invalid: fdb: want an object"},
		{patch, `{"epoch":"e","if_generation":7,"generation":8,"neighbors":{"set":[],"set":[]}}`, `invalid: neighbors: "set" is given twice`},
		{put, `{"epoch":"e","generation":7,"peers":[],"fdb":[{"mac":"02:00:00:00:00:01","seq":-1}]}`, "invalid: request body: "},
		{put, `{"epoch":"e","generation":7,"peers":[],"fdb":[{"mac":"02:00:00:00:00:01","color":1}]}`, "invalid: request body: "},
		{put, `{"epoch":"e","generation":7,"peers":[],"peers":[]}`, `invalid: "peers" is given twice`},
		{put, `{"epoch":"e","generation":7,"peer":[]}`, `invalid: unknown key "peer"`},
		{patch, `{"epoch":"e","if_generation":7,"generation":8,"peers":{"add":[]}}`, `invalid: peers: unknown key "add"`},
		{put, `{"epoch":"e","generation":7,"peers":{}}`, "invalid: peers: want a list"},
		{patch, `{"epoch":"e","if_generation":7,"generation":8,"peers":[]}`, "invalid: peers: want an object"},
		{put, `{"epoch":"e","generation":-1,"peers":[]}`, "invalid: request body: "},
		{put, `{"epoch":"e","generation":7,"peers":[1]}`, "invalid: request body: "},
		{put, `{"epoch":"e","generation":7,"peers":[{}`, "invalid: request body"},
		{put, `{"epoch":"e","generation":7,"peers":[]} {}`, "invalid: request body holds more than one JSON value"},
		{put, ``, "invalid: request body ends early"},
		{put, `[]`, "invalid: the request: want an object"},
		{put, `{"epoch":"` + strings.Repeat("e", 65) + `","generation":7,"peers":[]}`, "invalid: epoch is longer than 64 bytes"},
		{put, `{"epoch":"` + strings.Repeat("e", maxSourceBody) + `"}`, "too-large: request body has an element of more than 4194304 bytes"},
		{put, `{"epoch":"e","generation":1,"peers":[` + strings.Repeat(`{"name":"`+strings.Repeat("e", 1<<20)+`"},`, maxSourceBody>>20) + "{}]}",
			"too-large: request body is larger than 33554432 bytes"},
	} {
		f := &fakeAgent{}
		w := askAgent(f, theAgent, test.method, "/v1/sources/agent", test.body)
		got := fmt.Sprintf("%d of %s from %d: %d set, %d removed", f.head.Generation, f.head.Epoch, f.head.IfGeneration, len(f.peers), len(f.removed))
		if w.status != 200 {
			var e errorBody
			if json.Unmarshal(w.body.Bytes(), &e) == nil && e.Error != nil {
				got = string(e.Error.Code) + ": " + e.Error.Message
			}
			if f.commits != 0 {
				t.Errorf("%s: refused, and committed", clip(test.body, 80))
			}
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s %s:\ngot  %s\nwant %s", test.method, clip(test.body, 80), got, test.want)
		}
	}
	f := &fakeAgent{}
	askAgent(f, theAgent, put, "/v1/sources/agent", `{"epoch":"e","generation":7,"peers":[{"keepalive":25,"vlans":[7,"8-9"]}]}`)
	if got := fmt.Sprintf("%T %v", f.peers[0]["keepalive"], f.peers[0]); got != "int64 map[keepalive:25 vlans:[7 8-9]]" {
		t.Errorf("a peer arrives as %s", got)
	}
}

// Hosts and neighbours are handed over as they are said; a list that is not there is none.
func TestDecodeSource_hosts(t *testing.T) {
	t.Parallel()
	const host = `{"mac":"02:00:00:00:00:01","vlan":7,"peer":"k","seq":3,"sticky":true,"ttl_s":1.5}`
	const neighbor = `{"ip":"10.0.0.1","vlan":7,"mac":"02:00:00:00:00:01","peer":"k","router":true}`
	for _, test := range []struct{ method, body, want string }{
		{"PUT", `{"epoch":"e","generation":7,"hold_s":60,"peers":[],"fdb":[` + host + `],"neighbors":[` + neighbor + `]}`,
			"1m0s true true [{{02:00:00:00:00:01 7} k 3 true 1.5} {{10.0.0.1 7} 02:00:00:00:00:01 k true 0}]"},
		{"PUT", `{"epoch":"e","generation":7,"peers":[],"fdb":[]}`, "0s true false []"},
		{"PATCH", `{"epoch":"e","if_generation":7,"generation":8,"fdb":{"set":[` + host + `],"remove":[{"mac":"x","vlan":1}]},` +
			`"neighbors":{"set":[` + neighbor + `],"remove":[{"ip":"y","vlan":2}]}}`,
			"0s true true [{{02:00:00:00:00:01 7} k 3 true 1.5} {x 1} {{10.0.0.1 7} 02:00:00:00:00:01 k true 0} {y 2}]"},
	} {
		f := &fakeAgent{}
		w := askAgent(f, theAgent, test.method, "/v1/sources/agent", test.body)
		if got := fmt.Sprint(f.head.Hold, " ", f.head.Hosts, " ", f.head.Neighbors, " ", f.hosts); w.status != 200 || got != test.want {
			t.Errorf("%s: %d %s\ngot  %s\nwant %s", test.body, w.status, w.body.String(), got, test.want)
		}
	}
	if got := askAgent(&fakeAgent{}, theAgent, "GET", "/v1/fdb", "").body.String(); !strings.Contains(got, `"kind":"local"`) {
		t.Errorf("the forwarding database: %s", got)
	}
}

func TestAgentHandler_oneChangeAtATime(t *testing.T) {
	t.Parallel()
	h := newAgentHandler(&fakeAgent{}, "office", 4242, zap.NewNop())
	h.changing.Lock()
	_, err := h.changeSource(&recorder{header: http.Header{}}, &http.Request{}, true)
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeBusy {
		t.Errorf("a second change at a time: %v", err)
	}
}

func TestAgentHandler_peersInFewWords(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"?state=down&fields=name,last_error": `{"peers":[{"last_error":"why","name":"b"}]}`,
		"?fields=name,rx_bytes":              `{"peers":[{"name":"a","rx_bytes":7},{"name":"b","rx_bytes":0}]}`,
		"?state=idle":                        `{"peers":[]}`,
		"?fields=secret":                     `{"error":{"code":"invalid","message":"no field \"secret\": there are endpoint, `,
		"?state=dead":                        `{"error":{"code":"invalid","message":"no state \"dead\"`,
	} {
		if got := askAgent(&fakeAgent{}, theAgent, "GET", "/v1/peers"+query, "").body.String(); !strings.HasPrefix(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", query, got, want)
		}
	}
}

// An agent cannot have one element take memory without end, however much of a body it fills; many
// elements may be longer together.
func TestDecodeSource_boundsElements(t *testing.T) {
	t.Parallel()
	body := func(element string, times int) string {
		return `{"epoch":"e","generation":1,"peers":[` + strings.Repeat(element+",", times) + "{}]}"
	}
	long := `{"name":"` + strings.Repeat("e", 2*maxElement) + `"}`
	if _, err := decodeSource(strings.NewReader(body(long, 1)), true, &fakeAgent{}); asError(err).Code != CodeTooLarge {
		t.Errorf("an element that is too long: %v", err)
	}
	many := body(`{"name":"`+strings.Repeat("e", 1<<16)+`"}`, 3*maxElement>>16)
	agent := &fakeAgent{}
	if _, err := decodeSource(strings.NewReader(many), true, agent); err != nil {
		t.Errorf("%d bytes in many elements: %v", len(many), err)
	}
}

// FuzzDecodeSource reads any body: it leads to a commit or to an error that can be sent.
func FuzzDecodeSource(f *testing.F) {
	f.Add(`{"epoch":"e","generation":7,"peers":[{"name":"a"}]}`, true)
	f.Add(`{"epoch":"e","if_generation":7,"generation":8,"peers":{"set":[{}],"remove":["x"]}}`, false)
	f.Fuzz(func(t *testing.T, body string, whole bool) {
		head, err := decodeSource(strings.NewReader(body), whole, &fakeAgent{})
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Code != CodeInvalid) {
			t.Fatalf("%q: %v", body, err)
		}
		if err == nil && len(head.Epoch) > maxEpoch {
			t.Fatalf("%q: %+v", body, head)
		}
	})
}
