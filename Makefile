# `make` lists the targets. Each of them installs what it needs and does not find (contrib/setup.sh, through apt).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo test test-kernels dist bench bench-capture bench-probes bench-analyze bench-recordings fixtures fuzz lint borders schema

# Off Linux there is no recorder: traces are read there, not made.
ifeq ($(shell uname -s),Linux)
  programs :=
else
  programs := --no-default-features --features analyze
endif
comma := ,
only = --no-default-features --features $(1)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

build: ## capture and analyze, optimized, in target/release (the first build takes about ten minutes)
	contrib/setup.sh
	cargo build --release $(programs)

demo: ## record a small TCP workload and print the reports from it
	contrib/demo.sh

test: ## all tests; those that load BPF programs need root and say so when they skip
	contrib/setup.sh --tests
	cargo test $(programs)

test-kernels: dist ## the static capture in guests with other kernels (KERNELS="5.10 6.12" to choose)
	contrib/setup.sh --tests
	cargo build --bin analyze
	ANALYZE=$${ANALYZE:-target/debug/analyze} tests/guests/run.sh

# libelf and zlib come from the system here, and libbpf-sys looks for their archives in this folder only.
# Naming the target keeps crt-static away from build scripts and procedural macros, which cannot be static.
# A target folder of its own: other flags in the common one would rebuild all there is, and again on the way back.
# Who passes the file on: libelf inside it is LGPL-3.0-or-later or GPL-2.0-or-later, so say where its source is.
dist: ## dist/capture: one static file that runs on any distribution
	contrib/setup.sh
	target=$$(rustc -vV | sed -n 's/^host: //p'); \
	RUSTFLAGS="-C target-feature=+crt-static" LIBBPF_SYS_LIBRARY_PATH=$$(pkg-config --variable=libdir libelf) \
	CARGO_TARGET_DIR=target/dist cargo build --release $(call only,capture$(comma)static) --target "$$target" --bin capture; \
	install -D "target/dist/$$target/release/capture" dist/capture
	@if readelf -ldW dist/capture | grep -E 'INTERP|NEEDED'; then \
	  echo "dist: dist/capture is not static, it asks for the above; see RUSTFLAGS in the Makefile" >&2; exit 1; fi
	@ls -lh dist/capture

bench: ## what encoding, decoding and the recorder's own path cost
	contrib/setup.sh
	cargo bench --no-default-features --features capture

bench-capture: ## what recording costs, side by side with a minimal recorder and the peers that are installed (root, BPF; half an hour)
	contrib/setup.sh --tests
	cargo build --release $(call only,capture) --bin capture
	benches/capture/run.py $(if $(QUICK),--quick)

bench-probes: ## what a hit of a named probe costs, beside bpftrace (root, BPF; five minutes)
	contrib/setup.sh --tests
	cargo build --release $(call only,capture) --bin capture
	benches/capture/probes.py --capture "$${CARGO_TARGET_DIR:-target}/release/capture"

bench-analyze: ## reports against hand-written folds, bare zstd, DuckDB and polars (EVENTS=100000000 FLOWS=1000000 to choose)
	contrib/setup.sh
	test -x target/bench-venv/bin/python || python3 -m venv target/bench-venv
	target/bench-venv/bin/python -c 'import duckdb, polars' 2>/dev/null || target/bench-venv/bin/pip install --quiet duckdb polars
	BENCH_PYTHON=target/bench-venv/bin/python cargo bench --bench analyze -- $(EVENTS) $(FLOWS)

bench-recordings: ## analyze against tshark and perf script, on recordings of the same traffic (root; tshark, tcpdump, perf, redis)
	cargo build --release
	benches/analyze/recordings.py

fixtures: ## record the fixtures anew (root, BPF), and rewrite the goldens: read the difference
	fixtures/record.sh
	UPDATE_GOLDEN=1 cargo test --test fixtures

fuzz: ## each fuzz target for two minutes, coverage in our own code alone (SECONDS=1200 for longer)
	cd tests/fuzz && RUSTC_WRAPPER=$$PWD/instrumented.sh cargo build --release --features analyze --bins
	cd tests/fuzz && for target in header payload file identity report; do \
	  mkdir -p target/found/$$target && target/release/$$target target/found/$$target corpus/$$target \
	    -timeout=120 -rss_limit_mb=1024 -max_total_time=$(or $(SECONDS),120) || exit 1; done

lint: ## format, clippy and docs with warnings as errors, licences and sources of the dependencies
	contrib/setup.sh --ci
	cargo fmt --check
	rustfmt --check analyze/report/*.rs # modules that build.rs lists: cargo does not see them
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets $(call only,capture) -- -D warnings
	cargo clippy --all-targets $(call only,analyze) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items
	cargo deny check bans licenses sources
	@if timeout 60 cargo deny fetch db >/dev/null 2>&1; then cargo deny check --disable-fetch advisories; \
	else echo "lint: SKIPPED cargo deny check advisories: the advisory database cannot be fetched from here"; fi

# $(1) the only feature, $(2) crates that must not be in its tree, on any system
define border
@tree=$$(cargo tree -e normal,build --target all --prefix none $(call only,$(1)) | cut -d' ' -f1 | sort -u); \
if grep -E '^($(2))' <<<"$$tree"; then \
  echo "borders: the above came into the tree of $(1) alone; cargo tree -i CRATE $(call only,$(1)) tells how" >&2; exit 1; fi; \
echo "borders: $(1) alone: $$(wc -l <<<"$$tree") crates, none of them $(2)"
endef

borders: ## no polars in the recorder's dependencies, no libbpf in the analyzer's
	$(call border,capture,polars|rayon)
	$(call border,analyze,libbpf|bindgen|clang-sys)

schema: ## schema/trace.request from trace.capnp, so that the build needs no capnp: after each change of it
	contrib/setup.sh
	capnp compile -o- schema/trace.capnp >schema/trace.request.new
	mv schema/trace.request.new schema/trace.request
