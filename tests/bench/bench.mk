# Weft beside its peers, and beside its own figures of before. Included by the Makefile of the top.

BENCH_OUT := $(abspath $(TARGET))/bench

.PHONY: bench bench-guard bench-micro

bench: ## Weft and its peers on the same work: target/bench/report.md (QUICK=1: three minutes, not 15)
	@$(NEEDS) bench
	@echo "building (some minutes the first time) …"
	@$(MAKE) --no-print-directory build
	@cargo build --release -p weft-bench --bins
	@$(abspath $(TARGET))/release/weft-bench --programs $(abspath $(TARGET))/release \
	    --envoy "$$(tests/bench/envoy.sh)" --out $(BENCH_OUT) \
	    $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

bench-guard: ## Instructions per request, beside what was recorded (RECORD=1 records them)
	@$(NEEDS) guard
	@cargo build --profile demo -p weft-bench --bin weft-bench-guard
	@$(WEFT_BIN_DIR)/weft-bench-guard --out $(BENCH_OUT) $(if $(RECORD),--record)

bench-micro: ## The parts of a request by themselves: select, pick, record, compile (target/bench/micro.md)
	@$(NEEDS) build
	@mkdir -p $(BENCH_OUT)
	@# A pipe's first failure counts.
	@bash -o pipefail -c 'cargo bench -p weft-gamma -p weft-proxy --benches | tee $(BENCH_OUT)/micro.txt'
	@tests/bench/micro.awk $(BENCH_OUT)/micro.txt | tee $(BENCH_OUT)/micro.md
