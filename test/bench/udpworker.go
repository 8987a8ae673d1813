package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"tund/internal/linkbench/traffic"
)

// sendOrder asks for one trial; sendReport says what was done.
type (
	sendOrder struct {
		Trial uint32        `json:"trial"`
		Rate  float64       `json:"rate"`  // datagrams a second
		Sizes []int         `json:"sizes"` // bytes of UDP payload, in turn
		For   time.Duration `json:"for"`
	}
	sendReport struct {
		Sent uint64        `json:"sent"`
		Took time.Duration `json:"took"`
	}
	// countOrder asks how many datagrams of a trial arrived.
	countOrder struct {
		Trial uint32 `json:"trial"`
	}
	countReport struct {
		Received uint64 `json:"received"`
	}
)

// serveSender sends trials to an address and port.
func serveSender(to string, in io.Reader, out io.Writer) error {
	remote, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	fd, err := udpSocket(netip.AddrPort{}, remote)
	if err != nil {
		return err
	}
	return serve(in, out, func(o sendOrder) (sendReport, error) {
		if len(o.Sizes) == 0 || len(o.Sizes) > traffic.BatchSize || slices.Min(o.Sizes) < traffic.TrialBytes || o.Rate <= 0 {
			return sendReport{}, fmt.Errorf("cannot send %d bytes at %v a second", o.Sizes, o.Rate)
		}
		sent, took, err := traffic.Send(fd, traffic.NewBatch(o.Sizes...), o.Trial, o.Rate, o.For)
		return sendReport{Sent: sent, Took: took}, err
	})
}

// serveReceiver counts what arrives at an address and port.
func serveReceiver(at string, in io.Reader, out io.Writer) error {
	local, err := netip.ParseAddrPort(at)
	if err != nil {
		return err
	}
	fd, err := udpSocket(local, netip.AddrPort{})
	if err != nil {
		return err
	}
	var c traffic.Counter
	failed := make(chan error, 1)
	go func() { failed <- c.Count(fd) }()
	return serve(in, out, func(o countOrder) (countReport, error) {
		select {
		case err := <-failed:
			return countReport{}, err
		default:
			return countReport{Received: c.Received(o.Trial)}, nil
		}
	})
}
