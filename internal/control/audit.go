package control

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tund/internal/control/admission"
)

// auditKey is the context key of what a request changes, in words: a *string.
type auditKey struct{}

// describe notes for the log what a request changes. It must not contain a secret.
func describe(r *http.Request, format string, args ...any) {
	if what, ok := r.Context().Value(auditKey{}).(*string); ok {
		*what = fmt.Sprintf(format, args...)
	}
}

// audited performs a verb that changes something, and logs who did what and what became of it: one
// line for each.
func (h *handler) audited(v verb, who admission.Caller, level zapcore.Level, w http.ResponseWriter, r *http.Request) (any, error) {
	what := ""
	r = r.WithContext(context.WithValue(r.Context(), auditKey{}, &what))
	answer, err := v.answer(h, w, r)
	fields := []zap.Field{zap.Int("uid", who.UID), zap.Int("pid", who.PID), zap.String("verb", v.method+" "+v.path)}
	if what != "" {
		fields = append(fields, zap.String("what", clip(what, maxAudit)))
	}
	if err != nil {
		fields = append(fields, zap.String("refused", clip(strings.ReplaceAll(err.Error(), "\n", "; "), maxAudit)))
	}
	h.log.Log(level, "change by the control socket", fields...)
	return answer, err
}

// maxAudit bounds each text in a line about a change, in bytes.
const maxAudit = 400

// words describes a change of a peer without its values, which may be secrets.
func (c *PeerChange) words() string {
	name := c.Peer
	for _, key := range []string{"name", "public_key"} {
		if text, ok := c.Values[key].(string); ok && name == "" {
			name = text
		}
	}
	text := c.Op + " peer " + name
	if len(c.Values) > 0 {
		text += " (" + strings.Join(slices.Sorted(maps.Keys(c.Values)), ", ") + ")"
	}
	return text
}

// words describes a selection of FDB entries.
func (f *FDBFilter) words() string {
	text := "flush learned addresses"
	if f.Static {
		text = "flush pinned addresses"
	}
	if f.MAC != "" {
		text += " " + f.MAC
	}
	if f.VLAN != nil {
		text += fmt.Sprintf(" in VLAN %d", *f.VLAN)
	}
	if f.Port != "" {
		text += " behind " + f.Port
	}
	return text
}
