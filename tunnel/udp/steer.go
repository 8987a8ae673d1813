package udp

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Steer makes the kernel hand each datagram for the port of s, which n sockets share, to one of
// them by its fifth byte: that of transport data is the low byte of the receiver index, and its
// remainder when divided by n is the number of the socket, in the order in which they were opened.
// Without Steer the kernel chooses by addresses and ports, so everything from one host arrives at
// one socket. (socket(7), SO_ATTACH_REUSEPORT_CBPF; Linux 4.5 and later.)
func (s *Socket) Steer(n int) error {
	program := [...]unix.SockFilter{
		// The payload begins at 0. A load beyond its end ends the program with 0.
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	if !s.ref.Enter() {
		return net.ErrClosed
	}
	defer s.ref.Leave()
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(s.ref.FD(), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog); err != nil {
		return fmt.Errorf("udp socket: steer datagrams to lanes: %w", err)
	}
	return nil
}
