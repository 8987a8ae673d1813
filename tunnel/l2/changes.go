package l2

// ChangeOp says what happened to an entry of the forwarding database.
type ChangeOp uint8

// What can happen to an entry.
const (
	ChangeLearned ChangeOp = iota + 1 // it was learned or pinned
	ChangeMoved                       // it moved from From to Port
	ChangeGone                        // it aged out, was evicted, or was removed
)

// Change is one change of the forwarding database.
type Change struct {
	Op   ChangeOp
	MAC  MAC
	VLAN uint16
	Port PortID
	From PortID // of ChangeMoved
}

// maxChanges is how many changes of the forwarding database are remembered between two ticks: those
// of several ports that go down at once. They take 24 bytes each.
const maxChanges = 4096

// changes are those since the last tick. The fdb's mu guards it.
type changes struct {
	list []Change
	lost int // that found no room
}

func (c *changes) add(change Change) {
	if len(c.list) >= maxChanges {
		c.lost++
		return
	}
	c.list = append(c.list, change)
}

// takeChanges returns what changed since the last call, and how many changes were not remembered.
func (t *fdb) takeChanges() ([]Change, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.changes
	t.changes = changes{}
	return c.list, c.lost
}
