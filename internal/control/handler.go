package control

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"tund/internal/control/admission"
	"tund/internal/events"
)

// callerKey is the context key of a connection's caller.
type callerKey struct{}

// handler answers requests. Its only state is the number of readers of events, and a lock.
type handler struct {
	backend       Backend      // of the control socket
	agent         AgentBackend // of agent.sock
	name, version string
	log           *zap.Logger
	streams       *streams
	events        func() *events.Log
	verbs         []verb
	// permits says why a caller may not use a verb; "": it may.
	permits  func(admission.Caller, verb) string
	changing sync.Mutex // held while a change of a source is read and made
}

// verb is one method of one path.
type verb struct {
	path, method string
	write        bool  // changes something
	root         bool  // shows or changes what only root may
	maxBody      int64 // bytes of a request's body; 0: maxBody
	answer       func(h *handler, w http.ResponseWriter, r *http.Request) (any, error)
}

// verbs is the API of the control socket. What changes something is for root and the daemon's user
// only, what shows the traffic of others for root alone.
func verbs() []verb {
	return []verb{
		{path: "/v1/version", method: http.MethodGet, answer: (*handler).getVersion},
		{path: "/v1/status", method: http.MethodGet, answer: (*handler).getStatus},
		{path: "/v1/reload", method: http.MethodPost, write: true, answer: (*handler).reload},
		{path: "/v1/confirm", method: http.MethodPost, write: true, answer: (*handler).confirm},
		{path: "/v1/log-level", method: http.MethodGet, answer: (*handler).getLogLevel},
		{path: "/v1/log-level", method: http.MethodPost, write: true, answer: (*handler).setLogLevel},
		{path: "/v1/fdb", method: http.MethodGet, answer: (*handler).getFDB},
		{path: "/v1/fdb/flush", method: http.MethodPost, write: true, answer: (*handler).flushFDB},
		{path: "/v1/fdb/pin", method: http.MethodPost, write: true, answer: (*handler).pinFDB},
		{path: "/v1/routes", method: http.MethodGet, answer: (*handler).getRoutes},
		{path: "/v1/peer", method: http.MethodPost, write: true, answer: (*handler).changePeer},
		{path: "/v1/ping", method: http.MethodGet, answer: (*handler).ping},
		{path: "/v1/sources", method: http.MethodGet, answer: (*handler).getInstanceSources},
		{path: "/v1/capture", method: http.MethodPost, write: true, root: true, answer: (*handler).capture},
		{path: "/v1/events", method: http.MethodGet, answer: (*handler).followEvents},
	}
}

// ServeHTTP finds the verb, checks the caller and answers in JSON, whatever happens.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.contain(w, r)
	who, _ := r.Context().Value(callerKey{}).(admission.Caller)
	if who.Refused {
		w.Header().Set("Connection", "close")
		writeError(w, &Error{Code: CodeBusy, Message: "too many connections to the control socket"})
		return
	}
	v, failure := h.find(r.Method, r.URL.Path)
	if failure != nil {
		if failure.Code == CodeMethod {
			w.Header().Set("Allow", strings.Join(h.methods(r.URL.Path), ", "))
		}
		writeError(w, failure)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(v.maxBody, maxBody))
	if why := h.permits(who, v); why != "" {
		writeError(w, &Error{Code: CodePermission, Message: why})
		return
	}
	var answer any
	var err error
	if v.write {
		level := zap.InfoLevel
		if h.agent != nil {
			level = zap.DebugLevel // twenty a second are usual
		}
		answer, err = h.audited(v, who, level, w, r)
	} else {
		answer, err = v.answer(h, w, r)
	}
	if err != nil {
		writeError(w, asError(err))
		return
	}
	if _, written := answer.(streamed); !written {
		write(w, http.StatusOK, answer)
	}
}

// find returns the verb for a method and a path. HEAD is GET: net/http leaves the body out.
func (h *handler) find(method, path string) (verb, *Error) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, v := range h.verbs {
		if v.path == path && v.method == method {
			return v, nil
		}
	}
	if allowed := h.methods(path); allowed != nil {
		return verb{}, &Error{Code: CodeMethod, Message: path + " takes " + strings.Join(allowed, " or ") + " only"}
	}
	return verb{}, &Error{Code: CodeNotFound, Message: "no such path: " + strconv.QuoteToASCII(clip(path, 100))}
}

// methods returns those of one path.
func (h *handler) methods(path string) []string {
	var list []string
	for _, v := range h.verbs {
		if v.path == path {
			list = append(list, v.method)
		}
	}
	return list
}

// Version is the answer of GET /v1/version.
type Version struct {
	Name    string `json:"name"` // of the instance
	Version string `json:"version"`
	Go      string `json:"go"`
}

func (h *handler) getVersion(http.ResponseWriter, *http.Request) (any, error) {
	return Version{Name: h.name, Version: h.version, Go: runtime.Version()}, nil
}

func (h *handler) getStatus(http.ResponseWriter, *http.Request) (any, error) {
	return Status{Schema: StatusSchema, Instances: []Instance{h.status()}}, nil
}

func (h *handler) getFDB(http.ResponseWriter, *http.Request) (any, error) {
	table := h.backend.FDB()
	table.FDB = list(table.FDB)
	return FDBTable{Schema: FDBSchema, Instances: []FDBInstance{table}}, nil
}

