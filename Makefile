# Every target has one line of help: `make help`.

# sudo's secure_path does not include /usr/local/go/bin, where the archive of go.dev puts Go.
GO          ?= $(or $(shell command -v go),$(wildcard /usr/local/go/bin/go),go)
VERSION     ?= $(shell scripts/as-owner.sh git describe --tags --always --dirty 2>/dev/null | sed 's/^v//')
GOLANGCI    ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT   ?= golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
TESTFLAGS   ?=
# For fuzz, gobench and benchstat: which, how long and how often.
FUZZTIME ?= 30s
FUZZ     ?= .
BENCH    ?= .
COUNT    ?= 6
# test/ is a module of its own, so that nobody who builds tund gets the modules that only tests use.
# Its packages that run whole hosts have limits of time: one package at a time, and nothing beside
# them.
UNITPKGS     = ./bench ./interop
HOSTPKGS     = ./e2e ./ethernet ./compat

# Where `make install` puts things. DESTDIR is for packagers.
PREFIX     ?= /usr
SYSCONFDIR ?= /etc
DESTDIR    ?=

BUILDFLAGS = -trimpath -ldflags '-X main.version=$(or $(VERSION),unknown)'
SCRIPTS    = .ci/run .ci/as-nobody test/tools.sh test/demo.sh $(wildcard scripts/*.sh examples/*.sh examples/*/*.sh test/lab/*.sh test/vm/*.sh \
	test/deb/*.sh packaging/*.sh packaging/debian/*)

# What the programs are built from: with bin/ up to date neither `sudo make demo` nor `sudo make
# install` needs Go.
PROGRAMS   = bin/tund bin/tunctl bin/tund-agent
SOURCES    = go.mod go.sum $(shell find * \( -path test -o -path bin -o -path dist \) -prune -o -name '*_test.go' -prune \
	-o \( -name '*.go' -o -name '*.s' -o -name '*.h' -o -name '*.html' \) -print)

.PHONY: need-go help build check test scale test-arm64 test-vm lanes selftests test-deb test-systemd soak soak-alone soak-waits soak-hosts soak-units race lint vuln fuzz cover gobench benchstat \
	bench demo demo-sites install install-files install-agent deb release clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-go:
	@scripts/need-go.sh $(GO)

# Root builds as the owner of the checkout, so that nothing is left which the owner cannot build
# again or remove.
BUILD = scripts/as-owner.sh env CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -o bin/

build: need-go ## build static binaries: bin/tund, bin/tunctl and bin/tund-agent
	$(BUILD) ./cmd/tund ./cmd/tunctl ./cmd/tund-agent

$(PROGRAMS) &: $(SOURCES)
	@scripts/need-go.sh $(GO)
	$(BUILD) ./cmd/tund ./cmd/tunctl ./cmd/tund-agent
	@touch $(PROGRAMS)

test: need-go ## run the tests; as root those in network namespaces too
	@test/tools.sh test
	$(GO) test -timeout 5m $(TESTFLAGS) ./...
	$(GO) -C test test -timeout 5m $(TESTFLAGS) $(UNITPKGS)
	$(GO) -C test test -p 1 -timeout 10m $(TESTFLAGS) $(HOSTPKGS)

test-arm64: need-go ## test ciphers, handshake and sessions as arm64 programs, under qemu-user
	@test/tools.sh arm64
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test -short $(TESTFLAGS) -exec qemu-aarch64 ./crypto/... ./tunnel/datasession

soak: soak-alone soak-waits soak-hosts soak-units ## run the tests that take minutes (root)

SOAK = test -count=1 -timeout 40m -run '^TestSoak' $(TESTFLAGS)

# wireguard-go's own script, which is not ours to change, waits no longer than a second for an
# answer.
soak-alone: need-go
	@test/tools.sh test
	TUND_TEST_SOAK=1 $(GO) -C test $(SOAK) ./compat

# These send a ping now and then and wait for new sessions (rekeys: 405 s): they disturb nothing,
# and nothing disturbs them.
WAITING = ^TestSoak(Rekeys|Idle|TwoLANs)_
soak-waits: need-go
	@test/tools.sh test
	TUND_TEST_SOAK=1 $(GO) -C test test -count=1 -timeout 20m -run '$(WAITING)' $(TESTFLAGS) -p 2 ./e2e ./ethernet

# These wait more than they work, and their limits allow for neighbours: two packages at a time.
soak-hosts: need-go
	@test/tools.sh test soak
	TUND_TEST_SOAK=1 $(GO) -C test $(SOAK) -skip '$(WAITING)' -p 2 $(filter-out ./compat,$(HOSTPKGS))

# These work: millions of random packets and messages, other ones in each run.
soak-units: need-go
	TUND_TEST_SOAK=1 $(GO) $(SOAK) ./...
	TUND_TEST_SOAK=1 $(GO) -C test $(SOAK) $(UNITPKGS)

# QUICK=1: the faults only, with pauses of seconds in place of minutes.
SITES ?= 1000
scale: $(PROGRAMS) ## run the agents of SITES=1000 sites against etcd, and break it (root; QUICK=1)
	@test/tools.sh test
	@mkdir -p dist/scale
	TUND_TEST_BIN=$(CURDIR)/bin/tund TUND_TEST_SCALE=$(SITES) TUND_TEST_SCALE_LONG=$(if $(QUICK),,1) TUND_TEST_SCALE_OUT=$(CURDIR)/dist/scale \
		$(GO) -C test test -count=1 -v -timeout 90m -run '$(if $(QUICK),^TestFaults,.)' $(TESTFLAGS) ./scale

test-vm: $(PROGRAMS) ## run tund against the kernel's WireGuard in a virtual machine
	@test/tools.sh vm
	test/vm/run.sh

lanes: $(PROGRAMS) ## one lane and four, eight flows, in a virtual machine
	@test/tools.sh vm
	TUND_LAB_CPUS=4 test/lab/guest.sh test/lab/lanes.sh bin/tund bin/tunctl

selftests: $(PROGRAMS) ## run Linux's tests of forwarding over tund in a virtual machine (an hour)
	@test/tools.sh vm selftests
	test/forwarding/run.sh $(TESTS)

# What the packages that run whole hosts run are programs of their own, of which the race detector
# sees nothing.
race: need-go ## run the tests under the race detector
	@test/tools.sh test
	CGO_ENABLED=1 $(GO) test -race -timeout 15m $(TESTFLAGS) ./...
	CGO_ENABLED=1 $(GO) -C test test -race -timeout 15m $(TESTFLAGS) $(UNITPKGS)

GOFMT = $(shell $(GO) env GOROOT)/bin/gofmt

check: need-go ## gofmt, go vet and the unit tests: two minutes, no root, nothing but Go
	@unformatted="$$($(GOFMT) -l cmd config crypto internal packaging route test tunnel)"; \
		[ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) -C test vet ./...
	scripts/pure.sh
	scripts/structure.sh $(GO)
	scripts/width.sh
	$(GO) test -vet=off -timeout 5m $(TESTFLAGS) ./...
	$(GO) -C test test -vet=off -timeout 5m $(TESTFLAGS) $(UNITPKGS)

lint: need-go ## run golangci-lint, shellcheck and the checks of go.mod
	@test/tools.sh lint
	$(GO) run $(GOLANGCI) run ./...
	$(GO) -C test run $(GOLANGCI) run ./...
	scripts/pure.sh
	scripts/structure.sh $(GO)
	scripts/width.sh
	scripts/modules.sh $(GO)
	shellcheck -x $(SCRIPTS)

vuln: need-go ## look for known vulnerabilities in what the programs call (asks vuln.go.dev)
	$(GO) run $(GOVULNCHECK) ./cmd/...

fuzz: need-go ## run each fuzz target for FUZZTIME; FUZZ= picks some by name
	scripts/fuzz.sh $(GO) $(FUZZTIME) '$(FUZZ)'

cover: need-go ## run the unit tests and show which lines they reach: dist/cover.html
	@mkdir -p dist
	$(GO) test -timeout 10m -coverpkg=./... -coverprofile=dist/cover.out $(TESTFLAGS) ./...
	$(GO) tool cover -html=dist/cover.out -o dist/cover.html
	@$(GO) tool cover -func=dist/cover.out | tail -n 1

gobench: need-go ## run Go benchmarks (BENCH= COUNT=) into dist/gobench-VERSION.txt
	@mkdir -p dist
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(TESTFLAGS) ./... | tee dist/gobench-$(VERSION).txt

benchstat: need-go ## compare two files of gobench: make benchstat OLD=FILE NEW=FILE
	$(GO) run $(BENCHSTAT) $(OLD) $(NEW)

release: need-go ## static binaries for amd64 and arm64, checksums and SBOM, in dist/release
	scripts/as-owner.sh scripts/release.sh $(GO) $(or $(VERSION),unknown)

bench: build ## measure tund beside other VPNs (root; ROUNDS= T= CASES= CONTENDERS= LINK= STORE=)
	@test/tools.sh bench
	scripts/as-owner.sh env CGO_ENABLED=0 $(GO) -C test build $(BUILDFLAGS) -o ../bin/bench ./bench
	PATH=$(dir $(GO)):$$PATH bin/bench

demo: $(PROGRAMS) ## show two gateways and a tunnel on this machine (root)
	@test/tools.sh demo
	test/demo.sh

demo-sites: $(PROGRAMS) ## show a network of sites with a registry in etcd on this machine (root)
	@test/tools.sh sites
	examples/many-sites/run.sh

SHARE = $(DESTDIR)$(PREFIX)/share
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
AGENTUNIT = $(DESTDIR)$(PREFIX)/lib/systemd/system/tund-agent@.service

install: $(PROGRAMS) install-files ## install below $(DESTDIR)$(PREFIX)
	install -D -m 0755 bin/tund $(DESTDIR)$(PREFIX)/sbin/tund
	install -D -m 0755 bin/tunctl $(DESTDIR)$(PREFIX)/bin/tunctl
	install -d -m 0755 $(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions
	bin/tunctl completion bash > $(SHARE)/bash-completion/completions/tunctl
	bin/tunctl completion zsh > $(SHARE)/zsh/vendor-completions/_tunctl
	@[ -n "$(DESTDIR)" ] || echo "Now: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload"

# All but what has to be built. Documents lie as they do here, so that their links work; keys that
# somebody made in examples/ to try them stay here.
install-files:
	install -D -m 0644 -t $(UNITS) packaging/tund@.service packaging/tund-dns@.path packaging/tund-dns@.service
	sed -i 's#/usr/\(sbin/tund\|bin/tunctl\|share/\)#$(PREFIX)/\1#g' $(UNITS)/tund@.service $(UNITS)/tund-dns@.*
	install -D -m 0644 packaging/sysusers.d/tund.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/tund.conf
	install -D -m 0644 packaging/tmpfiles.d/tund.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/tund.conf
	install -D -m 0644 packaging/networkd.conf.d/50-tund.conf $(DESTDIR)$(PREFIX)/lib/systemd/networkd.conf.d/50-tund.conf
	install -D -m 0644 packaging/rt_protos.d/tund.conf $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_protos.d/tund.conf
	install -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/tund $(SHARE)/doc/tund
	install -m 0644 $(wildcard *.md) LICENSE $(SHARE)/doc/tund/
	cp -R --no-preserve=ownership docs examples $(SHARE)/doc/tund/
	find $(SHARE)/doc/tund/examples \( -name '*.key' -o -name '*.psk' -o -name .gitignore \) -delete

install-agent: $(PROGRAMS) ## install the agent for networks of many sites below $(DESTDIR)$(PREFIX)
	install -D -m 0755 bin/tund-agent $(DESTDIR)$(PREFIX)/bin/tund-agent
	install -D -m 0644 packaging/tund-agent@.service $(AGENTUNIT)
	sed -i 's#/usr/\(bin/tund-agent\|share/\)#$(PREFIX)/\1#g' $(AGENTUNIT)
	install -D -m 0644 packaging/sysusers.d/tund-agent.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/tund-agent.conf
	install -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/tund/agent

deb: need-go ## make Debian packages for amd64 and arm64 in dist/
	@test/tools.sh deb
	scripts/as-owner.sh env GO=$(GO) VERSION=$(or $(VERSION),unknown) packaging/deb.sh $(or $(ARCH),amd64 arm64)

test-deb: ## try the Debian package under systemd in a virtual machine (root; minutes)
	@test/tools.sh vm deb testdeb
	rm -f dist/tund_*_amd64.deb
	$(MAKE) deb ARCH=amd64
	test/deb/run.sh dist/tund_*_amd64.deb

test-systemd: ## what a gateway loses when killed or restarted under systemd (root; minutes)
	@test/tools.sh deb testdeb
	rm -f dist/tund_*_amd64.deb
	$(MAKE) deb ARCH=amd64
	test/deb/native.sh dist/tund_*_amd64.deb

clean: ## remove what was built
	rm -rf bin dist
