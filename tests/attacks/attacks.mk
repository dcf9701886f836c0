# What the sidecar does under attack. Included by the Makefile of the top.

.PHONY: attacks

attacks: ## Floods, slow clients, want of descriptors: what they cost: target/attacks/report.md
	@$(NEEDS) lab
	@cargo build --profile demo -p weft-proxy -p weft-init -p weft-tests -p weft-attacks --bins
	@# Before all else that runs on the machine, where one may: what is felt is then the sidecar's doing.
	@$$(chrt --fifo 1 true 2>/dev/null && echo chrt --fifo 1) $(WEFT_BIN_DIR)/weft-attacks \
	    --out $(abspath $(TARGET))/attacks $(if $(ONLY),--only "$(ONLY)")