// status asks the backend and turns what is nil into what is empty, so that programs need not tell
// them apart.
func (h *handler) status() Instance {
	i := h.backend.Status()
	i.Warnings, i.Notes, i.Underlay, i.Sources = list(i.Warnings), list(i.Notes), list(i.Underlay), list(i.Sources)
	i.Devices, i.Peers, i.FDB = list(slices.Clone(i.Devices)), list(slices.Clone(i.Peers)), list(i.FDB)
	i.Drops = counts(i.Drops)
	for n := range i.Devices {
		d := &i.Devices[n]
		d.Addresses, d.Features, d.Drops = list(d.Addresses), list(d.Features), counts(d.Drops)
	}
	for n := range i.Peers {
		p := &i.Peers[n]
		p.AllowedIPs, p.Endpoints, p.Capabilities = list(p.AllowedIPs), list(p.Endpoints), list(p.Capabilities)
		p.LanesDetail = list(p.LanesDetail)
		p.Drops = counts(p.Drops)
	}
	return i
}

// done is the answer of a verb that has nothing to tell.
type done struct {
	OK bool `json:"ok"`
}

func (h *handler) reload(w http.ResponseWriter, r *http.Request) (any, error) {
	confirm, err := decodeReload(r.Body)
	if err != nil {
		return nil, err
	}
	if confirm > 0 {
		describe(r, "reload, to be confirmed within %v", confirm)
	}
	// An error means only that the connection cannot be given more time.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	return done{true}, h.backend.Reload(confirm)
}

func (h *handler) confirm(http.ResponseWriter, *http.Request) (any, error) {
	return done{true}, h.backend.Confirm()
}

// logLevel is the body and the answer of /v1/log-level.
type logLevel struct {
	Level string `json:"level"`
}

func (h *handler) getLogLevel(http.ResponseWriter, *http.Request) (any, error) {
	return logLevel{h.backend.LogLevel()}, nil
}

func (h *handler) setLogLevel(_ http.ResponseWriter, r *http.Request) (any, error) {
	wanted, err := decodeLogLevel(r.Body)
	if err != nil {
		return nil, err
	}
	describe(r, "log level %s", wanted.Level)
	if err := h.backend.SetLogLevel(wanted.Level); err != nil {
		return nil, err
	}
	return logLevel{h.backend.LogLevel()}, nil
}

// flushed is the answer of POST /v1/fdb/flush.
type flushed struct {
	Flushed int `json:"flushed"`
}

func (h *handler) flushFDB(_ http.ResponseWriter, r *http.Request) (any, error) {
	filter, err := decodeFilter(r.Body)
	if err != nil {
		return nil, err
	}
	describe(r, "%s", filter.words())
	n, err := h.backend.FlushFDB(filter)
	return flushed{n}, err
}

func (h *handler) pinFDB(_ http.ResponseWriter, r *http.Request) (any, error) {
	pin, err := decodePin(r.Body)
	if err != nil {
		return nil, err
	}
	describe(r, "pin %s in VLAN %d to %s", pin.MAC, pin.VLAN, pin.Port)
	return done{true}, h.backend.PinFDB(pin)
}

func (h *handler) getRoutes(http.ResponseWriter, *http.Request) (any, error) {
	routes, err := h.backend.Routes()
	if err != nil {
		return nil, err
	}
	routes.Objects, routes.Warnings = list(routes.Objects), list(routes.Warnings)
	return RouteTable{Schema: RoutesSchema, Instances: []RouteInstance{routes}}, nil
}

func (h *handler) getInstanceSources(http.ResponseWriter, *http.Request) (any, error) {
	return SourceTable{Name: h.name, Sources: list(h.backend.Sources())}, nil
}

func (h *handler) changePeer(w http.ResponseWriter, r *http.Request) (any, error) {
	change, err := decodePeerChange(r.Body)
	if err != nil {
		return nil, err
	}
	describe(r, "%s", change.words())
	// As for a reload: the kernel may take its time for many routes.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadTimeout))
	return done{true}, h.backend.ChangePeer(change)
}

// errorBody is how an Error looks on the wire.
type errorBody struct {
	Error *Error `json:"error"`
}

// httpStatus maps codes to HTTP statuses, for tools that look at nothing else.
func (c Code) httpStatus() int {
	switch c {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodePermission:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethod:
		return http.StatusMethodNotAllowed
	case CodeUnsupported, CodeGeneration:
		return http.StatusConflict
	case CodeGone:
		return http.StatusGone
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeConfig:
		return http.StatusUnprocessableEntity
	case CodeBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// asError finds the *Error in err, or makes an internal one of it.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && e != nil {
		if e.Error() == err.Error() {
			return e
		}
		return &Error{Code: e.Code, Message: err.Error()} // keep what was wrapped around it
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

func writeError(w http.ResponseWriter, e *Error) { write(w, e.Code.httpStatus(), errorBody{e}) }

// write sends v as one JSON document.
func write(w http.ResponseWriter, status int, v any) {
	body := encode(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the only failure is a client that left
}

// encode makes JSON of one of this package's types, which cannot fail unless a type is wrong.
func encode(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // this is read by jq and eyes, never by a browser
	if err := encoder.Encode(v); err != nil {
		panic("internal/control: cannot encode an answer: " + err.Error())
	}
	return b.Bytes()
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func counts(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
