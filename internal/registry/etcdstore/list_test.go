package etcdstore

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// largeKV has documents of a megabyte.
type largeKV struct {
	etcdserverpb.UnimplementedKVServer
	prefix  string
	largest int // most documents in an answer
}

const largeDocuments = 20

func (k *largeKV) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	answer := &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, Revision: 7}}
	for i := range largeDocuments {
		key := fmt.Sprintf("%sgrant/%02d", k.prefix, i)
		switch {
		case key < string(r.Key) || key >= string(r.RangeEnd):
		case int64(len(answer.Kvs)) == r.Limit:
			answer.More = true
		default:
			answer.Kvs = append(answer.Kvs, &mvccpb.KeyValue{Key: []byte(key), Value: bytes.Repeat([]byte("x"), 1<<20)})
		}
	}
	k.largest = max(k.largest, len(answer.Kvs))
	return answer, nil
}

// However large the documents are that somebody has put into a registry, no answer takes more
// memory than maxAnswer, and everything is read.
func TestList_largeDocuments(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Endpoints: []string{"http://" + listener.Addr().String()}, Network: "n"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kv := &largeKV{prefix: s.prefix}
	server := grpc.NewServer()
	etcdserverpb.RegisterKVServer(server, kv)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
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
