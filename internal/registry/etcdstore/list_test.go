package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// page answers a request to something that has n grants of that value.
func page(r *etcdserverpb.RangeRequest, prefix string, n int, value []byte) *etcdserverpb.RangeResponse {
	answer := &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, Revision: 7}}
	for i := range n {
		key := fmt.Sprintf("%sgrant/%02d", prefix, i)
		switch {
		case key < string(r.Key) || key >= string(r.RangeEnd):
		case int64(len(answer.Kvs)) == r.Limit:
			answer.More = true
		default:
			answer.Kvs = append(answer.Kvs, &mvccpb.KeyValue{Key: []byte(key), Value: value})
		}
	}
	return answer
}

// largeKV has documents of a megabyte.
type largeKV struct {
	etcdserverpb.UnimplementedKVServer
	prefix  string
	largest int // most documents in an answer
}

const largeDocuments = 20

func (k *largeKV) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	answer := page(r, k.prefix, largeDocuments, bytes.Repeat([]byte("x"), 1<<20))
	k.largest = max(k.largest, len(answer.Kvs))
	return answer, nil
}

// serve starts a server with nothing but documents, and leases if it has them, and returns a store
// on it.
func serve(t *testing.T, kv etcdserverpb.KVServer) *Store {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Endpoints: []string{"http://" + listener.Addr().String()}, Network: "n"})
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	etcdserverpb.RegisterKVServer(server, kv)
	if l, ok := kv.(etcdserverpb.LeaseServer); ok {
		etcdserverpb.RegisterLeaseServer(server, l)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = s.Close(); server.Stop() })
	return s
}

// However large the documents are that somebody has put into a registry, no answer takes more
// memory than maxAnswer, and everything is read.
func TestList_largeDocuments(t *testing.T) {
	t.Parallel()
	kv := &largeKV{prefix: "/tund/v1/n/"}
	s := serve(t, kv)
	s.callTimeout = limit // a busy machine takes more than the usual for the first 20 MB
	all, at, err := s.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Values) != largeDocuments || at != (moment{1, 7}) {
		t.Errorf("%d documents at %+v, want %d", len(all.Values), at, largeDocuments)
	}
	if kv.largest != largeDocuments {
		t.Errorf("at most %d documents were sent at once: the bound was not put to the test", kv.largest)
	}
}

// slowKV has many documents, of which it can send only a few in time. Its first page is no slower
// for being large, unless slowAtOnce says so.
type slowKV struct {
	etcdserverpb.UnimplementedKVServer
	prefix     string
	slowAtOnce bool
	pages      atomic.Int64
}

const slowDocuments, inTime = 100, 20

func (k *slowKV) Range(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	answer := page(r, k.prefix, slowDocuments, []byte("x"))
	k.pages.Add(1)
	if (k.slowAtOnce || r.Revision != 0) && len(answer.Kvs) > inTime {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return answer, nil
}

// patiently lists everything, and does so again if even the first page came too late, as it may on
// a busy machine.
func patiently(t *testing.T, s *Store) {
	t.Helper()
	for start := time.Now(); ; {
		all, _, err := s.list(t.Context())
		if errors.Is(err, context.DeadlineExceeded) && time.Since(start) < limit {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(all.Values) != slowDocuments {
			t.Errorf("%d documents, want %d", len(all.Values), slowDocuments)
		}
		return
	}
}

// Over a line so slow that a page does not come in time, everything comes with smaller pages,
// instead of from the beginning again and again.
func TestList_slowLine(t *testing.T) {
	t.Parallel()
	kv := &slowKV{prefix: "/tund/v1/n/"}
	s := serve(t, kv)
	s.callTimeout, s.pageSize = time.Second, slowDocuments/2
	patiently(t, s)
	if n := kv.pages.Load(); n < 1+(slowDocuments/2)/inTime {
		t.Errorf("%d pages: the bound was not put to the test", n)
	}
}

// Who has heard nothing at all is told so after one attempt, and asks for less in the next.
func TestList_nothingInTime(t *testing.T) {
	t.Parallel()
	kv := &slowKV{prefix: "/tund/v1/n/", slowAtOnce: true}
	s := serve(t, kv)
	s.callTimeout, s.pageSize = time.Second, 4*inTime
	if _, _, err := s.list(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first list: %v, want that it takes too long", err)
	}
	if s.pageSize > inTime {
		t.Errorf("the next asks for %d documents at once", s.pageSize)
	}
	patiently(t, s)
}

// oddKV is no etcd: its pages never end.
type oddKV struct {
	etcdserverpb.UnimplementedKVServer
	pages atomic.Int64
	keys  func(page int64, r *etcdserverpb.RangeRequest) []string
}

func (k *oddKV) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	answer := &etcdserverpb.RangeResponse{More: true} // nor does it say who it is
	for _, key := range k.keys(k.pages.Add(1), r) {
		answer.Kvs = append(answer.Kvs, &mvccpb.KeyValue{Key: []byte("/tund/v1/n/" + key)})
	}
	return answer, nil
}

// Whatever answers in the place of etcd, reading it has an end, and takes a bounded amount of
// memory.
func TestList_withoutEnd(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]func(int64, *etcdserverpb.RangeRequest) []string{
		"the same key again": func(int64, *etcdserverpb.RangeRequest) []string { return []string{"crl"} },
		"keys of nobody": func(page int64, _ *etcdserverpb.RangeRequest) (list []string) {
			for i := range 20_000 {
				list = append(list, fmt.Sprintf("k/%08d/%05d/x", page, i))
			}
			return list
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kv := &oddKV{keys: keys}
			s := serve(t, kv)
			s.callTimeout = limit
			if _, _, err := s.list(t.Context()); err == nil {
				t.Error("it is read to its end")
			}
			if n := kv.pages.Load(); n > 40 {
				t.Errorf("%d pages", n)
			}
		})
	}
}
