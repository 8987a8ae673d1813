package statusview

import (
	"strings"

	"tund/internal/control"
	"tund/route"
)

// Objects describes what an instance wants in the kernel, or has there.
func Objects(items []route.Item) []control.RouteObject {
	var list []control.RouteObject
	for _, i := range items {
		kind, object, _ := strings.Cut(i.Object, " ")
		list = append(list, control.RouteObject{Kind: kind, Object: object, State: string(i.Standing)})
	}
	return list
}
