package traffic

import "errors"

// Trial is the outcome of one rate: what was sent in which time, and what arrived.
type Trial struct {
	Sent, Received uint64
	Seconds        float64
}

// Offered returns the rate that the sender reached, in datagrams per second.
func (t Trial) Offered() float64 { return float64(t.Sent) / t.Seconds }

// Delivered returns the rate that arrived, in datagrams per second.
func (t Trial) Delivered() float64 { return float64(t.Received) / t.Seconds }

// Within reports whether no more than a share of the datagrams was lost (0 to 1).
func (t Trial) Within(loss float64) bool {
	return t.Sent > 0 && float64(t.Sent)-float64(t.Received) <= loss*float64(t.Sent)
}

// Search finds the highest rate at which datagrams arrive.
type Search struct {
	Start, Least float64 // datagrams per second: the first rate, and that below which to give up
	Loss         float64 // the share that still counts as no loss: hiccups of the machine
	Close        float64 // the search ends when its bounds differ by no more than this factor
}

// ErrNoRate means that even the lowest rate loses datagrams.
var ErrNoRate = errors.New("no rate was found at which the datagrams arrive")

// lazySender: a sender that reaches less than this part of a rate is the limit itself.
const lazySender = 0.9

// Rate returns the highest rate that arrives without loss, in datagrams per second. It doubles the
// rate until datagrams are lost, or halves it until none are, and then narrows the interval down. A
// rate that loses some is tried twice, since one hiccup of the machine is not that of what is
// measured. An error of try ends the search.
func (s Search) Rate(try func(rate float64) (Trial, error)) (float64, error) {
	attempt := func(rate float64) (Trial, error) {
		t, err := try(rate)
		if err == nil && !t.Within(s.Loss) {
			t, err = try(rate)
		}
		return t, err
	}
	good, bad, best := 0.0, 0.0, 0.0
	for rate := s.Start; ; {
		t, err := attempt(rate)
		switch {
		case err != nil:
			return 0, err
		case t.Within(s.Loss):
			good, best = rate, max(best, t.Delivered())
			if t.Offered() < lazySender*rate {
				return best, nil
			}
		default:
			bad = rate
		}
		switch {
		case bad == 0:
			rate *= 2
		case good == 0:
			if rate /= 2; rate < s.Least {
				return 0, ErrNoRate
			}
		case bad/good <= s.Close:
			return best, nil
		default:
			rate = (good + bad) / 2
		}
	}
}
