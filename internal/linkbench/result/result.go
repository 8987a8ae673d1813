// Package result has the values that a comparison of network devices yields: what was measured of
// each kind of device, on which machine, and what could not be measured and why.
//
// It holds values and gives words for them; it measures nothing and draws nothing. The values are
// not safe for concurrent changes.
package result

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Schema names the document of `tunctl bench --json`.
const Schema = "tund.bench/v1"

// State says whether there are figures.
type State string

// The states of a row.
const (
	Measured State = "measured" // all figures are there
	Absent   State = "absent"   // this kernel does not have the kind of device
	Failed   State = "failed"   // something else went wrong, which Why names
)

// Group says who moves the packets.
type Group string

// The groups of rows.
const (
	Kernel Group = "kernel" // the kernel alone
	Copied Group = "copied" // a program that copies each packet from one device to another
	Tund   Group = "tund"   // tund, which encrypts
)

// Report is one run: a machine and what was measured on it.
type Report struct {
	Schema    string    `json:"schema"` // Schema
	Time      time.Time `json:"time"`   // of the start
	Kernel    string    `json:"kernel"` // release, as uname -r prints it
	Processor string    `json:"processor"`
	CPUs      int       `json:"cpus"`
	Tund      string    `json:"tund"` // version of the tund that was measured, "" if there was none
	Rounds    int       `json:"rounds"`
	Seconds   float64   `json:"seconds"` // of each measurement
	Rows      []Row     `json:"rows"`

	// Background is the part of the machine that other programs used before the first measurement,
	// 0 to 1.
	Background float64 `json:"background"`
}

// MaxBackground is how busy a machine may be with other things before its figures are in doubt.
const MaxBackground = 0.1

// Doubt says in words why the figures are worth little; "" if nothing is known against them.
func (r *Report) Doubt() string {
	if r.Background <= MaxBackground {
		return ""
	}
	return fmt.Sprintf("other programs used %.0f %% of the machine: the figures say little about the devices", 100*r.Background)
}

// Row is one kind of device.
type Row struct {
	Name  string `json:"name"`
	About string `json:"about"` // what it is
	Path  string `json:"path"`  // what a packet passes, from the sender to the receiver
	Use   string `json:"use"`   // what people use it for
	Group Group  `json:"group"`
	State State  `json:"state"`
	Why   string `json:"why"` // "" when it was measured

	MTU         int     `json:"mtu"`          // of the sender's device, in bytes
	ClaimedMbit *int    `json:"claimed_mbit"` // what the device says its speed is; null: nothing
	Gbps        *Figure `json:"gbps"`         // one TCP flow, Gbit/s of payload
	CPUPerGB    *Figure `json:"cpu_s_per_gb"` // of the whole machine, seconds for 10⁹ bytes
	KPPS        *Figure `json:"kpps"`         // thousand UDP packets a second without loss
	P50         *Figure `json:"rtt_p50_us"`   // round trip of a UDP packet, in microseconds
	P99         *Figure `json:"rtt_p99_us"`
}

// Figure is what the rounds yielded of one value.
type Figure struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// NewFigure summarizes the values of some rounds; nil for none. It keeps no reference to them.
func NewFigure(rounds []float64) *Figure {
	if len(rounds) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(rounds))
	return &Figure{Median: Quantile(sorted, 0.5), Least: sorted[0], Most: sorted[len(sorted)-1]}
}

// Quantile returns the value below which the part q of a sorted list lies, between two elements in
// proportion to their distance. Of an empty list it is 0.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Digits writes a value with three digits that count.
func Digits(v float64) string {
	switch {
	case v >= 99.95 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
