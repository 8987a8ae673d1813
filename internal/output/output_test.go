package output

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// failing refuses everything from the second write on.
type failing struct {
	strings.Builder
	writes int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.writes++; f.writes > 1 {
		return 0, fmt.Errorf("write %d refused", f.writes)
	}
	return f.Builder.Write(p)
}

func TestWriter_remembersTheFirstError(t *testing.T) {
	t.Parallel()
	var to failing
	w := New(&to)
	for n := range 3 {
		if _, err := fmt.Fprint(w, n); (err != nil) != (n > 0) {
			t.Errorf("write %d: %v", n, err)
		}
		if n == 0 && w.Err() != nil {
			t.Errorf("an error before there was one: %v", w.Err())
		}
	}
	if err := w.Err(); err == nil || err.Error() != "write 2 refused" || errors.Unwrap(err) != nil {
		t.Errorf("remembers %v", err)
	}
	if to.String() != "0" {
		t.Errorf("wrote %q", to.String())
	}
}
