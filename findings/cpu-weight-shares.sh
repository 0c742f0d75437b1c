#!/usr/bin/env bash
# On cgroup v2 the parts of one node turn CPU shares into weights in two ways, and container_spec_cpu_shares is wrong.
#
# Versions:  github.com/opencontainers/cgroups v0.0.7 (as in runc since 1.3.2), k8s.io/kubernetes v1.37.2
#            (pkg/kubelet/cm), github.com/google/cadvisor/lib v0.60.5 (as in that kubelet).
# Expected:  a container that requests one CPU has 1024 shares, and so has its pod. Both have the same cpu.weight, and
#            the metric container_spec_cpu_shares, which is read back from it, is 1024 as it was on cgroup v1.
# Instead:   the container's weight is on a curve with 100 for 1024 shares, the pod's, which the kubelet writes, on a
#            straight line, and cAdvisor reads the weights of both back by that line.
# Seen:      one CPU is a weight of 100 for the container and of 39 for its pod, and the metric is 2597 for the
#            container. For 100m it is 17 and 4, and 421 shares instead of 102.
# Why care:  whoever divides the metric by 1024 sees requests up to four times too high, in no fixed proportion, since
#            runc was updated under it. A kubelet that takes the runtime's curve for its pods gives them other weights
#            than the pods of other nodes have against the system's services. The metric is told in
#            google/cadvisor#3737.
source "$(dirname "$0")/common.bash"

module k8s.io/kubernetes@v1.37.2 github.com/opencontainers/cgroups@v0.0.7 github.com/google/cadvisor/lib@v0.60.5
staging v0.37.2

cat >main.go <<'GO'
package main

import (
	"fmt"
	_ "unsafe"

	_ "github.com/google/cadvisor/lib/container/common"
	"github.com/opencontainers/cgroups"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// The weight of a pod's cgroup and what cAdvisor reads from a weight. Both are called by functions that need a machine
// with cgroup v2, so they are linked by their names.
//
//go:linkname weightOfPod k8s.io/kubernetes/pkg/kubelet/cm.getCPUWeight
func weightOfPod(shares *uint64) uint64

//go:linkname sharesOfWeight github.com/google/cadvisor/lib/container/common.convertCPUWeightToCPULimit
func sharesOfWeight(weight uint64) (uint64, error)

func main() {
	for _, milli := range []int64{100, 500, 1000, 4000} {
		shares := cm.MilliCPUToShares(milli)
		weight := cgroups.ConvertCPUSharesToCgroupV2Value(shares)
		shown, err := sharesOfWeight(weight)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%dm, %d shares: weight of the container %d, of the pod %d; cAdvisor reads %d shares\n",
			milli, shares, weight, weightOfPod(&shares), shown)
	}
}
GO

cat >stated <<'TEXT'
100m, 102 shares: weight of the container 17, of the pod 4; cAdvisor reads 421 shares
500m, 512 shares: weight of the container 59, of the pod 20; cAdvisor reads 1522 shares
1000m, 1024 shares: weight of the container 100, of the pod 39; cAdvisor reads 2597 shares
4000m, 4096 shares: weight of the container 303, of the pod 157; cAdvisor reads 7919 shares
TEXT

# The linker refuses names that are not exported unless told.
check -ldflags=-checklinkname=0
