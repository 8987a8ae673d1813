package main

import "context"

type vxlan struct{ over *wireguard }
type openvpn struct {
	name string
	tap  bool
}
type nebula struct{ version string }
type tinc struct{}

func (v *vxlan) about() about                                 { return about{Name: "vxlan-wireguard-go"} }
func (v *vxlan) shapes() []shape                              { return nil }
func (v *vxlan) prepare(context.Context, *workshop) error     { return errUnavailable }
func (v *vxlan) start(context.Context, *pair, demand) error   { return errUnavailable }
func (v *openvpn) about() about                               { return about{Name: v.name} }
func (v *openvpn) shapes() []shape                            { return nil }
func (v *openvpn) prepare(context.Context, *workshop) error   { return errUnavailable }
func (v *openvpn) start(context.Context, *pair, demand) error { return errUnavailable }
func (v *nebula) about() about                                { return about{Name: "nebula"} }
func (v *nebula) shapes() []shape                             { return nil }
func (v *nebula) prepare(context.Context, *workshop) error    { return errUnavailable }
func (v *nebula) start(context.Context, *pair, demand) error  { return errUnavailable }
func (v *tinc) about() about                                  { return about{Name: "tinc"} }
func (v *tinc) shapes() []shape                               { return nil }
func (v *tinc) prepare(context.Context, *workshop) error      { return errUnavailable }
func (v *tinc) start(context.Context, *pair, demand) error    { return errUnavailable }
