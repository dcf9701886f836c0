// Package conformance runs the Gateway API's own conformance suite. Flags say what is asked of it:
// run.sh passes them.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
