#!/usr/bin/env bash
# Short of inodes, the kubelet takes bytes from a number of inodes: a pod that requests disk space is the last to go.
#
# Versions:  k8s.io/kubernetes v1.37.2 (pkg/kubelet/eviction).
# Expected:  nobody can request inodes (the documentation says so), so of pods of one priority that one is evicted first
#            which holds most of them.
# Instead:   pods are ranked by their inodes minus their request for ephemeral-storage, which is in bytes. A usual
#            request is larger than any number of inodes and outweighs it.
# Seen:      of a pod with 900000 inodes and one with 10 that with 10 is evicted if the other requests 1Gi of
#            ephemeral-storage. If both request that, or neither, it is that with 900000.
# Why care:  the pod that fills a file system with small files stays until every pod without such a request is gone, one
#            after the other, which frees next to nothing. The request that reserves disk space protects the culprit.
source "$(dirname "$0")/common.bash"

module k8s.io/kubernetes@v1.37.2
staging v0.37.2

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	evictionapi "k8s.io/kubernetes/pkg/kubelet/eviction/api"
	"k8s.io/utils/clock"
)

// A node with too few inodes left, and nothing to clean up.
type node struct{ pods []stats.PodStats }

func (n node) Get(context.Context, bool) (*stats.Summary, error) {
	fs := &stats.FsStats{
		Time:          meta.Now(),
		CapacityBytes: new(uint64(100 << 30)), AvailableBytes: new(uint64(90 << 30)),
		Inodes: new(uint64(1_000_000)), InodesFree: new(uint64(1_000)),
	}
	runtime := &stats.RuntimeStats{ImageFs: fs, ContainerFs: fs}
	return &stats.Summary{Node: stats.NodeStats{Fs: fs, Runtime: runtime}, Pods: n.pods}, nil
}
func (n node) GetCPUAndMemoryStats(ctx context.Context) (*stats.Summary, error) {
	return n.Get(ctx, false)
}
func (node) HasDedicatedImageFs(context.Context) (bool, error)     { return false, nil }
func (node) HasDedicatedContainerFs(context.Context) (bool, error) { return false, nil }
func (node) DeleteUnusedImages(context.Context) error              { return nil }
func (node) DeleteAllUnusedContainers(context.Context) error       { return nil }

// A pod and what its container holds.
func pod(name string, inodes uint64, request string) (*v1.Pod, stats.PodStats) {
	resources := v1.ResourceRequirements{}
	if request != "" {
		resources.Requests = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(request)}
	}
	pod := &v1.Pod{ObjectMeta: meta.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}}
	pod.Spec.Containers = []v1.Container{{Name: "c", Resources: resources}}
	held := &stats.FsStats{UsedBytes: new(uint64(4096)), InodesUsed: &inodes}
	return pod, stats.PodStats{
		PodRef:     stats.PodReference{Name: name, Namespace: "default", UID: name},
		Containers: []stats.ContainerStats{{Name: "c", Rootfs: held}},
	}
}

// Tells which pod is evicted first.
func evict(about, manyRequest, fewRequest string) {
	many, manyStats := pod("many", 900_000, manyRequest)
	few, fewStats := pod("few", 10, fewRequest)
	node := node{pods: []stats.PodStats{manyStats, fewStats}}

	evicted := make(chan string)
	kill := func(pod *v1.Pod, _ bool, _ *int64, _ func(*v1.PodStatus)) error {
		evicted <- pod.Name
		return nil
	}
	threshold := evictionapi.Threshold{
		Signal:   evictionapi.SignalNodeFsInodesFree,
		Operator: evictionapi.OpLessThan,
		Value:    evictionapi.ThresholdValue{Percentage: 0.05},
	}
	config := eviction.Config{Thresholds: []evictionapi.Threshold{threshold}}
	manager, _ := eviction.NewManager(node, config, kill, node, node, &record.FakeRecorder{}, &v1.ObjectReference{},
		clock.RealClock{}, true)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	active := func() []*v1.Pod { return []*v1.Pod{many, few} }
	manager.Start(ctx, node, active, func(*v1.Pod) bool { return true }, time.Second)
	fmt.Printf("%s: %s\n", about, <-evicted)
}

func main() {
	evict("no requests", "", "")
	evict("both request 1Gi", "1Gi", "1Gi")
	evict("that with many requests 1Gi", "1Gi", "")
}
GO

cat >stated <<'TEXT'
no requests: many
both request 1Gi: many
that with many requests 1Gi: few
TEXT

check
