package control

import (
	"fmt"
	"os"

	"go.uber.org/zap"

	"tund/internal/control/admission"
	"tund/internal/rundir"
	"tund/internal/unixsock"
)

// AgentServer is the daemon's side of agent.sock.
type AgentServer struct {
	endpoint
	of  *Server
	uid int
}

// ListenAgent binds the socket for the agent of the instance that s speaks for, in the same
// directory. It may be used by the user uid, by root and by the daemon's own user. As root, the
// socket is given to uid; otherwise uid has to be in the group that the socket has, which is that
// of the control socket. s is closed after the result.
func (s *Server) ListenAgent(uid int) (*AgentServer, error) {
	path := rundir.AgentSocket(s.opts.RunDir, s.opts.Instance)
	listener, err := bindSocket(s.claim, path)
	if err != nil {
		return nil, fmt.Errorf("for the agent: %w", err)
	}
	if os.Geteuid() == 0 {
		// Nobody but the user can connect, so that everybody may come as far as the socket.
		err := os.Chown(path, uid, -1)
		if err == nil {
			err = os.Chmod(s.claim.Dir(), 0o751)
		}
		if err != nil {
			_ = listener.Close()
			_ = os.Remove(path)
			return nil, fmt.Errorf("socket for the agent: %w", err)
		}
	}
	a := &AgentServer{of: s, uid: uid}
	a.bound(listener, path, s.log)
	return a, nil
}

// Serve answers requests from backend until Close, and then returns nil. It is called once.
func (a *AgentServer) Serve(backend AgentBackend) error {
	return a.serve(newAgentHandler(backend, a.of.opts.Instance, a.uid, a.log))
}

// newAgentHandler returns the handler of an agent's socket, for the user uid.
func newAgentHandler(backend AgentBackend, name string, uid int, log *zap.Logger) *handler {
	return &handler{
		agent: backend, name: name, log: log, verbs: agentVerbs(), events: backend.Events,
		permits: func(who admission.Caller, _ verb) string {
			if who.MayWrite() || who.Known && who.UID == uid {
				return ""
			}
			return "only the user of [agent], root and the user tund runs as may use this socket"
		},
	}
}

// Close stops answering and removes the socket. A second call does nothing.
func (a *AgentServer) Close() error {
	_, err := a.close()
	return err
}

// removeAgentSocket removes what a killed daemon left of the agent's socket.
func removeAgentSocket(path string) {
	if there, err := unixsock.Exists(path); err == nil && there {
		_ = os.Remove(path)
	}
}
