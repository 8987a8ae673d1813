// Package etcdstore is a registry in etcd (v3): the store of an agent that is told of changes at
// once.
//
// The document of a key is the value of /tund/v1/<network>/<key>. Everything is read in pages of
// one revision, and followed from the next one on. A watch that is silent for too long, was
// compacted away, or lost the cluster's leader ends, and everything is read again; what that means
// for the peers is for package view to decide, since a store may be restored, emptied, or lie. The
// same happens when the cluster is another one, or has gone back to an earlier revision: after a
// restore it would say nothing until its revisions have caught up. Everything is also read again at
// intervals, which are the longer the more there is.
//
// Connections use TLS with a client certificate when one is given. The package verifies no document
// and knows no peers. It is the only one that imports the client of etcd: neither tund nor tunctl
// is linked with it, which would double them.
//
// Sources: etcd's documentation of the API v3 (KV, Watch: compaction, progress, fragments).
package etcdstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"

	"tund/internal/registry/agent"
	"tund/internal/registry/record"
)

// Times and bounds.
const (
	// A page has at most pageSize documents, and fewer where so many do not come within
	// callTimeout; with leastPage of the usual size, that takes a line of 10 kbit/s.
	pageSize, leastPage = 500, 8
	// maxAnswer bounds an answer of a member, and with it the memory that a page takes, in bytes: a
	// document may have 1.5 MB in etcd, whoever wrote it. Pages beyond that are asked for again,
	// with fewer documents.
	maxAnswer = 8 << 20
	maxKeys   = 100_000 // documents in all: three for each of 20,000 sites, and those about hosts
	// maxSurplus bounds the values beside them: 64 in each VLAN, of a hostile site that has all
	// VLANs. Each takes some 200 bytes of memory.
	maxSurplus = 300_000
	// callTimeout bounds a request.
	callTimeout = 10 * time.Second
	// A document is written up to putTries times, which leads to the same as once but is told to
	// everybody again. Each time may take twice as long as the one before.
	putTries, putTimeout = 3, 2 * time.Second
	// progressEvery is how often the server is asked whether a watch still is one; it is given up
	// after silence.
	progressEvery = 10 * time.Second
	silence       = 90 * time.Second
	// listAgain is how often everything is read although nothing is wrong, with listAgainEach for
	// each document at the least, or what all agents read together would grow with the square of
	// the sites; and no more than a twentieth of the time of a slow line goes into it (listShare).
	listAgain, listAgainEach = 10 * time.Minute, time.Second
	listShare                = 20
	// Pauses after failures, doubling, each varied by up to a half.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// reconnect is the longest pause between two attempts to reach a member that is down. Each
	// costs a member that is up again a TLS handshake: 200 in a second from 1,000 agents, at 1 ms.
	reconnect = 5 * time.Second
)

// Options is what a Store is made of.
type Options struct {
	Endpoints []string // URLs of the members
	// CA, Cert and Key are PEM files; "": the system's authorities, and no client certificate.
	CA, Cert, Key string
	Network       string
	// Hosts: documents about hosts are read, those of VLANs, or of all VLANs if there are none.
	Hosts bool
	VLANs []uint16
}

// Store is the part of an etcd that belongs to one network (agent.Store).
type Store struct {
	client  *clientv3.Client
	prefix  string
	ranges  [][2]string // of keys that are read: from the first to before the second
	holding holding

	pageSize int64 // documents to ask for at once; of the goroutine that lists

	progressEvery, silence, callTimeout, putTimeout time.Duration // the constants, but in tests
}

// Open returns a store. It does not wait for a connection.
func Open(o Options) (*Store, error) {
	config := clientv3.Config{
		Endpoints: o.Endpoints, DialTimeout: callTimeout, DialKeepAliveTime: 20 * time.Second, DialKeepAliveTimeout: callTimeout,
		MaxCallRecvMsgSize: maxAnswer,
		Logger:             zap.NewNop(), // what matters is in the errors
		// Without this, a member that was away for long is tried again after up to two minutes.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnect}, MinConnectTimeout: callTimeout,
		})},
	}
	if o.CA != "" || o.Cert != "" {
		t, err := tlsConfig(o)
		if err != nil {
			return nil, err
		}
		config.TLS = t
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	prefix := "/tund/v1/" + o.Network + "/"
	return &Store{
		client: client, prefix: prefix, ranges: rangesOf(prefix, o), holding: newHolding(), pageSize: pageSize,
		progressEvery: progressEvery, silence: silence, callTimeout: callTimeout, putTimeout: putTimeout,
	}, nil
}

// maxRanges bounds the VLANs that are watched one by one; for more, all are.
const maxRanges = 32

// rangesOf returns which keys are read.
func rangesOf(prefix string, o Options) [][2]string {
	end, hosts := clientv3.GetPrefixRangeEnd(prefix), prefix+"l2/"
	if o.Hosts && (len(o.VLANs) == 0 || len(o.VLANs) > maxRanges) {
		return [][2]string{{prefix, end}}
	}
	ranges := [][2]string{{prefix, hosts}, {clientv3.GetPrefixRangeEnd(hosts), end}}
	if o.Hosts {
		for _, vlan := range o.VLANs {
			from := fmt.Sprintf("%s%d/", hosts, vlan)
			ranges = append(ranges, [2]string{from, clientv3.GetPrefixRangeEnd(from)})
		}
	}
	return ranges
}

func tlsConfig(o Options) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.CA)
		}
	}
	if o.Cert == "" {
		return t, nil
	}
	// Read for each connection, so that a renewed certificate needs no restart.
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		return &pair, err
	}
	_, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	return t, err
}

