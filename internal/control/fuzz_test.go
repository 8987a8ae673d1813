package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"
)

// FuzzDecode feeds request bodies to every decoder: nothing panics, each refusal is an *Error the
// client can read, and what was accepted is accepted again, unchanged.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `{"level":"debug"}`, `{"level":"DEBUG"}`, `{"mac":"02:00:00:00:00:01","vlan":4094,"port":"a"}`,
		`{"mac":"02-00-00-00-00-0A","port":"berlin"}`, `{"vlan":null}`, `{"vlan":1e2}`, `{"vlan":-1}`, `{"static":true}`,
		`{} {}`, `{"mac":"ff:ff:ff:ff:ff:ff"}`, `{"x":1}`, "{\"port\":\"\xff\"}", `{"mac":1}`, `{"level":"info"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check(t, body, decodeLogLevel)
		check(t, body, decodeFilter)
		check(t, body, decodePin)
	})
}

func check[T any](t *testing.T, body []byte, decoder func(io.Reader) (T, error)) {
	t.Helper()
	got, err := decoder(bytes.NewReader(body))
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeInvalid || e.Message == "" {
			t.Errorf("%T from %q: error %#v has no code", got, body, err)
		}
		return
	}
	again, err := decoder(bytes.NewReader(encode(got)))
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%T from %q: %+v comes back as %+v, %v", got, body, got, again, err)
	}
}

// FuzzFind looks any path up: the answer is a verb or an error that can be sent.
func FuzzFind(f *testing.F) {
	f.Add("GET", "/v1/status")
	f.Add("HEAD", "/v1/status")
	f.Add("POST", "/v1/../v1/reload")
	f.Add("", "\x00\xff")
	f.Fuzz(func(t *testing.T, method, path string) {
		v, failure := (&handler{verbs: slices.Concat(verbs(), agentVerbs())}).find(method, path)
		if (v.answer == nil) == (failure == nil) {
			t.Fatalf("find(%q, %q) = %+v, %v", method, path, v, failure)
		}
		if failure != nil && !json.Valid(encode(errorBody{failure})) {
			t.Errorf("find(%q, %q): error is not JSON", method, path)
		}
	})
}
