package session_test

import (
	"fmt"

	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/crypto/wire"
)

// A counter is reserved before it is used, and accepted once, after the message has opened.
func ExampleSession() {
	mine := &noise.Keys{Send: [32]byte{1}, Receive: [32]byte{2}, LocalIndex: 7, RemoteIndex: 8, Initiator: true}
	theirs := &noise.Keys{Send: [32]byte{2}, Receive: [32]byte{1}, LocalIndex: 8, RemoteIndex: 7}
	a, b := session.New(mine), session.New(theirs)
	var scratch session.Scratch

	plain := []byte("sixteen bytes !!")
	message := make([]byte, len(plain)+wire.TransportOverhead)
	counter, ok := a.Reserve(1)
	if !ok {
		fmt.Println("the session has sent all it may")
		return
	}
	a.Seal(message, counter, plain, &scratch)

	opened := make([]byte, len(plain))
	n, ok := b.Open(opened, message, &scratch)
	b.LockReceive()
	fmt.Printf("%t %q, fresh %t, again %t\n", ok, opened[:n], b.Accept(counter), b.Accept(counter))
	b.UnlockReceive()
	// Output: true "sixteen bytes !!", fresh true, again false
}
