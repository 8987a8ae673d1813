package metrics

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"tund/internal/registry/agent"
	"tund/internal/registry/view"
)

// Every metric is shown, and described with the field of the status that it comes from.
func TestServe(t *testing.T) {
	t.Parallel()
	status := func() agent.Status {
		return agent.Status{Sites: 7, StoreError: "x", Listed: time.Unix(5, 0), Refused: map[view.Refusal]uint64{view.Replayed: 3}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, err := Serve(ctx, netip.MustParseAddrPort("127.0.0.1:0"), status)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	w := &recorder{header: http.Header{}}
	request, _ := http.NewRequest(http.MethodGet, "/metrics", nil)
	Handler(status).ServeHTTP(w, request)
	text := w.body.String()
	docs, err := os.ReadFile("../../../docs/tund-agent.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Families() {
		if !strings.Contains(text, "\n"+f.Name+" ") || !strings.Contains(string(docs), "`"+f.Name+"`") {
			t.Errorf("%s is not shown, or not documented", f.Name)
		}
	}
	for _, want := range []string{"tund_agent_sites 7\n", "tund_agent_store_ok 0\n", "tund_agent_store_listed_timestamp_seconds 5\n", `tund_agent_refused_total{reason="replayed"} 3`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	for i := range reflect.TypeFor[agent.Status]().NumField() {
		name := reflect.TypeFor[agent.Status]().Field(i).Tag.Get("json")
		if !strings.Contains(string(docs), "`"+name+"`") {
			t.Errorf("the field %q of --status is not documented", name)
		}
	}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	body   strings.Builder
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
