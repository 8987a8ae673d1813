package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// errNoGrant is why a site cannot say that it leaves.
var errNoGrant = errors.New("the registry has no grant of this site that counts: other sites do not have it as a peer, or are about to remove it")

// Leave publishes that our site leaves the network: a record that says so, newer than all others of
// ours, upon which other sites remove us as a peer. It waits until the store answers or ctx ends;
// the error is then that of the store. No agent of this site may run, since it would publish its
// record again, as does one that is started later. Daemon and Static of the options are not used.
func Leave(ctx context.Context, o Options) error {
	a, err := New(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	shown := make(chan News)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.o.Store.Run(ctx, func(n News) {
			select {
			case shown <- n:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	var silent error
	for {
		select {
		case <-ctx.Done():
			return errors.Join(silent, ctx.Err())
		case n := <-shown:
			if n.All == nil {
				silent = n.Err
				continue
			}
			now := a.o.Now()
			_ = a.view.List(n.All, now) // the faults of others are not ours
			return a.leave(ctx, now)
		}
	}
}

// leave publishes the last record of our site, once the store has shown everything.
func (a *Agent) leave(ctx context.Context, now time.Time) error {
	g, ok := a.view.Own(now)
	if !ok {
		return errNoGrant
	}
	known, _, shown := a.view.OwnRecord()
	if known != nil && known.Gone && shown {
		return nil
	}
	r := record.Record{Gone: true}
	a.date(&r, &g, now)
	data, err := a.sign(&r, &g, known, now)
	if err == nil {
		err = a.o.Store.Put(ctx, recordKey(g.Site), data)
	}
	if err != nil {
		return fmt.Errorf("publish that the site leaves: %w", err)
	}
	// Should the registry lose it, a later agent still begins with a higher count.
	var last bytes.Buffer
	if _, err = writeLines(&last, slices.Values([]view.Entry(nil)), &count{r.Epoch, r.Serial}); err == nil {
		err = a.o.Disk.Append(stateName, last.Bytes())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the site has left, but its state could not be saved: %w", err)
	}
	return nil
}
