package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// median of values; NaN when there is none. values is left as it is.
func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile interpolates between the two nearest values. q is 0 to 1.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low == len(sorted)-1 {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// spread is what the report says about one series.
type spread struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	return spread{N: len(values), Median: median(values), Min: slices.Min(values), Max: slices.Max(values)}
}

// interval is a median with the bounds within which it lies with 95 % confidence.
type interval struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// resamples is enough for bounds that move by less than a percent between seeds.
const resamples = 4000

// bootstrap estimates the bounds of the median by drawing from the values with replacement. With
// fewer than five values the bounds are just the least and the greatest: resampling so few would
// feign a precision that is not there.
func bootstrap(values []float64, rng *rand.Rand) interval {
	n := len(values)
	if n == 0 {
		return interval{}
	}
	out := interval{N: n, Median: median(values), Low: slices.Min(values), High: slices.Max(values)}
	if n < 5 {
		return out
	}
	medians := make([]float64, resamples)
	draw := make([]float64, n)
	for i := range medians {
		for j := range draw {
			draw[j] = values[rng.IntN(n)]
		}
		medians[i] = median(draw)
	}
	out.Low, out.High = quantile(medians, 0.025), quantile(medians, 0.975)
	return out
}

// roundOrder says in which order n contenders run in a round. Every second round is the reverse of
// the one before, so that what drifts within a round falls on all alike; the even rounds are
// shuffled.
func roundOrder(n, round int, seed uint64) []int {
	rng := rand.New(rand.NewPCG(seed, uint64(round/2)))
	order := rng.Perm(n)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
