package daemon

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
	"tund/internal/news"
	"tund/internal/stamps"
	"tund/internal/statusview"
	trialfile "tund/internal/trial"
)

// trial is a configuration that was applied for a time, after which the former one comes back
// unless somebody confirms the new one: for a change that may cut off the host on which it is made.
type trial struct {
	former *config.Config // what was in force before, as the file said it
	timer  *time.Timer    // ends the trial
	until  time.Time
}

// errNoTrial refuses to confirm what is in force anyway.
var errNoTrial = &control.Error{Code: control.CodeInvalid, Message: "nothing waits to be confirmed: the last reload is in force for good"}

// beginTrial lets former come back after the given time. Callers hold changing, and have had former
// kept on the disk before anything changed.
func (d *Daemon) beginTrial(former *config.Config, confirm time.Duration) {
	d.endTrial()
	t := &trial{former: former, until: time.Now().Add(confirm)}
	t.timer = time.AfterFunc(confirm, func() { d.expire(t) })
	d.trial = t
	d.problems.Note(statusview.KindTrial, "", fmt.Sprintf("the configuration is on trial: unless it is confirmed with "+
		"`tunctl -i %s confirm`, the former one comes back at %s", d.config.Instance, t.until.Format("15:04:05")))
}

// endTrial ends a trial, if there is one, and returns it. Callers hold changing.
func (d *Daemon) endTrial() *trial {
	t := d.trial
	if t != nil {
		t.timer.Stop()
		d.trial = nil
		d.problems.Solved(statusview.KindTrial, "")
	}
	return t
}

// confirm makes a configuration on trial the one in force for good.
func (d *Daemon) confirm() error {
	if d.mode.fixed != nil {
		return d.mode.fixed
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.endTrial() == nil {
		return errNoTrial
	}
	d.forgetFormer()
	d.log.Info("the configuration is confirmed")
	return nil
}

// expire ends a trial that nobody has confirmed.
func (d *Daemon) expire(t *trial) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.trial != t || d.stopping || d.life.Err() != nil {
		return
	}
	d.endTrial()
	_ = d.goBack(t.former, true, errors.New("it was not confirmed in time"))
}

// goBack puts the former configuration in force again, and returns why, with what failed meanwhile.
// The file still has the other one, as status says. kept: a restart, too, has the former one, by
// what is on the disk since the trial began. Callers hold changing.
func (d *Daemon) goBack(former *config.Config, kept bool, why error) error {
	if !kept {
		if _, err := d.keepFormer(d.fileConfig(), former); err != nil {
			d.log.Warn("a restart puts the configuration of the file in force", zap.Error(err))
		}
	}
	defer d.heap.Work(d.tunnel.PeerCount)()
	err := d.change(func() (*config.Config, error) { return former, nil }, nothingToKeep)
	text := fmt.Sprintf("%s: not kept: %v; the former configuration is in force again, and the file still has the other one",
		former.Path, why)
	if err != nil {
		text += "; going back was incomplete: " + oneLine(err)
	}
	d.mu.Lock()
	d.reloadError = text
	d.mu.Unlock()
	news.Config(d.events, "refused", "the former configuration is in force again", oneLine(why))
	d.log.Warn("the former configuration is in force again", zap.String("reason", oneLine(why)))
	return &control.Error{Code: control.CodeConfig, Message: text}
}

// keepFormer remembers that a restart, too, is to have the former configuration as long as the file
// has the one on trial. undo takes that back.
func (d *Daemon) keepFormer(onTrial, former *config.Config) (undo func(), err error) {
	back, err := trialfile.Keep(stamps.Dir(d.config.Instance), onTrial.Source(), former.Source())
	if err != nil {
		return nil, err
	}
	return func() {
		if err := back(); err != nil {
			d.log.Warn("a restart may put the former configuration in force", zap.Error(err))
		}
	}, nil
}

// keeping returns what keeps former on the disk before a configuration is put in force on trial.
// The trial is refused where that cannot be done: a host that it cuts off, and that somebody then
// restarts, would stay cut off.
func (d *Daemon) keeping(former *config.Config) func(*config.Config) (func(), error) {
	return func(onTrial *config.Config) (func(), error) {
		undo, err := d.keepFormer(onTrial, former)
		if err != nil {
			return nil, &control.Error{Code: control.CodeUnsupported, Message: fmt.Sprintf("no trial, and nothing has changed: %v. "+
				"A restart during the trial could not bring the former configuration back. Make room in %s and let tund write to it, "+
				"or reload without --confirm", err, stamps.Dir(d.config.Instance))}
		}
		return undo, nil
	}
}

// nothingToKeep keeps nothing: the change is for good.
func nothingToKeep(*config.Config) (undo func(), err error) { return func() {}, nil }

// forgetFormer has a restart read the file.
func (d *Daemon) forgetFormer() {
	if err := trialfile.Forget(stamps.Dir(d.config.Instance)); err != nil {
		d.log.Warn("a restart may put the former configuration in force", zap.Error(err))
	}
}

// sayFormer says that the configuration in force is not that of the file.
func (d *Daemon) sayFormer() {
	text := d.config.Path + ": was on trial when the instance ended, and not confirmed: the former configuration is in force; " +
		"a reload puts that of the file in force"
	d.mu.Lock()
	d.reloadError = text
	d.mu.Unlock()
	d.log.Warn("the former configuration is in force: that of the file was on trial and was not confirmed")
}
