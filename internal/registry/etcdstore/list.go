package etcdstore

import (
	"context"
	"fmt"

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

// listRange reads a range of keys into all, at a moment; without one at the newest, which it notes.
func (s *Store) listRange(ctx context.Context, from, end string, at *moment, all *record.Listing) error {
	limit := int64(pageSize)
	for {
		options := []clientv3.OpOption{
			clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend),
		}
		if at.revision != 0 {
			options = append(options, clientv3.WithRev(at.revision))
		}
		call, cancel := context.WithTimeout(ctx, s.callTimeout)
		page, err := s.client.Get(call, from, options...)
		cancel()
		if status.Code(err) == codes.ResourceExhausted && limit > 1 { // more than maxAnswer
			limit /= 2
			continue
		}
		if err != nil {
			return err
		}
		if at.revision == 0 {
			*at = moment{page.Header.ClusterId, page.Header.Revision}
		}
		for _, kv := range page.Kvs {
			all.Add(s.relative(kv.Key), kv.Value)
		}
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		if len(all.Values) >= maxKeys {
			return fmt.Errorf("more than %d documents", maxKeys)
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
