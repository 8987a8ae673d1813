package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tund/internal/linkbench/traffic"
)

func TestQuantile_interpolatesAndLeavesItsInputAlone(t *testing.T) {
	t.Parallel()
	values := []float64{4, 1, 3, 2}
	for _, tt := range []struct{ q, want float64 }{{0, 1}, {0.5, 2.5}, {1, 4}, {0.25, 1.75}} {
		if got := quantile(values, tt.q); got != tt.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", values, tt.q, got, tt.want)
		}
	}
	if want := []float64{4, 1, 3, 2}; !slices.Equal(values, want) {
		t.Errorf("values became %v, want %v", values, want)
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestBootstrap_boundsHoldTheMedianAndShrinkWithValues(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	sample := func(n int) interval {
		values := make([]float64, n)
		for i := range values {
			values[i] = 1.5 + 0.1*rng.NormFloat64()
		}
		return bootstrap(values, rand.New(rand.NewPCG(3, 4)))
	}
	few, many := sample(6), sample(60)
	for _, i := range []interval{few, many} {
		if i.Low > i.Median || i.Median > i.High {
			t.Errorf("median %v is outside [%v, %v]", i.Median, i.Low, i.High)
		}
	}
	if few.High-few.Low <= many.High-many.Low {
		t.Errorf("bounds of 6 values [%v, %v] are not wider than those of 60 [%v, %v]", few.Low, few.High, many.Low, many.High)
	}
	if got := bootstrap([]float64{3, 1, 2}, rng); got != (interval{N: 3, Median: 2, Low: 1, High: 3}) {
		t.Errorf("bounds of three values = %+v, want their least and greatest", got)
	}
}

func TestRoundOrder_isAPermutationAndOddRoundsAreTheReverse(t *testing.T) {
	t.Parallel()
	for round := range 8 {
		order := roundOrder(5, round, 42)
		sorted := slices.Sorted(slices.Values(order))
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(sorted, want) {
			t.Fatalf("round %d: %v is not a permutation", round, order)
		}
		if round%2 == 1 {
			before := roundOrder(5, round-1, 42)
			slices.Reverse(before)
			if !slices.Equal(order, before) {
				t.Errorf("round %d: %v, want the reverse of the round before, %v", round, order, before)
			}
		}
	}
}

func TestConfirmRate_backsOffUntilNothingIsLost(t *testing.T) {
	t.Parallel()
	got, err := confirmRate(120_000, func(rate float64) (traffic.Trial, error) { return carry(rate, 100_000, math.Inf(1)), nil })
	if err != nil || got.Delivered() > 100_000 || got.Delivered() < 90_000 {
		t.Errorf("confirmRate = %v a second, %v, want between 90000 and 100000", got.Delivered(), err)
	}
	if _, err := confirmRate(1e6, func(rate float64) (traffic.Trial, error) { return carry(rate, 1000, math.Inf(1)), nil }); err != errNoRate {
		t.Errorf("confirmRate of a hopeless rate: %v, want %v", err, errNoRate)
	}
}

// carry is a tunnel that carries limit datagrams a second, fed by a sender that makes at most
// sender.
func carry(rate, limit, sender float64) traffic.Trial {
	offered := min(rate, sender)
	return traffic.Trial{Sent: uint64(offered), Received: uint64(min(offered, limit)), Seconds: 1}
}
