// Program state-judge says what upstream's kubelet makes of its state files.
//
//	state-judge pods PATH...    reads each file as a record of pods' resources, and writes it again
//	state-judge made-up SEED    such a record, in which everything is set
//
// Each answer to a file is a line of JSON: what was written, or an error.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/allocation/state"
)

type answer struct {
	Path    string `json:"path"`
	Written string `json:"written,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "state-judge:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	// What upstream has to say goes to standard error.
	klog.LogToStderr(true)
	if len(arguments) == 2 && arguments[0] == "made-up" {
		return writeMadeUp(arguments[1])
	}
	if len(arguments) < 1 || arguments[0] != "pods" {
		return errors.New("expected: made-up, a seed, or: pods, paths")
	}
	output := json.NewEncoder(os.Stdout)
	output.SetEscapeHTML(false)
	for _, path := range arguments[1:] {
		said := answer{Path: path}
		written, err := rewritten(path)
		if err != nil {
			said.Error = err.Error()
		}
		said.Written = written
		if err := output.Encode(said); err != nil {
			return err
		}
	}
	return nil
}

// rewritten reads a file as upstream's kubelet does at its start, and writes what it has read to another as it does
// while it runs.
func rewritten(path string) (string, error) {
	read, err := state.NewStateCheckpoint(klog.Background(), filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return "", err
	}
	return written(read.GetPodResourceInfoMap())
}

func written(pods state.PodResourceInfoMap) (string, error) {
	if len(pods) == 0 {
		// Before there is a pod, nothing is written; this is what it would be.
		checkpoint, err := state.NewCheckpoint(&state.PodResourceCheckpointInfo{Entries: pods})
		if err != nil {
			return "", err
		}
		content, err := checkpoint.MarshalCheckpoint()
		return string(content), err
	}
	const name = "state"
	folder, err := os.MkdirTemp("", "state-judge")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	writer, err := state.NewStateCheckpoint(klog.Background(), folder, name)
	if err != nil {
		return "", err
	}
	for uid, pod := range pods {
		if err := writer.SetPodResourceInfo(klog.Background(), uid, pod); err != nil {
			return "", err
		}
	}
	content, err := os.ReadFile(filepath.Join(folder, name))
	return string(content), err
}

// amounts are written in all the ways there are.
var amounts = []string{
	"0", "1", "250m", "0.5", "1.5", "100u", "7n", "64Mi", "1Gi", "1536Mi", "1000Mi", "1023Ki", "1024", "128974848", "129e6",
	"1e3", "1E3", "1.5Gi", "0.5Mi", "2k", "2000", "1M", "3G", "4T", "5P", "6E", "8Ei", "999999999999999999", "12345678901234567890",
	"1000m", "0.001", "1e-3", "100e6", "0Mi", "-5", "-1Gi", "+2", "1.25k", "1023", "1000Ki", "1.000", "9007199254740993",
	"1e18", "1e21", "500Ki", "0.1", "12e2", "1e1", "0.0001", "1.1Ki", "1.5Ki", "2048Ki",
}

func writeMadeUp(seed string) error {
	number, err := strconv.ParseInt(seed, 10, 64)
	if err != nil {
		return fmt.Errorf("read the seed: %w", err)
	}
	chance := rand.New(rand.NewSource(number))
	pods := state.PodResourceInfoMap{}
	next := 0
	amount := func() resource.Quantity {
		next++
		return resource.MustParse(amounts[next%len(amounts)])
	}
	list := func() v1.ResourceList {
		return v1.ResourceList{
			v1.ResourceCPU: amount(), v1.ResourceMemory: amount(), "example.com/<gpu>&co": amount(), "hugepages-2Mi": amount(),
		}
	}
	requirements := func() v1.ResourceRequirements {
		all := v1.ResourceRequirements{}
		if chance.Intn(4) > 0 {
			all.Limits = list()
		}
		if chance.Intn(4) > 0 {
			all.Requests = list()
		}
		if chance.Intn(2) > 0 {
			all.Claims = []v1.ResourceClaim{{Name: "one"}, {Name: "two", Request: "\"quoted\" \\ é \u2028"}}
		}
		return all
	}
	for pod := range 4 {
		info := state.PodResourceInfo{ContainerResources: map[string]v1.ResourceRequirements{}}
		for container := range chance.Intn(4) {
			info.ContainerResources[fmt.Sprintf("c%d", container)] = requirements()
		}
		if pod%2 == 0 {
			whole := requirements()
			info.PodLevelResources = &whole
			limit := amount()
			info.EmptyDirVolumeLimits = map[string]*resource.Quantity{"cache": &limit}
		}
		pods[types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", chance.Uint32(), pod))] = info
	}
	text, err := written(pods)
	if err != nil {
		return err
	}
	fmt.Println(text)
	return nil
}
