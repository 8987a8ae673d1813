package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/display"
	"tund/cmd/tunctl/internal/follow"
	"tund/internal/control"
	"tund/internal/doctor"
	"tund/internal/events"
	"tund/internal/linkbench/result"
	"tund/internal/screen/screentest"
)

var update = flag.Bool("update", false, "write docs/schema anew")

// schemas are the documents that tunctl prints, by the name of their file in docs/schema.
var schemas = map[string]struct {
	title string
	of    reflect.Type
}{
	"status":  {"tunctl status --json, and GET /v1/status", reflect.TypeFor[control.Status]()},
	"fdb":     {"tunctl fdb --json, and GET /v1/fdb", reflect.TypeFor[control.FDBTable]()},
	"sources": {"tunctl sources --json", reflect.TypeFor[control.SourceTables]()},
	"routes":  {"tunctl routes --json, and GET /v1/routes", reflect.TypeFor[control.RouteTable]()},
	"ping":    {"tunctl ping --json", reflect.TypeFor[control.PingReport]()},
	"check":   {"tunctl check --json", reflect.TypeFor[checkDocument]()},
	"doctor":  {"tunctl doctor --json", reflect.TypeFor[doctor.Document]()},
	"top":     {"a line of tunctl top --json", reflect.TypeFor[display.TopLine]()},
	"monitor": {"a line of tunctl monitor --json", reflect.TypeFor[follow.Event]()},
	"bench":   {"tunctl bench --json", reflect.TypeFor[result.Report]()},
}

// choices are the types whose values are words of a list.
var choices = map[reflect.Type][]string{
	reflect.TypeFor[result.State]():    {string(result.Measured), string(result.Absent), string(result.Failed)},
	reflect.TypeFor[result.Group]():    {string(result.Kernel), string(result.Copied), string(result.Tund)},
	reflect.TypeFor[doctor.Severity](): {"ok", "unseen", "note", "warning", "problem"},
	reflect.TypeFor[control.PeerState](): {
		string(control.StateUp), string(control.StateConnecting), string(control.StateIdle), string(control.StateDown),
	},
}

type object = map[string]any

