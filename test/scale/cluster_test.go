package scale

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"tund/internal/testnet"
	"tund/internal/testnet/etcd"
)

const members = 3

// cluster is three members of etcd, which let nobody in without a certificate.
type cluster struct {
	*etcd.Cluster
	t     *testing.T
	dir   string
	ca    *authority
	admin *clientv3.Client

	before time.Duration // processor time of children that had ended before there were members
}

func newCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	testnet.Tund(t) // builds it, which takes more than all members
	c := &cluster{t: t, dir: testnet.Scratch(t)}
	c.before = endedChildren()
	c.ca = newAuthority(t, c.dir)
	c.Cluster = etcd.New(t, members, etcd.Options{Dir: c.dir, Flags: flags, CA: c.ca.path("ca.pem")})
	for i := range members {
		c.ca.issue(etcd.Name(i), time.Now().Add(24*time.Hour))
	}
	c.ca.issue("root", time.Now().Add(24*time.Hour))
	c.StartAll(t)
	c.connect()
	c.secure()
	return c
}

// connect opens the connections of whoever runs the registry.
func (c *cluster) connect() {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(c.ca.path("root.pem"), c.ca.path("root.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.ca.cert)
	c.admin, err = clientv3.New(clientv3.Config{
		Endpoints: c.URLs(), Logger: zap.NewNop(), DialTimeout: 5 * time.Second,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = c.admin.Close() })
}

// tryTimeout bounds one attempt: a member that forwards a request to a leader which has just died
// keeps it for 7 s.
const tryTimeout = 2 * time.Second

// do repeats f until it succeeds.
func (c *cluster) do(what string, f func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit())
	defer cancel()
	for {
		try, stop := context.WithTimeout(ctx, tryTimeout)
		err := f(try)
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// secure makes the user root and lets nobody in but users.
func (c *cluster) secure() {
	c.t.Helper()
	c.addUser("root", "root")
	c.do("auth enable", func(ctx context.Context) error {
		_, err := c.admin.AuthEnable(ctx)
		return err
	})
}

// there takes an error that says that something is there already for none.
func there(err error) error {
	if err != nil && strings.Contains(err.Error(), "already exist") {
		return nil
	}
	return err
}

func (c *cluster) addUser(name, role string) {
	c.t.Helper()
	c.do("user "+name, func(ctx context.Context) error {
		_, err := c.admin.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
		err = there(err)
		if err == nil {
			_, err = c.admin.UserGrantRole(ctx, name, role)
		}
		return err
	})
}

// addRole makes the role of a site, which may read everything and write below its own prefix.
func (c *cluster) addRole(name, id string) {
	c.t.Helper()
	c.do("role "+name, func(ctx context.Context) error {
		_, err := c.admin.RoleAdd(ctx, name)
		err = there(err)
		for prefix, kind := range map[string]clientv3.PermissionType{
			root: clientv3.PermissionType(clientv3.PermRead), root + "site/" + id + "/": clientv3.PermissionType(clientv3.PermReadWrite),
		} {
			if err == nil {
				_, err = c.admin.RoleGrantPermission(ctx, name, prefix, clientv3.GetPrefixRangeEnd(prefix), kind)
			}
		}
		return err
	})
}

// root is above all keys of the network.
const root = "/tund/v1/acme/"

// put writes a document as its admin.
func (c *cluster) put(key string, value []byte) {
	c.t.Helper()
	c.do("put "+key, func(ctx context.Context) error {
		_, err := c.admin.Put(ctx, root+key, string(value))
		return err
	})
}

// putAll writes documents by key, as many in one transaction as etcd takes (--max-txn-ops).
func (c *cluster) putAll(documents map[string][]byte) {
	c.t.Helper()
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(documents)), 100) {
		var puts []clientv3.Op
		for _, key := range keys {
			puts = append(puts, clientv3.OpPut(root+key, string(documents[key])))
		}
		c.do("put many", func(ctx context.Context) error {
			_, err := c.admin.Txn(ctx).Then(puts...).Commit()
			return err
		})
	}
}

func (c *cluster) delete(key string) {
	c.t.Helper()
	c.do("delete "+key, func(ctx context.Context) error {
		_, err := c.admin.Delete(ctx, root+key)
		return err
	})
}

// leader returns which member leads.
func (c *cluster) leader() (leader int) {
	c.t.Helper()
	c.do("find the leader", func(ctx context.Context) error {
		for i, url := range c.URLs() {
			if c.Process(i) == nil {
				continue
			}
			status, err := c.admin.Status(ctx, url)
			if err != nil {
				return err
			}
			if status.Header.MemberId == status.Leader {
				leader = i
				return nil
			}
		}
		return errors.New("no leader")
	})
	return leader
}

// compact forgets the history.
func (c *cluster) compact() {
	c.t.Helper()
	c.do("compact", func(ctx context.Context) error {
		now, err := c.admin.Get(ctx, root+"crl")
		if err == nil {
			_, err = c.admin.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil // by the attempt before, which took too long to be answered
		}
		return err
	})
}

// endedChildren returns what programs have used that were started here and have ended: members, and
// others that do little.
func endedChildren() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processorTime returns what the members have used, those included that were killed.
func (c *cluster) processorTime() (total time.Duration) {
	const tick = 10 * time.Millisecond // USER_HZ
	total = endedChildren() - c.before
	for i := range members {
		p := c.Process(i)
		if p == nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			c.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		for _, n := range fields[11:13] { // utime and stime, proc_pid_stat(5)
			ticks, _ := strconv.Atoi(n)
			total += time.Duration(ticks) * tick
		}
	}
	return total
}

// etcdctl runs a command at the cluster.
func (c *cluster) etcdctl(args ...string) {
	c.t.Helper()
	cmd := exec.Command(testnet.Program(c.t, "etcdctl"), args...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
	}
}
