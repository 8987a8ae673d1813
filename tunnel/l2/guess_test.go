package l2

import (
	"testing"
	"time"
)

// speak returns a packet of a host to another, as hosts send them whose neighbours are configured.
func speak(t testing.TB, src MAC, ip string) []byte {
	if ip == "10.0.0.1" {
		return udp4(t, hostMAC(9), src, ip, "10.0.0.9", 1, 2, nil)
	}
	return udp6(t, hostMAC(9), src, ip, "fd00::9", 1, 2, nil)
}

// TestGuess_aHostThatNeverSaidItsAddressMoves: what a host sends names its address, which it is
// asked for. When it moves, it needs no longer than any other; when somebody else uses its MAC, it
// is asked, and keeps it.
func TestGuess_aHostThatNeverSaidItsAddressMoves(t *testing.T) {
	t.Parallel()
	for _, from := range []PortID{LocalPort, 2} {
		for _, ip := range []string{"10.0.0.1", "fd00::1"} {
			guessedMove(t, from, ip)
		}
	}
}

// guessedMove has a host at a port speak, answer, and move.
func guessedMove(t *testing.T, from PortID, ip string) {
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "new"})
	addPeer(t, s, 2, PortConfig{Name: "old"})
	host := hostMAC(1)
	send := func(d time.Duration, frame []byte) {
		if from == LocalPort {
			fromDevice(s, at(d), frame)
		} else {
			fromPeer(s, at(d), from, frame)
		}
	}
	asked := func(a Actions) []byte {
		frames, kind := a.ToDevice, uint16(typeARP)
		if from != LocalPort {
			frames = framesTo(a.ToPeers, from)
		}
		if ip != "10.0.0.1" {
			kind = typeIPv6
		}
		return findFrame(frames, kind)
	}
	send(0, speak(t, host, ip))
	s.Tick(at(0))
	send(time.Second, speak(t, host, ip))
	question := asked(s.Tick(at(time.Second)))
	if h, ok := Parse(question); !ok || h.Dst != host || h.Src != s.MAC() {
		t.Fatalf("at port %d: asked %x", from, question)
	}
	answer := neighborAdvert(t, s.MAC(), host, ip, false)
	if ip == "10.0.0.1" {
		answer = arp(t, 2, s.MAC(), host, ip, s.MAC(), "0.0.0.0")
	}
	send(time.Second+ms, answer)

	for _, alive := range []bool{true, false} {
		began := 10 * time.Second
		if !alive {
			began = 20 * time.Second
		}
		for d := began; d < began+claimBackoff; d += 10 * ms {
			fromPeer(s, at(d), 1, talk(host))
			if a := s.Tick(at(d)); alive && d > began && asked(a) != nil {
				send(d+ms, answer)
			}
			if id, _ := portOf(s, 0, host); id == 1 {
				if d -= began; alive || d > claimWait {
					t.Errorf("at port %d, alive %v: moved after %v", from, alive, d)
				}
				return
			}
		}
	}
	t.Errorf("at port %d: the host that moved is not found", from)
}

// TestGuess_aRouterIsLeftAlone: it sends what others have sent, and does not answer for them.
func TestGuess_aRouterIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	questions := 0
	for d := time.Duration(0); d < time.Minute; d += time.Second {
		fromDevice(s, at(d), speak(t, hostMAC(1), "10.0.0.1"))
		if findFrame(s.Tick(at(d)).ToDevice, typeARP) != nil {
			questions++
		}
	}
	if questions != maxGuesses {
		t.Errorf("%d questions, want %d", questions, maxGuesses)
	}
}

// TestGuess_aLANThatComesToLifeIsAskedSlowly, and all of it in the end.
func TestGuess_aLANThatComesToLifeIsAskedSlowly(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	const hosts = 200
	asked := make(map[MAC]bool)
	for d := time.Duration(0); d < time.Minute; d += time.Second {
		for n := range hosts {
			fromDevice(s, at(d), speak(t, hostMAC(n), "10.0.0.1"))
		}
		questions := 0
		for _, frame := range s.Tick(at(d)).ToDevice {
			if h, ok := Parse(frame); ok && h.EtherType == typeARP {
				questions++
				asked[h.Dst] = true
			}
		}
		if questions > maxGuessed {
			t.Fatalf("%d questions at once", questions)
		}
	}
	if len(asked) != hosts {
		t.Errorf("%d of %d hosts were asked", len(asked), hosts)
	}
}
