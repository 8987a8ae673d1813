package etcdstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"tund/internal/testnet"
)

// leases is a registry that has leases, and takes what it is given unless put says otherwise.
type leases struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedLeaseServer
	put     func(ctx context.Context, key string) error
	granted atomic.Int64

	mu   sync.Mutex
	has  map[string]int64 // the lease of each document
	puts map[string]int
}

func newLeases(put func(ctx context.Context, key string) error) *leases {
	return &leases{put: put, has: map[string]int64{}, puts: map[string]int{}}
}

func (l *leases) LeaseGrant(context.Context, *etcdserverpb.LeaseGrantRequest) (*etcdserverpb.LeaseGrantResponse, error) {
	return &etcdserverpb.LeaseGrantResponse{Header: &etcdserverpb.ResponseHeader{}, ID: l.granted.Add(1), TTL: leaseTTL}, nil
}

func (l *leases) LeaseKeepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err == nil {
			err = stream.Send(&etcdserverpb.LeaseKeepAliveResponse{Header: &etcdserverpb.ResponseHeader{}, ID: r.ID, TTL: leaseTTL})
		}
		if err != nil {
			return err
		}
	}
}

func (l *leases) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	key := strings.TrimPrefix(string(r.Key), "/tund/v1/n/")
	l.mu.Lock()
	l.puts[key]++
	l.mu.Unlock()
	if err := l.put(ctx, key); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.has[key] = r.Lease
	return &etcdserverpb.PutResponse{Header: &etcdserverpb.ResponseHeader{}}, nil
}

// lease returns the lease on which a document hangs; 0: it is not there.
func (l *leases) lease(key string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.has[key]
}

// keeping has a store keep its documents until the test ends.
func keeping(t *testing.T, l *leases, change func(*Store)) *Store {
	t.Helper()
	s := serve(t, l)
	change(s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.keep(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

// A document that a site may not write keeps none of its others from being written, and is not
// tried all the time.
func TestHold_aDocumentThatIsRefused(t *testing.T) {
	t.Parallel()
	l := newLeases(func(_ context.Context, key string) error {
		if strings.HasPrefix(key, "l2/7/") {
			return rpctypes.ErrGRPCPermissionDenied
		}
		return nil
	})
	s := keeping(t, l, func(*Store) {})
	for _, key := range []string{"site/x/up", "l2/7/x/00", "l2/0/x/00"} {
		s.Hold(key, []byte("here"))
	}
	testnet.Await(t, "what is permitted is there", limit, func() bool { return l.lease("l2/0/x/00") != 0 && l.lease("site/x/up") != 0 })
	if err := s.HoldError(); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("what is refused is told as %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.puts["l2/7/x/00"]; n < 1 || n > 3 { // a third time follows after 3 seconds or more
		t.Errorf("what is refused was written %d times at once", n)
	}
}

// Over a line on which a document takes longer than usual, it is written in the end.
func TestHold_slowLine(t *testing.T) {
	t.Parallel()
	const took = time.Second
	l := newLeases(func(ctx context.Context, _ string) error {
		select {
		case <-time.After(took):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	s := keeping(t, l, func(s *Store) { s.putTimeout = 3 * took / 5 })
	s.Hold("l2/7/x/00", []byte("here"))
	testnet.Await(t, "the document is there", limit, func() bool { return l.lease("l2/7/x/00") != 0 })
	if err := s.Put(t.Context(), "site/x/rec", []byte("here")); err != nil {
		t.Errorf("a record: %v", err)
	}
}

// A lease that the registry has forgotten is replaced as soon as that is seen.
func TestHold_aLeaseThatIsForgotten(t *testing.T) {
	t.Parallel()
	l := newLeases(nil)
	l.put = func(context.Context, string) error {
		if l.granted.Load() == 1 {
			return rpctypes.ErrGRPCLeaseNotFound
		}
		return nil
	}
	s := keeping(t, l, func(*Store) {})
	s.Hold("l2/7/x/00", []byte("here"))
	testnet.Await(t, "another lease", limit, func() bool { return l.lease("l2/7/x/00") == 2 })
}

// The more there is, and the longer it takes to read, the less often it is read again.
func TestUntilNextList(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		documents   int
		took, least time.Duration
	}{{3, time.Second, 10 * time.Minute}, {2000, 10 * time.Second, 2000 * time.Second}, {2000, 27 * time.Minute, 9 * time.Hour}} {
		if got := untilNextList(c.documents, c.took); got < c.least || got > c.least+c.least/10 {
			t.Errorf("%d documents in %v: again after %v, want %v and a little", c.documents, c.took, got, c.least)
		}
	}
}

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
		h.shown("site/x/up", kv.Value, kv.Lease)
		if _, _, ok := h.next(); !ok || h.err == nil {
			t.Errorf("%+v is taken for ours", kv)
		}
	}
	h.shown("site/x/up", []byte("here"), 7)
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
