package notice

import "time"

const (
	// Burst is how many restores a Pace allows without a pause.
	Burst = 10
	// Refill is the time in which it allows one more.
	Refill = 5 * time.Second
)

// Pace keeps two programs that both insist on their version of the routing table from using up a
// core. It belongs to one goroutine.
type Pace struct {
	tokens   int // restores allowed now
	refilled time.Time
}

// NewPace returns a Pace that allows Burst restores at once.
func NewPace(now time.Time) *Pace { return &Pace{tokens: Burst, refilled: now} }

// Take takes the right to restore once. If there is none, it returns how long to wait for one.
func (p *Pace) Take(now time.Time) (wait time.Duration) {
	earned := int(now.Sub(p.refilled) / Refill)
	p.tokens = min(p.tokens+earned, Burst)
	p.refilled = p.refilled.Add(time.Duration(earned) * Refill)
	if p.tokens == 0 {
		return p.refilled.Add(Refill).Sub(now)
	}
	p.tokens--
	return 0
}

// Return gives back what Take took.
func (p *Pace) Return() { p.tokens = min(p.tokens+1, Burst) }
