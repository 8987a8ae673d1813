package control

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestPing_refusesWhatIsOutOfRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"peer=berlin&size=16&wait_s=1":                           "",
		"peer=berlin&size=9000&wait_s=5":                         "",
		"size=16&wait_s=1":                                       "peer: want",
		"peer=" + strings.Repeat("x", 300) + "&size=16&wait_s=1": "peer: want",
		"peer=berlin&size=15&wait_s=1":                           "size 15",
		"peer=berlin&size=9001&wait_s=1":                         "size 9001",
		"peer=berlin&wait_s=1":                                   "size: want",
		"peer=berlin&size=16&wait_s=0":                           "wait_s",
		"peer=berlin&size=16&wait_s=5.1":                         "wait_s",
		"peer=berlin&size=16&wait_s=NaN":                         "wait_s",
		"peer=berlin&size=16":                                    "wait_s: want",
	} {
		query, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodePing(query)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		var failure *Error
		if err != nil && (!errors.As(err, &failure) || failure.Code != CodeInvalid) {
			t.Errorf("%s: %v has no code", text, err)
		}
	}
}

func TestPing_travelsOverTheSocket(t *testing.T) {
	t.Parallel()
	_, c := serve(t, &fakeBackend{})
	answer, err := c.Ping(context.Background(), PingRequest{Peer: "berlin", Size: 100, WaitS: 0.5})
	if err != nil || answer.RTTS == nil || *answer.RTTS != 0.25 {
		t.Errorf("%+v, %v", answer, err)
	}
	_, err = c.Ping(context.Background(), PingRequest{Peer: "oslo & co", Size: 100, WaitS: 0.5})
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != CodeNotFound || failure.Message != "no peer is called oslo & co" {
		t.Errorf("%v", err)
	}
}