// schemaOf describes a type in JSON Schema, 2020-12. Further fields and kinds of events may be
// added, so neither is excluded.
func schemaOf(of reflect.Type) object {
	if words := choices[of]; words != nil {
		return object{"type": "string", "enum": words}
	}
	switch of {
	case reflect.TypeFor[control.Time]():
		return object{"type": []string{"string", "null"}, "format": "date-time"}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	}
	switch of.Kind() {
	case reflect.Pointer:
		s := schemaOf(of.Elem())
		s["type"] = []any{s["type"], "null"}
		return s
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(of.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(of.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Struct:
		properties, required := object{}, []string{}
		fieldsOf(of, properties, &required)
		return object{"type": "object", "properties": properties, "required": required}
	}
	panic("no schema for " + of.String())
}

func fieldsOf(of reflect.Type, properties object, required *[]string) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			fieldsOf(f.Type, properties, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		properties[name] = schemaOf(f.Type)
		if !strings.Contains(options, "omitempty") {
			*required = append(*required, name)
		}
	}
}

func schemaFile(name string) string { return filepath.Join("../../docs/schema", name+".schema.json") }

// The files are what the types say: `go test ./cmd/tunctl -run Schemas -update` writes them.
func TestSchemas_areUpToDate(t *testing.T) {
	for name, s := range schemas {
		schema := schemaOf(s.of)
		schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		schema["title"] = s.title
		schema["description"] = "docs/tunctl.md describes each field."
		text, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		if *update {
			if err := os.WriteFile(schemaFile(name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(schemaFile(name)); err != nil || string(got) != string(text) {
			t.Errorf("%s is not up to date (%v): go test ./cmd/tunctl -run Schemas -update", schemaFile(name), err)
		}
	}
	files, err := filepath.Glob(schemaFile("*"))
	if err != nil || len(files) != len(schemas) {
		t.Errorf("%d files, %d schemas, %v", len(files), len(schemas), err)
	}
}

// violations lists where a document differs from a schema. It knows what schemaOf uses.
func violations(at string, schema object, value any) (list []string) {
	wrong := func(format string, args ...any) { list = append(list, at+": "+fmt.Sprintf(format, args...)) }
	if !fits(schema["type"], value) {
		wrong("%v is no %v", value, schema["type"])
		return list
	}
	if words, ok := schema["enum"].([]any); ok && !slices.Contains(words, value) {
		wrong("%v is not one of %v", value, words)
	}
	if text, ok := value.(string); ok && schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			wrong("%v", err)
		}
	}
	if number, ok := value.(float64); ok && schema["minimum"] != nil && number < schema["minimum"].(float64) {
		wrong("%v is too small", number)
	}
	if items, ok := value.([]any); ok {
		for n, item := range items {
			list = append(list, violations(fmt.Sprintf("%s[%d]", at, n), schema["items"].(object), item)...)
		}
	}
	if fields, ok := value.(object); ok {
		properties, _ := schema["properties"].(object)
		more, _ := schema["additionalProperties"].(object)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, there := fields[name.(string)]; !there {
				wrong("no %v", name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			switch s, known := properties[name].(object); {
			case known:
				list = append(list, violations(at+"."+name, s, fields[name])...)
			case more != nil:
				list = append(list, violations(at+"."+name, more, fields[name])...)
			default:
				wrong("the schema has no %s", name)
			}
		}
	}
	return list
}

// fits reports whether a value has one of the types.
func fits(types, value any) bool {
	if list, ok := types.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return fits(one, value) })
	}
	switch value := value.(type) {
	case nil:
		return types == "null"
	case bool:
		return types == "boolean"
	case string:
		return types == "string"
	case float64:
		return types == "number" || types == "integer" && value == float64(int64(value))
	case []any:
		return types == "array"
	}
	return types == "object"
}

// What tunctl prints is what the schemas say.
func TestSchemas_describeTheOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	f.routes = control.RouteInstance{Name: "office", Objects: []control.RouteObject{{Kind: "route", Object: "10.0.0.0/8", State: "present"}}}
	vlan := 0
	f.events.Add(events.Event{Time: screentest.Noon(), Kind: events.MACMoved, MAC: "02:00:00:00:00:01", VLAN: &vlan, Port: "a", Was: "b", Message: "moved"})
	bad := w.write("bad.toml", "[tunel]\n")
	for name, args := range map[string][]string{
		"status": {"status", "--json"}, "fdb": {"fdb", "--json"}, "routes": {"routes", "--json"}, "check": {"check", bad, "--json"},
		"doctor": {"doctor", "--json"}, "top": {"top", "--json", "--count", "1", "--interval", "100ms"},
		"monitor": {"monitor", "--json", "--after", "0", "--count", "1"},
		"ping":    {"ping", "branch-berlin", "--count", "1", "--json"},
	} {
		_, out, errs := w.run(args...)
		text, err := os.ReadFile(schemaFile(name))
		if err != nil {
			t.Error(err)
			continue
		}
		var schema object
		var document any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal([]byte(out), &document); err != nil {
			t.Errorf("%s: %v\n%s%s", name, err, out, errs)
			continue
		}
		for _, v := range violations(name, schema, document) {
			t.Error(v)
		}
	}
	// A difference is seen.
	var schema object
	text, _ := os.ReadFile(schemaFile("doctor"))
	_ = json.Unmarshal(text, &schema)
	document := object{"schema": "x", "instances": []any{object{"name": 1.0, "worst": "bad", "findings": nil}}, "more": true}
	if got := violations("", schema, document); len(got) != 4 {
		t.Errorf("%q", got)
	}
}
