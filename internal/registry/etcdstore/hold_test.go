package etcdstore

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A document whose writing was not answered in time is not written again once the registry has
// shown it, on the lease of this run and as it is to be.
func TestHolding_whatTheRegistryShowsIsWritten(t *testing.T) {
	t.Parallel()
	h := newHolding()
	h.wanted["site/x/up"] = []byte("here")
	h.begin(7)
	late := errors.New("too late")
	h.wrote("site/x/up", []byte("here"), late)
	for _, kv := range []*mvccpb.KeyValue{{Value: []byte("here"), Lease: 6}, {Value: []byte("there"), Lease: 7}, {Value: []byte("here")}} {
		h.shown("site/x/up", kv)
		if _, _, ok := h.next(); !ok || h.err == nil {
			t.Errorf("%+v is taken for ours", kv)
		}
	}
	h.shown("site/x/up", &mvccpb.KeyValue{Value: []byte("here"), Lease: 7})
	if key, _, ok := h.next(); ok || h.err != nil {
		t.Errorf("%s is written again although the registry has it: %v", key, h.err)
	}
	h.wrote("site/x/up", []byte("here"), late) // of the attempt that was under way
	if _, _, ok := h.next(); ok || h.err != nil {
		t.Errorf("an attempt that is answered later than the registry shows its effect: %v", h.err)
	}
	h.begin(8)
	if _, _, ok := h.next(); !ok {
		t.Error("nothing is written on a new lease")
	}
}
