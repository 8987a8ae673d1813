package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pingBytes is the UDP payload of a ping: its number and the time it was sent, padded.
const pingBytes = 64

type (
	pingOrder struct {
		Rate float64       `json:"rate"` // a second
		For  time.Duration `json:"for"`
	}
	// pingReport has the round trips in microseconds.
	pingReport struct {
		Sent int     `json:"sent"`
		Lost int     `json:"lost"`
		P50  float64 `json:"p50"`
		P99  float64 `json:"p99"`
		P999 float64 `json:"p999"`
	}
)

// serveEcho sends every datagram back to where it came from, until in ends.
func serveEcho(at string, in io.Reader) error {
	local, err := netip.ParseAddrPort(at)
	if err != nil {
		return err
	}
	fd, err := udpSocket(local, netip.AddrPort{})
	if err != nil {
		return err
	}
	go func() {
		runtime.LockOSThread()
		buf := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err == nil {
				// The way back may be closed for a moment; the pinger counts what it misses.
				_ = unix.Sendto(fd, buf[:n], 0, from)
			}
		}
	}()
	_, err = io.Copy(io.Discard, in)
	return err
}

// servePinger measures round trips to an echo.
func servePinger(to string, in io.Reader, out io.Writer) error {
	remote, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	fd, err := udpSocket(netip.AddrPort{}, remote)
	if err != nil {
		return err
	}
	// The receiving thread must come back to see that the time is up.
	patience := unix.NsecToTimeval(int64(200 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	return serve(in, out, func(o pingOrder) (pingReport, error) { return pingFor(fd, o) })
}

// pingFor sends at a fixed rate whether answers come or not, so that a slow answer does not thin
// out the questions.
func pingFor(fd int, o pingOrder) (pingReport, error) {
	began := time.Now()
	sent := make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		sent <- sendPings(fd, began, o)
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var trips []float64
	buf := make([]byte, pingBytes)
	end := began.Add(o.For + 500*time.Millisecond)
	for time.Now().Before(end) {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		now := time.Since(began)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR || err == unix.ECONNREFUSED:
			continue
		case err != nil:
			return pingReport{}, fmt.Errorf("recvfrom: %w", err)
		case n != pingBytes:
			continue
		}
		trips = append(trips, float64(now-time.Duration(binary.BigEndian.Uint64(buf)))/1e3)
	}
	r := pingReport{Sent: <-sent, P50: quantile(trips, 0.5), P99: quantile(trips, 0.99), P999: quantile(trips, 0.999)}
	r.Lost = r.Sent - len(trips)
	if len(trips) == 0 {
		return pingReport{}, fmt.Errorf("no answer to %d pings", r.Sent)
	}
	return r, nil
}

// sendPings sends until the time is up and returns how many it sent.
func sendPings(fd int, began time.Time, o pingOrder) int {
	buf := make([]byte, pingBytes)
	gap := time.Duration(float64(time.Second) / o.Rate)
	n := 0
	for next := time.Duration(0); next < o.For; next += gap {
		if wait := next - time.Since(began); wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil) // cut short, one ping is early
		}
		binary.BigEndian.PutUint64(buf, uint64(time.Since(began)))
		if _, err := unix.Write(fd, buf); err == nil {
			n++
		}
	}
	return n
}
