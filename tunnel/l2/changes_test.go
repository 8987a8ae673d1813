package l2

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

func TestChanges_tellEveryEntry(t *testing.T) {
	t.Parallel()
	f := newTestFDB(1000, 500, LocalPort, 1, 2)
	now := boottime.Time(100 * time.Second)
	key := entryKey(7, 0x020000000001)
	f.learn(key, 1, now)
	f.learn(key, 1, now) // seen again: no change
	f.learn(key, LocalPort, now.Add(time.Second))
	f.pin(key, 2, now)
	f.flushPort(2, true)
	list, lost := f.takeChanges()
	mac := keyMAC(key)
	want := []Change{
		{ChangeLearned, mac, 7, 1, 0}, {ChangeMoved, mac, 7, LocalPort, 1}, {ChangeGone, mac, 7, LocalPort, 0},
		{ChangeLearned, mac, 7, 2, 0}, {ChangeGone, mac, 7, 2, 0},
	}
	if len(list) != len(want) || lost != 0 {
		t.Fatalf("%+v, %d lost; want %+v", list, lost, want)
	}
	for n := range want {
		if list[n] != want[n] {
			t.Errorf("change %d: %+v, want %+v", n, list[n], want[n])
		}
	}
	if list, lost := f.takeChanges(); list != nil || lost != 0 {
		t.Errorf("again: %+v, %d", list, lost)
	}
}

func TestChanges_areBounded(t *testing.T) {
	t.Parallel()
	f := newTestFDB(4*maxChanges, 4*maxChanges, 1)
	for n := range MAC(2 * maxChanges) {
		f.learn(entryKey(0, 0x020000000000+n), 1, boottime.Time(time.Second))
	}
	list, lost := f.takeChanges()
	if len(list) != maxChanges || lost != maxChanges {
		t.Errorf("%d changes, %d lost", len(list), lost)
	}
}
