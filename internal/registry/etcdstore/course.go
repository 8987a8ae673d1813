package etcdstore

import (
	"slices"
	"time"
)

// course is how far each of several watches has come. They run beside one another: what one says
// may be read after what another has said later.
type course struct {
	cluster   uint64
	revisions []int64
	at        []time.Time // when each was heard last
}

// newCourse returns the course of a number of watches that begin at a moment.
func newCourse(from moment, watches int, now time.Time) *course {
	return &course{from.cluster, slices.Repeat([]int64{from.revision}, watches), slices.Repeat([]time.Time{now}, watches)}
}

// heard notes where a watch is. The client takes a watch up again at whichever cluster answers: the
// error is errOther if that is another one, or has gone back.
func (c *course) heard(watch int, where moment, now time.Time) error {
	if where.cluster != c.cluster || where.revision < c.revisions[watch] {
		return errOther
	}
	c.revisions[watch], c.at[watch] = where.revision, now
	return nil
}

// silent reports whether nothing was heard of one of the watches for longer than limit.
func (c *course) silent(now time.Time, limit time.Duration) bool {
	return slices.ContainsFunc(c.at, func(t time.Time) bool { return now.Sub(t) > limit })
}
