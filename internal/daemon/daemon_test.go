package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestStart_whicheverStepFailsNothingIsLeft(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, everything)
	n.prepare()
	count := len(n.d.mode.steps)
	n.start() // Go's own descriptors and goroutines are there from now on
	n.stop()
	kernel, process := kernelState(t), tracesNow(t, nil)
	for i := range count {
		// Either the step fails, or a stop is requested while the step runs.
		for _, asked := range []bool{false, true} {
			ctx := n.prepare()
			steps := n.d.mode.steps
			do := steps[i].do
			steps[i].do = func(ctx context.Context) error {
				err := do(ctx)
				if asked {
					n.cancel()
					return err
				}
				return errors.Join(err, errInjected)
			}
			err := n.d.run(ctx, steps)
			when := fmt.Sprintf("step %q, asked to stop: %t", steps[i].what, asked)
			switch {
			case asked && err != nil:
				t.Errorf("%s: %v, want a clean stop", when, err)
			case !asked && (!errors.Is(err, errInjected) || !strings.Contains(err.Error(), "start office: "+steps[i].what)):
				t.Errorf("%s: %v, want the failure and where", when, err)
			}
			leavesNothing(t, when, kernel, process)
		}
	}
}

func TestStart_saysWhatIsInTheWay(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	sh(t, "ip link add taken type veth peer name taken1")
	n := newInstance(t, "[tun]\ndevice = \"taken\"\n")
	ctx := n.prepare()
	const want = "choose another name, or remove that one with `ip link delete dev taken`"
	if err := n.d.run(ctx, n.d.mode.steps); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	n.cancel()
}

func TestStop_inTheMiddleOfAReload(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, everything)
	n.start()
	n.stop()
	kernel, process := kernelState(t), tracesNow(t, nil)
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, "%q, ", fmt.Sprintf("10.%d.%d.0/24", 100+i/256, i%256))
	}
	large := strings.Replace(everything, `"0.0.0.0/0"`, many.String()+`"0.0.0.0/0"`, 1)
	for i, delay := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		n.write(everything)
		n.start()
		n.write(large)
		answer := make(chan error, 1)
		if i%2 == 0 {
			go func() { answer <- n.d.Reload(0) }()
		} else {
			n.reload <- struct{}{}
			answer <- nil
		}
		<-time.After(delay)
		n.stop()
		<-answer // whatever it is
		if err := n.d.Reload(0); !errors.Is(err, errStopping) {
			t.Errorf("a reload after the stop: %v, want %v", err, errStopping)
		}
		leavesNothing(t, fmt.Sprint("after ", delay), kernel, process)
	}
}

func TestReload_askedForDuringTheStartComesAfterIt(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, "[tun]\ndevice = \"DEVICE\"\n")
	ctx := n.prepare()
	n.reload <- struct{}{}
	go func() { n.done <- n.d.run(ctx, n.d.mode.steps) }()
	n.await("reloaded", func() bool { return n.logs.FilterMessage("reloaded").Len() == 1 })
	n.stop()
}

func TestInstance_endsWithAWordWhenItsDeviceGoes(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	before := kernelState(t)
	for _, test := range []struct{ command, want string }{
		{"ip link delete " + device(), "device " + device() + " was deleted by "},
		{"ip link set " + device() + " down && ip link set " + device() + " name elsewhere", "device " + device() + " was renamed to elsewhere by "},
		{"unshare -n sleep 9 & sleep 0.2; ip link set " + device() + " netns $!; kill $!", "device " + device() + " was "},
		{"ip link delete " + device() + "t", "device " + device() + "t was deleted by "},
	} {
		n := newInstance(t, everything)
		n.start()
		sh(t, "%s", test.command)
		if err := n.ended(); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "start the instance again") {
			t.Errorf("%s: %v, want %q", test.command, err, test.want)
		}
		n.cancel()
		if out, err := tryRoute("203.0.113.1"); err == nil {
			t.Errorf("%s: traffic goes out in the clear: %s", test.command, out)
		}
		if out, err := tryRoute("2001:db8:9::1"); err == nil {
			t.Errorf("%s: IPv6 goes out in the clear: %s", test.command, out)
		}
		n = newInstance(t, everything)
		n.start()
		n.stop()
		if after := kernelState(t); after != before {
			t.Errorf("%s, then a start and a stop: the kernel has\n%swant\n%s", test.command, after, before)
		}
	}
}

// tryRoute asks the kernel where it would send a packet.
func tryRoute(dst string) (string, error) {
	out, err := runShell("ip route get " + dst)
	return out, err
}

func replaceStep(t *testing.T, steps []step, what string, do func(context.Context) error) {
	t.Helper()
	for i := range steps {
		if steps[i].what == what {
			steps[i].do = do
			return
		}
	}
	t.Fatalf("no step %q", what)
}

func TestStart_keepsAFullTunnelClosedWhenItFails(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	before := kernelState(t)
	n := newInstance(t, everything)
	n.start()
	sh(t, "ip link delete %s", device())
	_ = n.ended()
	n.cancel()
	ctx := n.prepare()
	steps := n.d.mode.steps
	replaceStep(t, steps, "open devices", func(context.Context) error { return errInjected })
	if err := n.d.run(ctx, steps); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	n.cancel()
	if out, err := tryRoute("203.0.113.1"); err == nil {
		t.Errorf("after a restart that failed, traffic goes out in the clear: %s", out)
	}
	ctx = n.prepare() // a stop that is asked for opens it, also during the start
	steps = n.d.mode.steps
	replaceStep(t, steps, "read timestamps", func(context.Context) error { n.cancel(); return nil })
	if err := n.d.run(ctx, steps); err != nil {
		t.Fatal(err)
	}
	if after := kernelState(t); after != before {
		t.Errorf("the kernel has\n%swant\n%s", after, before)
	}
	_ = os.Remove(n.path)
}
