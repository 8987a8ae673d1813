package control

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"tund/internal/unixsock/unixsocktest"
)

func TestServer_closeDoesNotWaitForIdleClients(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	s, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(&fakeBackend{level: "info"}) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", s.Path())
	}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://tund/v1/version")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > closeTimeout/2 {
		t.Errorf("Close took %v with an idle client", took)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
