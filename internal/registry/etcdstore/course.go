package etcdstore

import (
	"slices"
	"time"
)

// course is how far each of several watches has come. They run beside one another: what one says
// may be read after what another has said later.
//
// So it is with the two things that one watch says. A member that has many watches to serve answers
// where it is before it has sent the changes up to there (etcd issue 15220), so that each is
// compared with its like alone.
type course struct {
	cluster uint64
	told    []int64     // the revision of the last change
	reached []int64     // where the member was, as it said last
	at      []time.Time // when each was heard last
}

// newCourse returns the course of a number of watches that begin at a moment.
func newCourse(from moment, watches int, now time.Time) *course {
	at := slices.Repeat([]int64{from.revision}, watches)
	return &course{from.cluster, at, slices.Clone(at), slices.Repeat([]time.Time{now}, watches)}
}

// heard notes where a watch is; with changes those are of the revisions from first to last, which
// are 0 without. The client takes a watch up again at whichever cluster answers: the error is
// errOther if that is another one, or has gone back.
func (c *course) heard(watch int, where moment, first, last int64, now time.Time) error {
	if where.cluster != c.cluster {
		return errOther
	}
	before := &c.told[watch]
	if first == 0 {
		before, first, last = &c.reached[watch], where.revision, where.revision
	}
	if first < *before {
		return errOther
	}
	*before, c.at[watch] = last, now
	return nil
}

// silent reports whether nothing was heard of one of the watches for longer than limit.
func (c *course) silent(now time.Time, limit time.Duration) bool {
	return slices.ContainsFunc(c.at, func(t time.Time) bool { return now.Sub(t) > limit })
}
