package firewall

import (
	"testing"

	nlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// An answer that came after the time for it was over was taken for that to the next question, and
// so on, until the instance was started again.
func TestFirewall_answersThatComeTooLate(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	var fw *Firewall
	ns.Do(func() {
		var err error
		if fw, err = Open(); err != nil {
			t.Skipf("this kernel has no nftables: %v", err)
		}
	})
	defer func() { _ = fw.Close() }()
	if err := fw.Add("office", Table{Masquerade: "office"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		// A dump of tables, whose answer nobody waits for.
		_, err := fw.sock.Send(nlink.Message{
			Header: nlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE, Flags: nlink.Request | nlink.Dump},
			Data:   []byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0},
		})
		if err != nil {
			t.Fatal(err)
		}
		found, err := fw.Read()
		if err != nil || found["office"].Digest != (Table{Masquerade: "office"}).Digest() {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	if err := fw.Remove("office"); err != nil {
		t.Error(err)
	}
}
