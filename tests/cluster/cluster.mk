# A real Kubernetes on this machine, and what is tested in it. Included by the Makefile of the top.
# With KUBECONFIG set, the cluster it names is used instead.

.PHONY: cluster-up cluster-down cluster-status cluster-images conformance e2e api-list

cluster-up: ## Brings up a one-node Kubernetes in a network namespace of its own
	@tests/cluster/up.sh

cluster-down: ## Takes it down; nothing of it stays
	@tests/cluster/down.sh

cluster-status: ## Its components, node and pods
	@tests/cluster/status.sh

cluster-images: cluster-up ## Builds Weft's images and gives them to the cluster
	@tests/cluster/images.sh weft
	@tests/cluster/images.sh import

conformance: ## The Gateway API's official suite, against Weft's chart in the cluster
	@tests/cluster/conformance/run.sh

e2e: ## Weft's own tests in the cluster, and a table of what they measured
	@tests/e2e/run.sh

api-list: ## Writes tests/api/VERSION.json, the Gateway API's fields, from the API's own CRDs
	@tests/api/list.sh
