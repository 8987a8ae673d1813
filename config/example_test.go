package config_test

import (
	"errors"
	"fmt"

	"tund/config"
)

// A file that is right has every value filled in.
func ExampleParse() {
	c, err := config.Parse("/etc/tund/office.toml", []byte(`
[tunnel]
private_key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
listen_port = 51820

[tun]
address = ["10.9.0.1/24"]

[[peer]]
name        = "paris"
public_key  = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
endpoint    = "paris.example.org:51820"
allowed_ips = ["10.9.0.2/32", "10.30.0.0/16"]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Instance, c.Tunnel.ListenPort, c.Tunnel.PrivateKey)
	for _, p := range c.Peers {
		fmt.Println(p.Name, p.Endpoints, p.AllowedIPs)
	}
	// Output:
	// office 51820 (hidden)
	// paris [paris.example.org:51820] [10.9.0.2/32 10.30.0.0/16]
}

// All mistakes of a file are reported at once, each with its place.
func ExampleErrors() {
	_, err := config.Parse("office.toml", []byte(`[tunnel]
listen_prot = 51820
`))
	var faults config.Errors
	if errors.As(err, &faults) {
		for _, fault := range faults {
			fmt.Println(fault)
		}
	}
	// Output:
	// office.toml:1:1: tunnel: no private key: give private_key_file, private_key or credential
	// office.toml:1:1: no device: give [tun], [tap] or both
	// office.toml:2:1: tunnel: unknown key "listen_prot": did you mean "listen_port"?
}
