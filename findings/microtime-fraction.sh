#!/usr/bin/env bash
# A MicroTime is read with exactly six digits after the point only, though its schema says date-time.
#
# Versions:  k8s.io/client-go v0.37.2, k8s.io/api v0.37.2, k8s.io/apimachinery v0.37.2.
# Expected:  renewTime of a Lease and eventTime of an Event are strings of format date-time (RFC 3339), where a fraction
#            may be left out and has any length, as in the times of metadata in the same object.
# Instead:   a time without a fraction, with three digits or with nine is an error, and the whole object is refused for
#            it.
# Seen:      of one time with 0, 3, 6 and 9 digits renewTime takes that with 6 only; creationTimestamp takes all of
#            them.
# Why care:  libraries of many languages write what a time has: nanoseconds, milliseconds, or no zeros at the end. The
#            last kind works until a clock happens to give a round time. A node agent that renews its lease so is told
#            NotReady for a format. Told in kubernetes/kubernetes#89156.
source "$(dirname "$0")/common.bash"

module k8s.io/client-go@v0.37.2 k8s.io/api@v0.37.2 k8s.io/apimachinery@v0.37.2

cat >main.go <<'GO'
package main

import (
	"fmt"

	coordination "k8s.io/api/coordination/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// Reads a Lease as clients and servers do.
func read(metadata, spec string) string {
	lease := fmt.Sprintf(`{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {%s}, "spec": {%s}}`,
		metadata, spec)
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(lease), nil, nil)
	if err != nil {
		return "refused"
	}
	if _, is := object.(*coordination.Lease); !is {
		panic("no Lease")
	}
	return "read"
}

func main() {
	for _, time := range []string{
		"2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.120Z",
		"2026-01-02T03:04:05.120000Z",
		"2026-01-02T03:04:05.120000000Z",
	} {
		created := read(fmt.Sprintf(`"name": "node", "creationTimestamp": %q`, time), "")
		renewed := read(`"name": "node"`, fmt.Sprintf(`"renewTime": %q`, time))
		fmt.Printf("%s: creationTimestamp %s, renewTime %s\n", time, created, renewed)
	}
}
GO

cat >stated <<'TEXT'
2026-01-02T03:04:05Z: creationTimestamp read, renewTime refused
2026-01-02T03:04:05.120Z: creationTimestamp read, renewTime refused
2026-01-02T03:04:05.120000Z: creationTimestamp read, renewTime read
2026-01-02T03:04:05.120000000Z: creationTimestamp read, renewTime refused
TEXT

check
