package route

import (
	"context"
	"testing"
)

// A process that goes on with the devices of the one before gets rid of what that one made, as if
// it were its own: from any State to any other, the kernel has what it has after a plain start.
func TestManager_inheritedStatesChangeAsOwnOnes(t *testing.T) {
	t.Parallel()
	apply := func(m *Manager, s State) {
		t.Helper()
		if _, err := m.Apply(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range testStates() {
		for _, to := range testStates() {
			plain, want := fakeManager()
			before := want.text(t)
			apply(plain, to.state)

			first, k := fakeManager()
			apply(first, from.state)
			m := newManager("office", k, nil)
			m.Inherit()
			k.log = nil
			apply(m, from.state)
			if len(k.log) > 0 {
				t.Errorf("%s: the next process changes %q", from.name, k.log)
			}
			apply(m, to.state)
			if got, want := withoutMTU(k.text(t)), withoutMTU(want.text(t)); got != want {
				t.Errorf("from %s to %s\ngot:\n%swant:\n%s", from.name, to.name, got, want)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if after := withoutMTU(k.text(t)); after != withoutMTU(before) {
				t.Errorf("from %s to %s, after Close\ngot:\n%swant:\n%s", from.name, to.name, after, before)
			}
		}
	}
}
