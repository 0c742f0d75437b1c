#!/usr/bin/env bash
# The last lines of a log are counted in pieces of lines: `kubectl logs --tail=1` shows the end of a long line only.
#
# Versions:  k8s.io/cri-client v0.37.2 (pkg/logs, with which the kubelet v1.37.2 reads logs).
# Expected:  --tail=1 shows the last line that the container wrote. A runtime stores a long line (in containerd more
#            than 16 KiB) in pieces, each tagged P but the last one, which is tagged F. Whoever reads that format puts
#            them together again, and so does the kubelet when it reads a log from the start.
# Instead:   --tail counts the lines of the file, of which each piece is one. What is shown begins within a line.
# Seen:      of a line of three pieces --tail=1 shows the third and --tail=2 the last two; with --timestamps the piece
#            has a time in front, as if a line began there.
# Why care:  a long last line of JSON arrives as something that no parser takes, and --tail=10 may be less than one
#            line. A kubelet that counts whole lines gives another answer to the same request.
source "$(dirname "$0")/common.bash"

module k8s.io/cri-client@v0.37.2

cat >main.go <<'GO'
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"k8s.io/cri-client/pkg/logs"
)

// Two lines, the second in three pieces, as a runtime writes them (the pieces are shortened here).
const file = `2026-01-02T03:04:05.000000001Z stdout F first
2026-01-02T03:04:06.000000001Z stdout P [one,
2026-01-02T03:04:06.000000002Z stdout P two,
2026-01-02T03:04:06.000000003Z stdout F three]
`

func show(about string, options logs.LogOptions) {
	var out bytes.Buffer
	if err := logs.ReadLogs(context.Background(), "container.log", "", &options, nil, &out, &out); err != nil {
		panic(err)
	}
	fmt.Printf("%s: %q\n", about, out.String())
}

func main() {
	if err := os.WriteFile("container.log", []byte(file), 0o600); err != nil {
		panic(err)
	}
	show("all", logs.LogOptions{})
	for lines := range int64(4) {
		show(fmt.Sprintf("tail=%d", lines+1), logs.LogOptions{TailLines: new(lines + 1)})
	}
	show("tail=1 with timestamps", logs.LogOptions{TailLines: new(int64(1)), Timestamp: true})
}
GO

cat >stated <<'TEXT'
all: "first\n[one,two,three]\n"
tail=1: "three]\n"
tail=2: "two,three]\n"
tail=3: "[one,two,three]\n"
tail=4: "first\n[one,two,three]\n"
tail=1 with timestamps: "2026-01-02T03:04:06.000000003Z three]\n"
TEXT

check
