#!/usr/bin/env bash
# With imageMaximumGCAge an image that no container has used yet is older than any age, even if it was just pulled.
#
# Versions:  k8s.io/kubernetes v1.37.2 (pkg/kubelet/images).
# Expected:  with a maximum age of 168h an image goes when it has been idle for a week. One pulled ahead, for a pod that
#            comes tomorrow, stays at least until then, and imageMinimumGCAge keeps what was pulled a moment ago.
# Instead:   the age is the time since a container used the image; for one never used that is since the year 1. As long
#            as the kubelet has not run for the maximum age, nothing is removed by age. After that each collection, one
#            in five minutes, removes all that was pulled and not used. The minimum age is not asked about.
# Seen:      in a kubelet that has run for 169h the collection that first sees a never-used image removes it, with 90 %
#            of the disk free and a minimum age of 2m; after 167h it stays. An image in use stays.
# Why care:  pulling ahead works in every test, and for a week after each restart of the kubelet. Then it comes undone
#            within minutes, on those nodes only that were not restarted.
source "$(dirname "$0")/common.bash"

module k8s.io/kubernetes@v1.37.2
staging v0.37.2

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/container"
	fake "k8s.io/kubernetes/pkg/kubelet/container/testing"
	"k8s.io/kubernetes/pkg/kubelet/images"
)

// A disk of which a tenth is used.
type disk struct{}

func (disk) ImageFsStats(context.Context) (*stats.FsStats, *stats.FsStats, error) {
	usage := &stats.FsStats{CapacityBytes: new(uint64(100 << 30)), AvailableBytes: new(uint64(90 << 30))}
	return usage, usage, nil
}

// Collects once in a kubelet of that uptime, on a node with two images of which one is in use, and tells what is left.
func collect(uptime time.Duration) {
	running := &container.Container{ID: container.ContainerID{Type: "test", ID: "c"}, ImageID: "in-use"}
	pod := &fake.FakePod{Pod: &container.Pod{ID: "pod", Containers: []*container.Container{running}}}
	runtime := &fake.FakeRuntime{
		ImageList:  []container.Image{{ID: "in-use", Size: 1 << 20}, {ID: "pulled-ahead", Size: 1 << 20}},
		AllPodList: []*fake.FakePod{pod},
	}
	policy := images.ImageGCPolicy{
		HighThresholdPercent: 85,
		LowThresholdPercent:  80,
		MinAge:               2 * time.Minute,
		MaxAge:               168 * time.Hour,
	}
	collector, err := images.NewImageGCManager(runtime, disk{}, nil, &record.FakeRecorder{}, &v1.ObjectReference{}, policy,
		noop.NewTracerProvider())
	if err != nil {
		panic(err)
	}
	if err := collector.GarbageCollect(context.Background(), time.Now().Add(-uptime)); err != nil {
		panic(err)
	}
	fmt.Printf("after %v:", uptime)
	for _, image := range runtime.ImageList {
		fmt.Printf(" %s", image.ID)
	}
	fmt.Println()
}

func main() {
	collect(167 * time.Hour)
	collect(169 * time.Hour)
}
GO

cat >stated <<'TEXT'
after 167h0m0s: in-use pulled-ahead
after 169h0m0s: in-use
TEXT

check
