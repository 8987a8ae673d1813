package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tund/internal/registry/record"
)

// list reads everything at one revision. Of what a site has written below its own prefix it reads
// no more than a site may have.
func (s *Store) list(ctx context.Context) (all *record.Listing, at moment, err error) {
	all = &record.Listing{Values: make(map[string][]byte)}
	for _, r := range s.ranges {
		if err := s.listRange(ctx, r[0], r[1], &at, all); err != nil {
			return nil, at, err
		}
	}
	return all, at, nil
}

// pageTries is how often a page of at most leastPage documents is asked for.
const pageTries = 3

// errAstray is why nothing is read from something that is no etcd: with an answer that leads back,
// there would be no end.
var errAstray = errors.New("the answer has a key that was not asked for")

// listRange reads a range of keys into all, at a moment; without one at the newest, which it notes.
// A page that does not come in time is asked for again, with fewer documents, unless there was none
// before it: whoever has a slow line, or a busy member, gets everything in the end, and who has
// nothing is told at once.
func (s *Store) listRange(ctx context.Context, from, end string, at *moment, all *record.Listing) error {
	tries := 0
	for {
		began := time.Now()
		page, err := s.page(ctx, from, end, at.revision)
		switch {
		case status.Code(err) == codes.ResourceExhausted && s.pageSize > 1: // more than maxAnswer
			s.pageSize /= 2
			continue
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			if s.pageSize > leastPage {
				s.pageSize = max(s.pageSize/4, leastPage)
			} else {
				tries++
			}
			if at.revision != 0 && tries < pageTries {
				continue
			}
		}
		if err != nil {
			return err
		}
		if at.revision == 0 {
			*at = moment{page.Header.GetClusterId(), page.Header.GetRevision()}
		}
		tries = 0
		size := 0
		for _, kv := range page.Kvs {
			if string(kv.Key) < from || string(kv.Key) >= end {
				return errAstray
			}
			all.Add(s.relative(kv.Key), kv.Value)
			size += len(kv.Value)
		}
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		if len(all.Values) >= maxKeys || all.Surplus >= maxSurplus {
			return fmt.Errorf("more than %d documents, or %d values that are none", maxKeys, maxSurplus)
		}
		if size < maxAnswer/4 && time.Since(began) < s.callTimeout/4 {
			s.pageSize = min(2*s.pageSize, pageSize)
		}
		last := page.Kvs[len(page.Kvs)-1].Key
		from = string(last) + "\x00"
		if group := all.Overrun(s.relative(last)); group != "" {
			from = clientv3.GetPrefixRangeEnd(s.prefix + group)
		}
		if from >= end {
			return nil
		}
	}
}

// page reads what comes first in a range, at a revision; 0: the newest.
func (s *Store) page(ctx context.Context, from, end string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.callTimeout)
	defer cancel()
	return s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(s.pageSize), clientv3.WithRev(revision),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
}
