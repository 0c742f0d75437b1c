//go:build tools

// Package tools pins the store behind the API server of the test cluster.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
