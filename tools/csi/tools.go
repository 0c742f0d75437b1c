//go:build tools

// Package tools pins what stands around a CSI driver: the suite that says whether one is a driver, and who attaches its
// volumes.
package tools

import (
	_ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
	_ "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"
)
