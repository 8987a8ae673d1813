package control_test

import (
	"context"
	"errors"
	"fmt"

	"tund/internal/control"
)

// An instance that does not run is told from one that was killed and one that does not answer.
func ExampleClient() {
	client := control.NewClient("/nonexistent/tund", "office")
	ctx, cancel := context.WithTimeout(context.Background(), control.AnswerTimeout)
	defer cancel()
	status, err := client.Status(ctx)
	var dial *control.DialError
	switch {
	case errors.As(err, &dial) && dial.Missing():
		fmt.Println(dial.Instance, "does not run")
	case errors.As(err, &dial) && dial.Stale():
		fmt.Println(dial.Instance, "was killed")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println(len(status.Instances[0].Peers), "peers")
	}
	// Output: office does not run
}
