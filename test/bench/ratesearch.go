package main

// trial is the outcome of one rate: what the sender reached, what arrived.
type trial struct {
	sent, received uint64
	seconds        float64
}

// offered and delivered are in datagrams a second.
func (t trial) offered() float64   { return float64(t.sent) / t.seconds }
func (t trial) delivered() float64 { return float64(t.received) / t.seconds }

// maxLoss is what still counts as no loss: one in ten thousand, for the machine's own hiccups.
const maxLoss = 1e-4

func (t trial) lossless() bool {
	return t.sent > 0 && float64(t.sent)-float64(t.received) <= maxLoss*float64(t.sent)
}

// Settings of the search.
const (
	startRate   = 10_000.0 // datagrams a second; every contender manages that
	closeEnough = 1.05     // the search ends when the bounds are this near
	// A sender that reaches less than this part of the rate is itself the limit.
	lazySender = 0.9
)

// searchRate finds the highest rate that try carries without loss. It doubles until a rate fails
// and then halves the interval. A rate that fails is tried once more, since one hiccup of the
// machine is not the contender's. try's error ends the search. The result is what was offered in
// the best trial, 0 when even startRate loses.
func searchRate(try func(rate float64) (trial, error)) (float64, error) {
	attempt := func(rate float64) (trial, error) {
		t, err := try(rate)
		if err == nil && !t.lossless() {
			t, err = try(rate)
		}
		return t, err
	}
	good, bad := 0.0, 0.0
	for rate := startRate; bad == 0; rate *= 2 {
		t, err := attempt(rate)
		switch {
		case err != nil:
			return 0, err
		case !t.lossless():
			bad = rate
		case t.offered() < lazySender*rate:
			return t.offered(), nil // the sender can do no more, and nothing was lost
		default:
			good = rate
		}
	}
	for good > 0 && bad/good > closeEnough {
		rate := (good + bad) / 2
		t, err := attempt(rate)
		switch {
		case err != nil:
			return 0, err
		case t.lossless():
			good = min(rate, t.offered())
		default:
			bad = rate
		}
		if t.lossless() && t.offered() < lazySender*rate {
			return t.offered(), nil
		}
	}
	return good, nil
}

// confirmations is how often a rate may be lowered by backOff before the search gives up on it.
const (
	confirmations = 10
	backOff       = 0.93
)

// confirmRate lowers a rate until one of two longer trials loses nothing, and returns that trial.
func confirmRate(rate float64, try func(rate float64) (trial, error)) (trial, error) {
	for range confirmations {
		for range 2 {
			if t, err := try(rate); err != nil || t.lossless() {
				return t, err
			}
		}
		rate *= backOff
	}
	return trial{}, errNoRate
}
