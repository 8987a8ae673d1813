package daemon

import (
	"time"

	"tund/internal/control"
)

// problem is one warning shown in status.
type problem struct {
	kind, subject, message string
	since                  time.Time
}

func problemKey(kind, subject string) string { return kind + "/" + subject }

// note remembers a problem for status, instead of an earlier one of its kind about the subject.
func (d *Daemon) note(kind, subject, message string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := problemKey(kind, subject)
	if old, ok := d.problems[key]; !ok || old.message != message {
		d.problems[key] = problem{kind, subject, message, time.Now()}
	}
}

// solved forgets a problem.
func (d *Daemon) solved(kind, subject string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.problems, problemKey(kind, subject))
}

// forget forgets the problems of a kind whose subjects are over.
func (d *Daemon) forget(kind string, over func(subject string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, p := range d.problems {
		if p.kind == kind && over(p.subject) {
			delete(d.problems, key)
		}
	}
}

// warnings lists the problems. Callers hold mu.
func (d *Daemon) warnings() []control.Warning {
	var list []control.Warning
	add := func(kind, subject, message string, since time.Time) {
		list = append(list, control.Warning{Kind: kind, Subject: subject, Message: message, Since: control.At(since)})
	}
	for _, p := range d.problems {
		add(p.kind, p.subject, p.message, p.since)
	}
	for _, w := range d.config.Warnings {
		add("config", w.File, w.String(), d.loaded)
	}
	for _, w := range d.applied.Warnings {
		add("network", "", w, d.loaded)
	}
	return list
}
