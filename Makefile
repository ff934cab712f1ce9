# Everyday targets. `make help` lists them.
SHELL    := /bin/bash
GO       ?= go
TOOL     := $(GO) tool -modfile=tools/go.mod
PACKAGES := ./...

.PHONY: help build run test interop race fuzz soak lint generate verify bench deps

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/keyturn
	$(GO) build -o bin/keyturn ./cmd/keyturn

run: ## start a development server with fixed credentials on 127.0.0.1:7400
	$(GO) run ./cmd/keyturn server --dev --listen 127.0.0.1:7400

deps: ## install with apt what the tests need and this machine lacks
	@.ci/deps

test: deps ## every test, on SQLite and on PostgreSQL, and foreign clients
	$(GO) test -timeout 15m $(PACKAGES)
	$(if $(filter ./...,$(PACKAGES)),@$(MAKE) --no-print-directory interop)

# go's test cache sees the environment and not the binary: its hash stands for it.
RUN ?= .
interop: deps ## foreign clients (SDKs, AWS CLI, Tink, …) against the real process; RUN=name for some
	$(GO) build -buildvcs=false -o bin/interop/keyturn ./cmd/keyturn
	@sum=$$(sha256sum bin/interop/keyturn | cut -d' ' -f1); cd interop && \
	KEYTURN_BINARY=$(CURDIR)/bin/interop/keyturn KEYTURN_BINARY_SHA256=$$sum $(GO) test -timeout 10m -run '$(RUN)' ./...

race: deps ## every test under the race detector
	$(GO) test -race -timeout 40m $(PACKAGES)

FUZZTIME ?= 10s
fuzz: ## run each fuzz target for FUZZTIME (default 10s)
	@set -e; found=0; \
	for file in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
	  for name in $$(grep -oE '^func Fuzz[A-Za-z0-9_]*' $$file | awk '{print $$2}'); do \
	    found=$$((found+1)); echo "== $$name in $$(dirname $$file)"; \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
	  done; \
	done; \
	[ $$found -gt 0 ] || { echo "no fuzz target found"; exit 1; }; echo "$$found fuzz targets ran"

ROUNDS ?= 1000
soak: deps ## kill -9 the real process ROUNDS times (default 1000), faults in every call, and check every invariant; every Wycheproof vector through the wire
	$(GO) test -count=1 -timeout 1h ./rotation ./rotators -every
	KEYTURN_WYCHEPROOF=all $(GO) test -run ThroughTheWire ./kms
	KEYTURN_KILL_ROUNDS=$(ROUNDS) $(GO) test -run TestKillNine -timeout 6h -v ./cmd/keyturn

lint: ## golangci-lint and gofumpt, at the versions pinned in tools/go.mod
	@out=$$(git ls-files '*.go' | grep -v '_gen\(_test\)*\.go$$' | xargs $(TOOL) gofumpt -l); [ -z "$$out" ] || { echo "gofumpt would change:"; echo "$$out"; exit 1; }
	$(TOOL) golangci-lint run
	cd interop && $(GO) tool -modfile=../tools/go.mod golangci-lint run

generate: ## make the generated files and the documents printed from code again
	$(GO) generate ./...

verify: lint ## generated files and documents are current, links work, vet and lint are clean
	$(GO) vet ./...
	cd interop && $(GO) vet ./...
	@.ci/current

bench: ## Keyturn beside the limit server, in one run
	$(GO) run ./bench
