# Supply chain and privileges. Included by the Makefile of the top.

.PHONY: deny sbom chart

deny: ## Licences, bans, sources and advisories of all crates, by cargo-deny
	@$(NEEDS) build git
	@tests/security/deny.sh

sbom: ## A bill of materials for each program: target/sbom/*.cdx.json
	@$(NEEDS) build
	@tests/security/sbom.sh

chart: ## What the chart's containers and accounts may, against docs/privileges.md; no cluster
	@$(NEEDS) build pip
	@tests/cluster/build.sh helm
	cargo test --package weft-security --test chart
