//go:build tools

// Package tools pins the program that `kubectl top` asks, for a test of the page it reads.
package tools

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
