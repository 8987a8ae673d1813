package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tund/cmd/tunctl/internal/display"
	"tund/internal/control"
	"tund/internal/doctor"
	"tund/internal/events"
	"tund/internal/linkbench"
	"tund/internal/linkbench/result"
)

// manual is docs/tunctl.md, by heading.
func manual(t *testing.T) (whole string, sections map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/tunctl.md")
	if err != nil {
		t.Fatal(err)
	}
	sections = make(map[string]string)
	parts := regexp.MustCompile(`(?m)^##+ `).Split(string(text), -1)
	for _, part := range parts[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections[strings.Trim(title, "`")] = body
	}
	return string(text), sections
}

// flagsIn finds the flags in the tables of a section.
func flagsIn(section string) map[string]bool {
	found := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (`-.*?) \\|").FindAllStringSubmatch(section, -1) {
		for _, flag := range regexp.MustCompile("`(--?[a-z-]+)`").FindAllStringSubmatch(row[1], -1) {
			found[flag[1]] = true
		}
	}
	return found
}

func TestManual_listsEveryVerbAndFlag(t *testing.T) {
	t.Parallel()
	_, sections := manual(t)
	root := (&app{env: &environment{}}).commands()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpFlag()
	common := flagsIn(sections["Flags of every verb"])
	known := make(map[string]bool)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		path := c.CommandPath()
		known[path] = true
		section, ok := sections[path]
		if !ok {
			t.Errorf("no section %q", path)
		}
		if c.Name() == "completion" {
			return // the shells are cobra's
		}
		documented := flagsIn(section)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			where, table := path, documented
			if c.PersistentFlags().Lookup(f.Name) != nil || f.Name == "help" {
				where, table = "Flags of every verb", common
			}
			names := []string{"--" + f.Name}
			if f.Shorthand != "" {
				names = append(names, "-"+f.Shorthand)
			}
			for _, name := range names {
				if !table[name] {
					t.Errorf("section %q does not list %s", where, name)
				}
				delete(documented, name)
			}
		})
		for name := range documented {
			t.Errorf("section %q lists %s, which does not exist", path, name)
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(root)
	for title := range sections {
		if strings.HasPrefix(title, "tunctl") && !known[title] {
			t.Errorf("section %q is about no verb", title)
		}
	}
}

func TestManual_listsEveryFieldOfTheDocuments(t *testing.T) {
	t.Parallel()
	whole, sections := manual(t)
	var check func(section string, of reflect.Type)
	check = func(section string, of reflect.Type) {
		for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[control.Time]() || of == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(section, "`"+name+"`") && !strings.Contains(section, `"`+name+`"`) {
				t.Errorf("%s: field %q is not documented", of, name)
			}
			check(section, of.Field(i).Type)
		}
	}
	check(sections["status --json"]+sections["fdb --json"], reflect.TypeFor[control.Status]())
	check(sections["fdb --json"], reflect.TypeFor[control.FDBTable]())
	check(sections["routes --json"], reflect.TypeFor[control.RouteTable]())
	check(sections["sources --json"], reflect.TypeFor[control.SourceTables]())
	check(sections["top --json"], reflect.TypeFor[display.TopLine]())
	check(sections["doctor --json"], reflect.TypeFor[doctor.Document]())
	for _, name := range doctor.Checks() {
		if !strings.Contains(sections["tunctl doctor"], "| `"+name+"` |") {
			t.Errorf("the check %q is not documented", name)
		}
	}
	check(sections["bench --json"], reflect.TypeFor[result.Report]())
	for _, r := range linkbench.Rows() {
		if !strings.Contains(sections["tunctl bench"], "| `"+r.Name+"` |") {
			t.Errorf("the row %q is not documented", r.Name)
		}
	}
	check(sections["monitor --json"], reflect.TypeFor[events.Event]())
	for _, kind := range events.Kinds() {
		if !strings.Contains(sections["monitor --json"], "`"+string(kind)+"`") {
			t.Errorf("events of kind %q are not documented", kind)
		}
	}
	for _, code := range []control.Code{control.CodeInvalid, control.CodePermission, control.CodeNotFound, control.CodeMethod,
		control.CodeUnsupported, control.CodeGeneration, control.CodeGone, control.CodeTooLarge, control.CodeConfig, control.CodeInternal, control.CodeBusy} {
		if !strings.Contains(whole, "`"+string(code)+"`") {
			t.Errorf("code %q is not documented", code)
		}
	}
}
