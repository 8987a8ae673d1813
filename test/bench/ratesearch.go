package main

import "tund/internal/linkbench/traffic"

// maxLoss is what still counts as no loss: one in ten thousand, for the machine's own hiccups.
const maxLoss = 1e-4

// searchRate finds the highest rate that try carries without loss; every contender manages the
// first.
func searchRate(try func(rate float64) (traffic.Trial, error)) (float64, error) {
	return traffic.Search{Start: 10_000, Least: 10_000, Loss: maxLoss, Close: 1.05}.Rate(try)
}

// confirmations is how often a rate may be lowered by backOff before the search gives up on it.
const (
	confirmations = 10
	backOff       = 0.93
)

// confirmRate lowers a rate until one of two longer trials loses nothing, and returns that trial.
func confirmRate(rate float64, try func(rate float64) (traffic.Trial, error)) (traffic.Trial, error) {
	for range confirmations {
		for range 2 {
			if t, err := try(rate); err != nil || t.Within(maxLoss) {
				return t, err
			}
		}
		rate *= backOff
	}
	return traffic.Trial{}, errNoRate
}
