# A sidecar in a large cluster. Included by the Makefile of the top.

.PHONY: scale

scale: ## A sidecar among 10,000 Services, 10,000 routes and 100,000 endpoints: target/scale/report.md (QUICK=1: a tenth)
	@$(NEEDS) lab
	@echo "building (some minutes the first time) …"
	@cargo build --profile demo -p weft-init -p weft-controller -p weft-scale --bins
	@$(MAKE) --no-print-directory build
	@tests/scale/run.sh $(WEFT_BIN_DIR) $(abspath $(TARGET))/release/weft-proxy \
	    $(abspath $(TARGET))/scale $(if $(QUICK),--quick)