// Close ends the connections.
func (s *Store) Close() error { return s.client.Close() }

// Run tells sink what the registry has until ctx ends (agent.Store).
func (s *Store) Run(ctx context.Context, sink func(agent.News)) {
	kept := make(chan struct{})
	go func() { defer close(kept); s.keep(ctx) }()
	defer func() { <-kept }()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		start := time.Now()
		all, at, err := s.list(ctx)
		if err == nil {
			sink(agent.News{All: all.Values, Surplus: all.Surplus, Whose: all.Whose})
			err = s.watch(ctx, at, untilNextList(len(all.Values), time.Since(start)), sink)
		} else if ctx.Err() == nil {
			sink(agent.News{Err: fmt.Errorf("etcd: %w", err)})
		}
		if err == nil || time.Since(start) > lastRetry {
			pause = 0
		}
		pause = min(max(2*pause, firstRetry), lastRetry)
		s.rest(ctx, pause/2+rand.N(pause))
	}
}

// untilNextList returns when to read everything again that has so many documents and took so long.
func untilNextList(documents int, took time.Duration) time.Duration {
	pause := max(listAgain, time.Duration(documents)*listAgainEach, listShare*took)
	return pause + rand.N(pause/10)
}

// rest waits, but no longer than until there is a connection where there is none: whatever failed
// may succeed then.
func (s *Store) rest(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	conn := s.client.ActiveConnection()
	state := conn.GetState()
	if state == connectivity.Ready {
		<-ctx.Done()
		return
	}
	for state != connectivity.Ready && conn.WaitForStateChange(ctx, state) {
		state = conn.GetState()
	}
}

// moment is a state of a cluster.
type moment struct {
	cluster  uint64
	revision int64
}

func (s *Store) relative(key []byte) string { return strings.TrimPrefix(string(key), s.prefix) }

// errSilent ends a watch of which nothing is heard any more.
var errSilent = errors.New("the watch has been silent for too long")

// errOther ends a watch of a cluster that is not the one that was read.
var errOther = errors.New("the cluster was restored from a backup, or is a different one")

// watch tells sink of the changes after a moment. It ends without an error when it is time to read
// everything again.
func (s *Store) watch(ctx context.Context, at moment, until time.Duration, sink func(agent.News)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	changes := s.watchAll(ctx, at.revision+1)
	go s.askForProgress(ctx)
	look := time.NewTicker(s.progressEvery)
	defer look.Stop()
	end := time.NewTimer(until)
	defer end.Stop()
	course := newCourse(at, len(s.ranges), time.Now())
	for {
		select {
		case <-ctx.Done(): // the watches may have ended without a word
			return ctx.Err()
		case <-end.C:
			return nil
		case <-look.C:
			if course.silent(time.Now(), s.silence) {
				return errSilent
			}
			course.settle()
		case change := <-changes:
			if change.WatchResponse == nil {
				return errors.New("the watch has ended")
			}
			if err := change.Err(); err != nil { // compacted, no leader, not permitted …
				return err
			}
			where := moment{change.Header.ClusterId, change.Header.Revision}
			if err := course.heard(change.n, where, revisions(change.Events), time.Now()); err != nil {
				return err
			}
			for _, e := range change.Events {
				news := agent.News{Key: s.relative(e.Kv.Key)}
				if e.Type == clientv3.EventTypePut {
					news.Value = record.Clip(news.Key, e.Kv.Value)
					s.holding.shown(news.Key, e.Kv.Value, e.Kv.Lease)
				} else {
					s.holding.gone(news.Key)
				}
				sink(news)
			}
		}
	}
}

// revisions returns those of the first and the last change; nil: there is none.
func revisions(changes []*clientv3.Event) *[2]int64 {
	if len(changes) == 0 {
		return nil
	}
	return &[2]int64{changes[0].Kv.ModRevision, changes[len(changes)-1].Kv.ModRevision}
}

// watched is what one of the watches has said, the one of a range; nil: it has ended.
type watched struct {
	n int // of the range
	*clientv3.WatchResponse
}

// watchAll watches all ranges, until ctx ends.
func (s *Store) watchAll(ctx context.Context, from int64) <-chan watched {
	all := make(chan watched)
	for n, r := range s.ranges {
		changes := s.client.Watch(ctx, r[0], clientv3.WithRange(r[1]), clientv3.WithRev(from),
			clientv3.WithProgressNotify(), clientv3.WithFragment())
		go func() {
			for {
				change, open := <-changes
				next := watched{n, &change}
				if !open {
					next = watched{}
				}
				select {
				case all <- next:
				case <-ctx.Done():
					return
				}
				if !open {
					return
				}
			}
		}()
	}
	return all
}

// askForProgress asks the server at intervals for an answer on the watches of ctx, until ctx ends.
// Asking may block for as long as there is no connection.
func (s *Store) askForProgress(ctx context.Context) {
	ticker := time.NewTicker(s.progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = s.client.RequestProgress(ctx) // without an answer the watch is given up
		}
	}
}

// Put writes a document (agent.Store).
func (s *Store) Put(ctx context.Context, key string, value []byte) error {
	var err error
	for try := range putTries {
		// A member that forwards the request to a leader which has just died waits for 7 s.
		limited, cancel := context.WithTimeout(ctx, s.putTimeout<<try)
		_, err = s.client.Put(limited, s.prefix+key, string(value))
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("etcd: %w", err)
}
