package etcdstore

import (
	"slices"
	"time"
)

// course is how far each of several watches has come. They run beside one another: what one says
// may be read after what another has said later.
//
// So it is with the two things that one watch says, which changes there are and how far its member
// is. A member that has many watches to serve sends the one before or after the other as it comes
// (etcd issue 15220). Changes are compared with changes, which are in order, and how far a member
// is with what was known a while ago.
type course struct {
	cluster uint64
	told    []int64     // the revision of the last change
	newest  []int64     // the highest revision heard of
	before  []int64     // newest, at the last call of settle
	settled []int64     // newest, at the call before
	at      []time.Time // when each was heard last
}

// newCourse returns the course of a number of watches that begin at a moment.
func newCourse(from moment, watches int, now time.Time) *course {
	at := func() []int64 { return slices.Repeat([]int64{from.revision}, watches) }
	return &course{from.cluster, at(), at(), at(), at(), slices.Repeat([]time.Time{now}, watches)}
}

// heard notes where a watch is. changed are the revisions of the first and the last change that it
// tells, nil without one. The client takes a watch up again at whichever cluster answers: the error
// is errOther if that is another one, or has gone back.
func (c *course) heard(watch int, where moment, changed *[2]int64, now time.Time) error {
	switch {
	case where.cluster != c.cluster:
		return errOther
	case changed == nil && where.revision < c.settled[watch]:
		return errOther
	case changed == nil:
		c.newest[watch] = max(c.newest[watch], where.revision)
	case changed[0] < c.told[watch]:
		return errOther
	default:
		c.told[watch] = changed[1]
		c.newest[watch] = max(c.newest[watch], changed[1])
	}
	c.at[watch] = now
	return nil
}

// settle is called at intervals that are longer than what a watch says is on its way.
func (c *course) settle() {
	copy(c.settled, c.before)
	copy(c.before, c.newest)
}

// silent reports whether nothing was heard of one of the watches for longer than limit.
func (c *course) silent(now time.Time, limit time.Duration) bool {
	return slices.ContainsFunc(c.at, func(t time.Time) bool { return now.Sub(t) > limit })
}
